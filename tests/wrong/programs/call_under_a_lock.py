"""No helper is called while a lock is held."""

import pybpfasm as bpf
from pybpfasm import HashMap, SkBuff, SpinLock, Struct, spin_lock, u32, u64
from pybpfasm import helpers as h


class Total(Struct):
    """A sum behind a lock."""

    lock: SpinLock
    n: u64


totals = HashMap[u32, Total](max_entries=8)


@bpf.tc
def program(ctx: SkBuff) -> int:
    """No helper is called while a lock is held."""
    total = totals.lookup(1)
    if total is None:
        return 0
    with spin_lock(total.lock):
        total.n += h.ktime_get_ns()  # error: 20: nothing is called while a lock is held: call it before or after
    return 0
