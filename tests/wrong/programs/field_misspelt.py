"""A field that a context does not have."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, htons, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A field that a context does not have."""
    if ctx.user_prt == htons(443):  # error (typed): 12: SockAddr has no field `user_prt`: did you mean `user_port`?
        return 0
    return 1
