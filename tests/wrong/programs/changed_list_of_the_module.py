"""What may change is no constant."""

import pybpfasm as bpf
from pybpfasm import SockAddr


allowed = {"ports": [80, 443]}


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Look into a dict of the module."""
    return 1 if allowed["ports"] else 0  # error: 17: dict cannot be indexed: arrays, texts and constant tuples can, a map has methods
