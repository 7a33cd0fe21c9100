"""Every way through a program returns a number."""

import pybpfasm as bpf
from pybpfasm import SockAddr


@bpf.connect4
def program(ctx: SockAddr) -> int:  # error (typed): 1: `program` can end without a `return`: give every way one
    """Return a number on one way only."""
    if ctx.protocol == 6:
        return 0
