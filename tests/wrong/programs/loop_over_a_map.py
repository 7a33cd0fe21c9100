"""A map is gone through by for_each."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A map is gone through by for_each."""
    for key in stats:  # error (typed): 16: a loop counts or repeats constants: write `for name in range(…)`, or `unroll(…)` with constants
        return 0
    return 1
