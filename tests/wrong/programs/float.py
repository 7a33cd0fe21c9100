"""There are no floats."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There are no floats."""
    limit = 1.5  # error: 13: there are only integers in a BPF program: scale the number to a whole one
    return 1
