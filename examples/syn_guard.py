"""Drop TCP connection requests (SYN) of those who send too many a second; what is connected goes on.

    python examples/syn_guard.py eth0 --per-second 20

Addresses that were not heard of for long make room for others. Needs root and Linux 5.9.
"""

import argparse
import time
from ipaddress import IPv4Address
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, LruHash, Struct, XdpMd, be16, be32, htons, u8, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.scripts import run_script
from pybpfasm.uapi import XdpAction

PER_SECOND = 20  # another number is put in its place below, when the program is compiled

ETHERTYPE_IPV4 = 0x0800
ETHERNET_BYTES = 14
PROTOCOL_TCP = 6
SYN, ACK = 0x02, 0x10
SECOND_NS = 1_000_000_000


class Headers(Struct, packed=True):
    """Ethernet and IPv4."""

    addresses: Annotated[bytes, Length(12)]
    type: be16
    version_and_words: u8
    before: Annotated[bytes, Length(8)]
    protocol: u8
    checksum: be16
    source: be32
    destination: be32


class Tcp(Struct):
    """A TCP header, up to its flags."""

    before: Annotated[bytes, Length(13)]
    flags: u8


class Source(Struct):
    """What an address has sent in the second that began at `since_ns`, and what was dropped of it, ever."""

    since_ns: u64
    requests: u64
    dropped: u64


sources = LruHash[be32, Source](max_entries=65536)


@bpf.inline
def admit(address: be32) -> int:
    """Count a request, and decide about it."""
    now = h.ktime_get_ns()
    source = sources.lookup(address)
    if source is None:
        sources.update(address, Source(since_ns=now, requests=1, dropped=0))
        return XdpAction.PASS
    if now - source.since_ns >= SECOND_NS:
        source.since_ns = now
        source.requests = 0
    source.requests += 1
    if source.requests <= PER_SECOND:
        return XdpAction.PASS
    source.dropped += 1
    return XdpAction.DROP


@bpf.xdp
def guard(ctx: XdpMd) -> int:
    """Look at requests only: SYN without ACK."""
    headers = ctx.packet(Headers)
    if headers is None or headers.type != htons(ETHERTYPE_IPV4) or headers.protocol != PROTOCOL_TCP:
        return XdpAction.PASS
    tcp = ctx.packet(Tcp, ETHERNET_BYTES + (headers.version_and_words & 15) * 4)
    if tcp is None or tcp.flags & (SYN | ACK) != SYN:
        return XdpAction.PASS
    return admit(headers.source)


def main() -> None:
    """Attach, and tell each second who was refused."""
    parser = argparse.ArgumentParser(description="Drop TCP connection requests of those who send too many.")
    parser.add_argument("interface")
    parser.add_argument("--per-second", type=int, default=PER_SECOND, metavar="N", help="how many are let in")
    arguments = parser.parse_args()
    if arguments.per_second < 1:
        parser.error("--per-second is 1 at least")
    with Collection.load(compile_collection([guard], {"PER_SECOND": arguments.per_second})) as loaded:
        view = TypedMap.of(loaded.maps["sources"], IPv4Address, Source)
        loaded.attach_all(interface=arguments.interface)
        print(f"{arguments.per_second} requests a second from an address at {arguments.interface}; Ctrl-C ends it")
        told: dict[IPv4Address, int] = {}
        while True:
            time.sleep(1)
            for address, source in view.items():
                if source.dropped > told.get(address, 0):
                    told[address] = source.dropped
                    print(f"{address}  {source.dropped} requests dropped")


if __name__ == "__main__":
    run_script(main)
