"""A constant fits the field."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A constant fits the field."""
    stat = stats.lookup(1)
    if stat is None:
        return 1
    stat.packets = 1 << 64  # error: 20: a shift by 64: 0 to 63 are possible
    return 1
