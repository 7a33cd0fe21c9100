"""A number has 64 bits to shift."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A number has 64 bits to shift."""
    return 1 if ctx.protocol << 64 == 0 else 0  # error: 17: a shift by 64: 0 to 63 are possible
