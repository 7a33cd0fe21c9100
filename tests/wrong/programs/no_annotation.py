"""An inline function declares its parameters."""

import pybpfasm as bpf
from pybpfasm import SockAddr


@bpf.inline
def is_tcp(protocol) -> bool:  # error (typed): 12: parameter `protocol` of is_tcp has no annotation: declare its type
    """Whether it is TCP."""
    return protocol == 6


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Ask it."""
    return 1 if is_tcp(ctx.protocol) else 0
