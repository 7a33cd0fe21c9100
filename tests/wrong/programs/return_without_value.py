"""A program returns a number."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A program returns a number."""
    if ctx.protocol == 6:
        return  # error (typed): 9: `return` without a value: a program gives a number, 0 to 1
    return 1
