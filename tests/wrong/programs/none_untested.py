"""A look-up may find nothing."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A look-up may find nothing."""
    stat = stats.lookup(1)
    stat.packets += 1  # error (typed): 5: this may be None: test it first, `if stat is None`
    return 1
