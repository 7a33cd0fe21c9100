"""A field of a context that cannot be written."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A field of a context that cannot be written."""
    ctx.protocol = 6  # error: 5: SockAddr.protocol cannot be assigned; these can be: user_ip4, user_port
    return 1
