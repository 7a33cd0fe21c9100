"""There are no lists but as an array's first values."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There are no lists but as an array's first values."""
    ports = [80, 443]  # error: 13: an array cannot be given to the name `ports`: a name holds a number, a pointer or a struct
    return 1
