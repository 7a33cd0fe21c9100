"""A field in network order does not take a number."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A field in network order does not take a number."""
    ctx.user_port = 15001  # error (typed): 21: SockAddr.user_port is be16, this is int: convert it with htons()
    return 1
