"""Tell of each UDP or TCP flow when it has ended: when nothing of it has come in for some time.

    python examples/flow_table.py eth0 --idle 5

Each entry of the table has a timer, which the kernel runs: no one has to walk through the table to find what is old.
Needs root and Linux 5.15.
"""

import argparse
from ipaddress import IPv4Address
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import HashMap, Length, RingBuf, Struct, Timer, XdpMd, be16, be32, htons, ntohl, ntohs, u8, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, RingBuffer, running_target
from pybpfasm.scripts import run_script
from pybpfasm.uapi import XdpAction

IDLE_NS = 5_000_000_000  # another number is put in its place below, when the program is compiled

MOST_SECONDS = 86400

ETHERTYPE_IPV4 = 0x0800
ETHERNET_BYTES = 14
TCP, UDP = 6, 17


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


class Ports(Struct):
    """How TCP and UDP headers begin."""

    source: be16
    destination: be16


class Flow(Struct):
    """Who sends to whom."""

    source: be32
    destination: be32
    source_port: be16
    destination_port: be16
    protocol: u8


class Seen(Struct):
    """What has come in of a flow."""

    packets: u64
    timer: Timer = Timer()


class Ended(Struct):
    """What user space is told at its end."""

    flow: Flow
    packets: u64


flows = HashMap[Flow, Seen](max_entries=16384)
ended = RingBuf(max_entries=1 << 16)


@bpf.callback
def expire(flow: Flow, seen: Seen) -> int:
    """Nothing has come for IDLE_NS: tell, and forget."""
    ended.output(Ended(flow=flow, packets=seen.packets))
    flows.delete(flow)
    return 0


@bpf.xdp
def watch(ctx: XdpMd) -> int:
    """Add a packet to its flow, and start the flow's timer anew."""
    headers = ctx.packet(Headers)
    if headers is None or headers.type != htons(ETHERTYPE_IPV4) or headers.protocol not in (TCP, UDP):
        return XdpAction.PASS
    ports = ctx.packet(Ports, ETHERNET_BYTES + (headers.version_and_words & 15) * 4)
    if ports is None:
        return XdpAction.PASS
    flow = Flow(
        source=headers.source,
        destination=headers.destination,
        source_port=ports.source,
        destination_port=ports.destination,
        protocol=headers.protocol,
    )
    seen = flows.lookup(flow)
    if seen is None:
        flows.update(flow, Seen(packets=0), bpf.BPF_NOEXIST)  # another CPU may be quicker
        seen = flows.lookup(flow)
        if seen is None:
            return XdpAction.PASS
        bpf.timer_init(seen.timer, flows, bpf.CLOCK_MONOTONIC)
        bpf.timer_set_callback(seen.timer, flows, expire)
    bpf.atomic_add(seen.packets, 1)
    bpf.timer_start(seen.timer, IDLE_NS)
    return XdpAction.PASS


def text_of(flow: Flow) -> str:
    """A flow as a line."""
    source = f"{IPv4Address(ntohl(flow.source))}:{ntohs(flow.source_port)}"
    destination = f"{IPv4Address(ntohl(flow.destination))}:{ntohs(flow.destination_port)}"
    return f"{'TCP' if flow.protocol == TCP else 'UDP'} {source} > {destination}"


def main() -> None:
    """Attach, and print what has ended."""
    parser = argparse.ArgumentParser(description="Tell of each flow when it has ended.")
    parser.add_argument("interface")
    parser.add_argument("--idle", type=float, default=5, metavar="SECONDS", help="without a packet: an end")
    arguments = parser.parse_args()
    if not 0 < arguments.idle <= MOST_SECONDS:
        parser.error(f"--idle is more than 0, and {MOST_SECONDS} at most")
    constants = {"IDLE_NS": int(arguments.idle * 1e9)}
    with Collection.load(compile_collection([watch], constants, target=running_target())) as loaded:
        loaded.attach_all(interface=arguments.interface)
        print(f"watching {arguments.interface}; Ctrl-C ends it")
        with RingBuffer(loaded.maps["ended"], Ended) as events:
            for event in events:
                print(f"{text_of(event.flow)}  {event.packets} packets")


if __name__ == "__main__":
    run_script(main)
