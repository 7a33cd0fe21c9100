"""A key is what the map's keys are."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A key is what the map's keys are."""
    stat = stats.lookup(ctx.user_ip4)  # error (typed): 25: the map's key is u32, this is be32: convert it with ntohl()
    return 0 if stat is None else 1
