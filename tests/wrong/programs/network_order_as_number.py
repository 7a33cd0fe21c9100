"""A port in network order is no number."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A port in network order is no number."""
    if ctx.user_port == 443:  # error (typed): 8: be16 is compared with int: convert it with htons()
        return 0
    return 1
