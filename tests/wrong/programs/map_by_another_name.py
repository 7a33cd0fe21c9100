"""A map has one name."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A map has one name."""
    same = stats  # error: 12: HashMap cannot be given to the name `same`: a name holds a number, a pointer or a struct
    return 0 if same.lookup(1) is None else 1
