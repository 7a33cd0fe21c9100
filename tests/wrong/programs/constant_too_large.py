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
    stat.packets = 1 << 64  # error: 20: 18446744073709551616 does not fit Stat.packets, which is u64
    return 1
