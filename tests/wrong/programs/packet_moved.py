"""What moves a packet ends the pointers into it."""

import pybpfasm as bpf
from pybpfasm import SkBuff, Struct, be16, htons
from pybpfasm import helpers as h


class Udp(Struct):
    """A UDP header."""

    source: be16
    destination: be16


@bpf.tc
def program(ctx: SkBuff) -> int:
    """What moves a packet ends the pointers into it."""
    udp = ctx.packet(Udp, 34)
    if udp is None:
        return 0
    h.skb_pull_data(ctx, 0)
    if udp.destination == htons(53):  # error: 8: the packet's data may have been moved by the helper in line 21: ask for it again, packet(…)
        return 2
    return 0
