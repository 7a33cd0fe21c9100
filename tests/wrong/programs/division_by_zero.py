"""A constant divisor is not 0."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A constant divisor is not 0."""
    return 1 if ctx.protocol // 0 == 1 else 0  # error: 17: division by 0: the divisor has to be positive
