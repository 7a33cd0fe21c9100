"""Only what may be None is compared with it."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Only what may be None is compared with it."""
    if ctx.protocol is None:  # error: 8: this is int, which is never None
        return 0
    return 1
