"""A struct's fields are named."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A struct's fields are named."""
    stats.update(1, Stat(1, 2))  # error (typed): 26: name the fields: Stat(field=…)
    return 1
