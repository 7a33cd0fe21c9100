"""How far into a packet is bounded."""

import pybpfasm as bpf
from pybpfasm import Struct, XdpMd, be16


class Udp(Struct):
    """A UDP header."""

    source: be16
    destination: be16


@bpf.xdp
def program(ctx: XdpMd) -> int:
    """How far into a packet is bounded."""
    udp = ctx.packet(Udp, ctx.ingress_ifindex)  # error: 27: this offset can be 4294967295, 65531 at most is possible: bound it by `min(…, 65531)`, `& 0xFFF`, or test it with `if`
    return 1 if udp is None else 2
