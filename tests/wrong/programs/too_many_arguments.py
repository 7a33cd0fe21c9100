"""A subprogram has five parameters at most."""

import pybpfasm as bpf
from pybpfasm import SockAddr, u32


@bpf.subprogram
def add(a: u32, b: u32, c: u32, d: u32, e: u32, f: u32) -> u32:  # error: 1: a subprogram has at most 5 parameters: hand over a struct
    """Add six numbers."""
    return a + b + c + d + e + f


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Call it."""
    return 1 if add(1, 2, 3, 4, 5, ctx.protocol) else 0
