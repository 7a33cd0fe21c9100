"""Text is no number."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Text is no number."""
    if ctx.protocol == "tcp":  # error (typed): 8: a number is wanted, this is str
        return 0
    return 1
