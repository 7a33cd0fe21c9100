"""Only locks and the like are entered."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Only locks and the like are entered."""
    with open("/etc/hosts") as hosts:  # error: 10: `with` is for spin_lock(…), rcu_read_lock() and preempt_disabled()
        return 0
