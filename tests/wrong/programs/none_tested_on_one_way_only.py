"""A test on one way says nothing about the other."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A test on one way says nothing about the other."""
    stat = stats.lookup(1)
    if stat is None:
        stat = stats.lookup(2)
    stat.packets += 1  # error (typed): 5: this may be None: test it first, `if stat is None`
    return 1
