"""A struct has the fields that it declares."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A struct has the fields that it declares."""
    stats.update(1, Stat(packets=1, octets=2, errors=3))  # error (typed): 47: Stat has no field `errors`; it has packets, octets
    return 1
