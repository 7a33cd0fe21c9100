"""A function that programs call is marked."""

import pybpfasm as bpf
from pybpfasm import SockAddr


def is_tcp(protocol: int) -> bool:
    """Whether it is TCP."""
    return protocol == 6


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Call what is not marked."""
    return 1 if is_tcp(ctx.protocol) else 0  # error: 17: is_tcp cannot be called in a BPF program: mark a function of yours with @inline
