"""A range that counts down is written with a constant step."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A range that counts down is written with a constant step."""
    total = 0
    for n in range(0, 8, ctx.protocol):  # error: 26: this has to be known when the program is compiled: use a constant
        total += n
    return 1 if total else 0
