"""A constant key fits the map's."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A constant key fits the map's."""
    return 0 if stats.lookup(1 << 32) is None else 1  # error: 30: 4294967296 does not fit the map's key, which is u32
