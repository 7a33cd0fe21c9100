"""There are no comprehensions."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There are no comprehensions."""
    wide = [each for each in range(4)]  # error: 12: `[each for each in range(4)]` is not supported in a BPF program: write a loop over unroll(…)
    return 1
