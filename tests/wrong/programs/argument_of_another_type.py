"""An argument fits the parameter."""

import pybpfasm as bpf
from pybpfasm import SockAddr, be16


@bpf.inline
def is_web(port: be16) -> bool:
    """Whether it is a port of the web."""
    return port == port


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Hand over an address for a port."""
    return 1 if is_web(ctx.user_ip4) else 0  # error (typed): 24: this is be32 where be16 is wanted
