"""A name is no text."""

import pybpfasm as bpf
from pybpfasm import SockAddr


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Keep a text."""
    x: str = "a"  # error: 8: str is no type of a BPF program
    return 1
