"""What is held for the time of a block: `with spin_lock(entry.lock):`. It is given back on every way out."""

from contextlib import AbstractContextManager

from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Struct, u32


class SpinLock(Struct, name="bpf_spin_lock"):
    """A field of a map's value, `lock: SpinLock = SpinLock()`: the lock of its entry, one in a value."""

    val: u32 = 0


def spin_lock(lock: SpinLock) -> AbstractContextManager[None]:
    """Hold a lock. No function is called meanwhile."""
    del lock
    only_in_program("spin_lock")


def rcu_read_lock() -> AbstractContextManager[None]:
    """Keep what is guarded by RCU, for programs that may sleep (Linux 6.2)."""
    only_in_program("rcu_read_lock")


def preempt_disabled() -> AbstractContextManager[None]:
    """Keep the program on this CPU, with nothing between (Linux 6.10)."""
    only_in_program("preempt_disabled")
