"""Drop what comes in from some IPv4 networks, before the kernel's network stack has seen it.

    python examples/xdp_firewall.py eth0 --block 192.0.2.0/24 --block 198.51.100.7

The networks are in a prefix trie: of those that hold an address the longest counts. Needs root and Linux 5.9.
"""

import argparse
import time
from ipaddress import IPv4Network
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, LpmTrie, Struct, XdpMd, atomic_add, be16, be32, htons, u32, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.scripts import run_script
from pybpfasm.uapi import XdpAction

ETHERTYPE_IPV4 = 0x0800
ETHERNET_BYTES = 14


class Ethernet(Struct, packed=True):
    """Whom a frame is for, and what is in it."""

    addresses: Annotated[bytes, Length(12)]
    type: be16


class Ipv4(Struct):
    """An IPv4 header, of which the firewall looks at the source."""

    before: Annotated[bytes, Length(12)]
    source: be32
    destination: be32


class Prefix(Struct):
    """A network; of an address that is looked up, all 32 bits count."""

    prefixlen: u32
    address: be32


class Dropped(Struct):
    """How many packets of a network were dropped."""

    packets: u64


blocked = LpmTrie[Prefix, Dropped](max_entries=4096)


@bpf.xdp
def firewall(ctx: XdpMd) -> int:
    """Drop IPv4 packets from blocked networks, pass all others."""
    ethernet = ctx.packet(Ethernet)
    if ethernet is None or ethernet.type != htons(ETHERTYPE_IPV4):
        return XdpAction.PASS
    ip = ctx.packet(Ipv4, ETHERNET_BYTES)
    if ip is None:
        return XdpAction.PASS
    dropped = blocked.lookup(Prefix(prefixlen=32, address=ip.source))
    if dropped is None:
        return XdpAction.PASS
    atomic_add(dropped.packets, 1)
    return XdpAction.DROP


def main() -> None:
    """Load, fill the trie, attach, and tell each second what was dropped."""
    parser = argparse.ArgumentParser(description="Drop IPv4 packets from some networks.")
    parser.add_argument("interface")
    parser.add_argument("--block", type=IPv4Network, action="append", required=True, metavar="NETWORK")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([firewall])) as loaded:
        networks = TypedMap.of(loaded.maps["blocked"], IPv4Network, Dropped)
        for network in arguments.block:
            networks[network] = Dropped(packets=0)
        loaded.attach_all(interface=arguments.interface)
        print(f"blocking {len(arguments.block)} networks at {arguments.interface}; Ctrl-C ends it")
        told: dict[IPv4Network, int] = {}
        while True:
            time.sleep(1)
            for network, dropped in networks.items():
                if dropped.packets > told.get(network, 0):
                    told[network] = dropped.packets
                    print(f"{network}  {dropped.packets} packets dropped")


if __name__ == "__main__":
    run_script(main)
