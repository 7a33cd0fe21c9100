"""A name is a number on all ways, or none."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A name is a number on all ways, or none."""
    if ctx.protocol == 6:
        found = stats.lookup(1)
    else:
        found = 5
    return 1 if found == 5 else 0  # error: 17: `found` has different meanings on different paths: give it one before the paths meet
