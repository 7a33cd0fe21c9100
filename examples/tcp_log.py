"""Print each TCP connection of a cgroup when it is closed: bytes, round trip time, what was sent again.

    python examples/tcp_log.py /sys/fs/cgroup/my.slice

The program asks a socket that is connected to report its changes of state, and looks at it when it closes. IPv4 only.
Needs root and Linux 5.10.
"""

import argparse
from ipaddress import IPv4Address
from pathlib import Path

import pybpfasm as bpf
from pybpfasm import RingBuf, SockOps, Struct, be32, ntohl, tcp_sock, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, RingBuffer
from pybpfasm.scripts import run_script
from pybpfasm.uapi import SockOpsCallbackFlag, SockOpsOp, TcpState

AF_INET = 2


class Closed(Struct):
    """A connection that was closed. Ports are in host order; the round trip time is in microseconds."""

    local_ip4: be32
    remote_ip4: be32
    local_port: u32
    remote_port: u32
    rtt_us: u32
    sent_again: u32
    bytes_received: u64
    bytes_acked: u64


closed = RingBuf(max_entries=1 << 18)


@bpf.inline
def report(ctx: SockOps) -> None:
    """Tell what TCP knows of the connection."""
    sk = ctx.sk
    if sk is None:
        return
    tcp = tcp_sock(sk)
    if tcp is None:
        return
    event = closed.reserve(Closed)
    if event is None:
        return
    event.local_ip4 = ctx.local_ip4
    event.remote_ip4 = ctx.remote_ip4
    event.local_port = ctx.local_port
    event.remote_port = ntohl(ctx.remote_port)
    event.rtt_us = tcp.srtt_us >> 3  # the kernel keeps eighths
    event.sent_again = tcp.total_retrans
    event.bytes_received = tcp.bytes_received
    event.bytes_acked = tcp.bytes_acked
    closed.submit(event)


@bpf.sock_ops
def watch(ctx: SockOps) -> int:
    """Ask for changes of state when a connection is established; report it when it closes."""
    if ctx.family != AF_INET:
        return 1
    match ctx.op:
        case SockOpsOp.ACTIVE_ESTABLISHED_CB | SockOpsOp.PASSIVE_ESTABLISHED_CB:
            h.sock_ops_cb_flags_set(ctx, ctx.bpf_sock_ops_cb_flags | SockOpsCallbackFlag.STATE_CB_FLAG)
        case SockOpsOp.STATE_CB:
            if ctx.args[1] == TcpState.CLOSE:
                report(ctx)
        case _:
            pass
    return 1


def main() -> None:
    """Attach, and print what comes."""
    parser = argparse.ArgumentParser(description="Print each TCP connection of a cgroup when it is closed.")
    parser.add_argument("cgroup", type=Path, help="a directory of cgroup v2")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([watch])) as loaded:
        loaded.attach_all(cgroup=arguments.cgroup)
        print(f"connections of {arguments.cgroup}; Ctrl-C ends it")
        with RingBuffer(loaded.maps["closed"], Closed) as events:
            for event in events:
                local = f"{IPv4Address(ntohl(event.local_ip4))}:{event.local_port}"
                remote = f"{IPv4Address(ntohl(event.remote_ip4))}:{event.remote_port}"
                volume = f"{event.bytes_acked} bytes out, {event.bytes_received} in"
                print(f"{local} > {remote}  {volume}, {event.rtt_us} us, {event.sent_again} sent again")


if __name__ == "__main__":
    run_script(main)
