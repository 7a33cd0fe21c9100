"""All arguments are given."""

import pybpfasm as bpf
from pybpfasm import SockAddr, u32


@bpf.inline
def both(a: u32, b: u32) -> bool:
    """Whether both are set."""
    return a != 0 and b != 0


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Forget one."""
    return 1 if both(ctx.protocol) else 0  # error (typed): 17: both(): missing a required argument: 'b'
