"""Print each connect of the processes in a cgroup as it is made: who, and where to.

    python examples/connect_log.py /sys/fs/cgroup/my.slice

IPv4 and IPv6, TCP and UDP: two programs that write to one ring buffer. Needs root and Linux 5.10.
"""

import argparse
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, RingBuf, SockAddr, Struct, be16, be32, get_current_comm, ntohl, ntohs, u32
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, RingBuffer
from pybpfasm.scripts import run_script

NAMES = {6: "TCP", 17: "UDP"}


class Connect(Struct):
    """A connect. `words` holds an IPv4 address in the first word, an IPv6 address in all four."""

    version: u32
    protocol: u32
    pid: u32
    uid: u32
    comm: Annotated[bytes, Length(16)]
    words: Annotated[list[be32], Length(4)]
    port: be16


connects = RingBuf(max_entries=1 << 18)


@bpf.inline
def describe(ctx: SockAddr, event: Connect, version: int) -> None:
    """Fill in what is the same for both families."""
    event.version = version
    event.protocol = ctx.protocol
    event.pid = h.get_current_pid_tgid() >> 32
    event.uid = h.get_current_uid_gid() & 0xFFFFFFFF
    event.port = ctx.user_port
    get_current_comm(event.comm)


@bpf.connect4
def log4(ctx: SockAddr) -> int:
    """IPv4."""
    event = connects.reserve(Connect)
    if event is None:  # the ring is full: nobody reads
        return 1
    describe(ctx, event, 4)
    event.words[0] = ctx.user_ip4
    connects.submit(event)
    return 1


@bpf.connect6
def log6(ctx: SockAddr) -> int:
    """IPv6."""
    event = connects.reserve(Connect)
    if event is None:
        return 1
    describe(ctx, event, 6)
    for index in bpf.unroll(range(4)):
        event.words[index] = ctx.user_ip6[index]
    connects.submit(event)
    return 1


def address_of(event: Connect) -> str:
    """Where it goes, as text."""
    octets = b"".join(ntohl(word).to_bytes(4, "big") for word in event.words)
    if event.version == 4:
        return f"{IPv4Address(octets[:4])}:{ntohs(event.port)}"
    return f"[{IPv6Address(octets)}]:{ntohs(event.port)}"


def main() -> None:
    """Attach, and print what comes."""
    parser = argparse.ArgumentParser(description="Print each connect of the processes in a cgroup.")
    parser.add_argument("cgroup", type=Path, help="a directory of cgroup v2")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([log4, log6])) as loaded:
        loaded.attach_all(cgroup=arguments.cgroup)
        print(f"connects of {arguments.cgroup}; Ctrl-C ends it")
        with RingBuffer(loaded.maps["connects"], Connect) as events:
            for event in events:
                who = f"{event.comm.rstrip(bytes(1)).decode(errors='replace')}[{event.pid}] of user {event.uid}"
                print(f"{NAMES.get(event.protocol, str(event.protocol))} {address_of(event)}  {who}")


if __name__ == "__main__":
    run_script(main)
