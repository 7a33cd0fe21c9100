"""What a hook may return is fixed."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """What a hook may return is fixed."""
    if ctx.protocol == 6:
        return 7  # error: 16: 7 is no result of this program: 0 to 1 are
    return 1
