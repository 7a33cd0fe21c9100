"""A name has a value on every way before it is read."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A name has a value on every way before it is read."""
    if ctx.protocol == 6:
        wanted = 1
    return wanted  # error: 12: `wanted` has a value on some paths only: give it one before the paths meet
