"""A lock's bytes are the kernel's."""

import pybpfasm as bpf
from pybpfasm import HashMap, SkBuff, SpinLock, Struct, u32, u64


class Total(Struct):
    """A sum behind a lock."""

    lock: SpinLock
    n: u64


totals = HashMap[u32, Total](max_entries=8)


@bpf.tc
def program(ctx: SkBuff) -> int:
    """A lock's bytes are the kernel's."""
    total = totals.lookup(1)
    other = totals.lookup(2)
    if total is None or other is None:
        return 0
    other.lock = total.lock  # error: 5: a lock's own bytes are the kernel's: use it with spin_lock(…); and so are a timer's
    return 0
