"""The context is that of the hook."""

import pybpfasm as bpf
from pybpfasm import SockAddr


@bpf.xdp
def program(ctx: SockAddr) -> int:  # error: 1: this program is declared `def program(ctx: XdpMd) -> int`
    """See packets."""
    return 2
