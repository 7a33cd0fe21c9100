"""A name is known."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A name is known."""
    return 1 if ctx.protocol == IPPROTO_TCP else 0  # error (typed): 33: `IPPROTO_TCP` is not defined
