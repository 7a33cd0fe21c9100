"""Count what comes in at an interface, by protocol: packets and bytes, each CPU for itself.

    python examples/count_packets.py eth0

No CPU waits for another: each has an entry of its own, and the sum is made when it is read. Needs root and Linux 5.9.
"""

import argparse
from contextlib import suppress
from signal import pause
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, PerCpuArray, Struct, XdpMd, be16, htons, ntohs, u8, u32, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection
from pybpfasm.kernel.maps import PerCpuMap
from pybpfasm.scripts import run_script
from pybpfasm.uapi import XdpAction

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
ETHERNET_BYTES = 14
IPV6_HEADER_BYTES = 40
NAMES = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 132: "SCTP"}


class Ethernet(Struct, packed=True):
    """Whom a frame is for, and what is in it."""

    addresses: Annotated[bytes, Length(12)]
    type: be16


class Ipv4(Struct, packed=True):
    """The first half of an IPv4 header."""

    version: u8
    tos: u8
    total_length: be16
    between: Annotated[bytes, Length(5)]
    protocol: u8


class Ipv6(Struct, packed=True):
    """The beginning of an IPv6 header."""

    version: u32
    payload_length: be16
    next_header: u8


class Count(Struct):
    """What has come in."""

    packets: u64
    octets: u64


counts = PerCpuArray[u32, Count](max_entries=256)


@bpf.inline
def add(protocol: int, octets: int) -> int:
    """Count a packet; it goes on in any case."""
    count = counts.lookup(protocol)
    if count is not None:
        count.packets += 1
        count.octets += octets
    return XdpAction.PASS


@bpf.xdp
def count_packets(ctx: XdpMd) -> int:
    """Find the protocol of a packet of IPv4 or IPv6."""
    ethernet = ctx.packet(Ethernet)
    if ethernet is None:
        return XdpAction.PASS
    if ethernet.type == htons(ETHERTYPE_IPV4):
        ip = ctx.packet(Ipv4, ETHERNET_BYTES)
        return XdpAction.PASS if ip is None else add(ip.protocol, ntohs(ip.total_length))
    if ethernet.type == htons(ETHERTYPE_IPV6):
        ip6 = ctx.packet(Ipv6, ETHERNET_BYTES)
        return XdpAction.PASS if ip6 is None else add(ip6.next_header, ntohs(ip6.payload_length) + IPV6_HEADER_BYTES)
    return XdpAction.PASS


def main() -> None:
    """Attach, wait, print the table."""
    parser = argparse.ArgumentParser(description="Count packets and bytes that come in, by protocol.")
    parser.add_argument("interface")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([count_packets])) as loaded:
        loaded.attach_all(interface=arguments.interface)
        with suppress(KeyboardInterrupt):
            print(f"counting at {arguments.interface}; Ctrl-C ends it")
            pause()
        print(f"{'protocol':<10}{'packets':>10}{'bytes':>14}")
        for protocol, by_cpu in PerCpuMap(counts, loaded.maps["counts"]).items():
            packets, octets = sum(each.packets for each in by_cpu), sum(each.octets for each in by_cpu)
            if packets:
                print(f"{NAMES.get(protocol, str(protocol)):<10}{packets:>10}{octets:>14}")


if __name__ == "__main__":
    run_script(main)
