"""No function calls itself."""

import pybpfasm as bpf
from pybpfasm import SockAddr, u32


@bpf.inline
def down(n: u32) -> u32:
    """Count down."""
    return down(n - 1)  # error: 12: down calls itself, which no function can here: write a loop


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Begin."""
    return 1 if down(ctx.protocol) == 0 else 0
