"""A struct is built with all its fields."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A struct is built with all its fields."""
    stats.update(1, Stat(packets=1))  # error (typed): 21: Stat lacks octets: give it, or a default
    return 1
