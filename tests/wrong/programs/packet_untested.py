"""A packet may be shorter."""

import pybpfasm as bpf
from pybpfasm import Struct, XdpMd, be16, htons


class Udp(Struct):
    """A UDP header."""

    source: be16
    destination: be16


@bpf.xdp
def program(ctx: XdpMd) -> int:
    """A packet may be shorter."""
    udp = ctx.packet(Udp, 34)
    if udp.destination == htons(53):  # error (typed): 8: this may be None: test it first, `if udp is None`
        return 1
    return 2
