"""A number is divided by //."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A number is divided by //."""
    half = ctx.protocol / 2  # error: 12: `/` is not supported in a BPF program: use //
    return 1 if half == 3 else 0
