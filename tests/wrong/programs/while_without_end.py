"""A loop ends."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A loop ends."""
    n = 0
    while True:  # error: 5: this loop never ends: leave it by `break` or `return`
        n += 1
