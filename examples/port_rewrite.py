"""Have a server be reached at a second TCP port: rewrite the port of what comes in, and of what goes out in answer.

    python examples/port_rewrite.py eth0 80 8080     # who connects to port 80 reaches what listens at 8080

Two programs, one a direction, and checksums that are mended rather than computed again. Needs root.
"""

import argparse
from signal import pause
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, SkBuff, Struct, be16, htons, u8
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection
from pybpfasm.kernel.links import Direction, attach_traffic
from pybpfasm.scripts import run_script
from pybpfasm.uapi import TcxAction

OUTSIDE, INSIDE = 80, 8080  # other numbers are put in their place below, when the programs are compiled

ETHERTYPE_IPV4 = 0x0800
ETHERNET_BYTES = 14
PROTOCOL_TCP = 6
SOURCE_PORT_AT, DESTINATION_PORT_AT, CHECKSUM_AT = 0, 2, 16


class Headers(Struct, packed=True):
    """Ethernet and the beginning of IPv4."""

    addresses: Annotated[bytes, Length(12)]
    type: be16
    version_and_words: u8
    before: Annotated[bytes, Length(8)]
    protocol: u8


class Port(Struct):
    """One of a TCP header's two."""

    number: be16


@bpf.inline
def replace_port(ctx: SkBuff, port_at: int, old: be16, new: be16) -> int:
    """If it is a TCP packet with the old port at this place of its TCP header, write the new one."""
    headers = ctx.load(Headers, 0)
    if headers is None or headers.type != htons(ETHERTYPE_IPV4) or headers.protocol != PROTOCOL_TCP:
        return TcxAction.NEXT
    tcp_at = ETHERNET_BYTES + (headers.version_and_words & 15) * 4
    port = ctx.load(Port, tcp_at + port_at)
    if port is None or port.number != old:
        return TcxAction.NEXT
    ctx.l4_csum_replace(tcp_at + CHECKSUM_AT, old, new)
    ctx.store(tcp_at + port_at, new)
    return TcxAction.NEXT


@bpf.tc
def inbound(ctx: SkBuff) -> int:
    """What comes in for the outside port is for the inside one."""
    return replace_port(ctx, DESTINATION_PORT_AT, htons(OUTSIDE), htons(INSIDE))


@bpf.tc
def outbound(ctx: SkBuff) -> int:
    """What goes out from the inside port comes from the outside one."""
    return replace_port(ctx, SOURCE_PORT_AT, htons(INSIDE), htons(OUTSIDE))


def port_number(text: str) -> int:
    """The number of a port; argparse tells what is wrong with others."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: they are 1 to 65535")
    return int(text)


def main() -> None:
    """Attach one program to each direction, and wait."""
    parser = argparse.ArgumentParser(description="Have a server be reached at a second TCP port.")
    parser.add_argument("interface")
    parser.add_argument("outside", type=port_number, help="the port that is connected to")
    parser.add_argument("inside", type=port_number, help="the port at which the server listens")
    arguments = parser.parse_args()
    ports = {"OUTSIDE": arguments.outside, "INSIDE": arguments.inside}
    with Collection.load(compile_collection([inbound, outbound], ports)) as loaded:
        for name, direction in (("inbound", Direction.INGRESS), ("outbound", Direction.EGRESS)):
            loaded.attach(name, attach_traffic(loaded.programs[name], arguments.interface, direction))
        print(f"port {arguments.outside} of {arguments.interface} is {arguments.inside}; Ctrl-C ends it")
        pause()


if __name__ == "__main__":
    run_script(main)
