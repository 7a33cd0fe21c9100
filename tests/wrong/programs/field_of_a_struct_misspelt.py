"""A field that a struct does not have."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A field that a struct does not have."""
    stat = stats.lookup(1)
    if stat is None:
        return 1
    stat.packet += 1  # error (typed): 10: Stat has no field `packet`: did you mean `packets`?
    return 1
