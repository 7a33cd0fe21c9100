"""Let bytes between two TCP sockets of one machine skip TCP: from one's send into the other's receive queue.

    python examples/local_splice.py /sys/fs/cgroup/my.slice

A socket of the cgroup is put into a map of sockets when it is connected, by its addresses and ports; what it sends goes
to the socket whose addresses are the same the other way round, if there is one. Connections to elsewhere go on by TCP.
IPv4 only. Needs root.
"""

import argparse
from contextlib import suppress
from pathlib import Path
from signal import pause

import pybpfasm as bpf
from pybpfasm import Array, SkMsg, SockHash, SockOps, Struct, atomic_add, be32, ntohl, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.scripts import run_script
from pybpfasm.uapi import SkAction, SockOpsOp

AF_INET = 2
BPF_F_INGRESS = 1  # as if the bytes had arrived


class Ends(Struct):
    """A connection as one of its sockets sees it; ports in host order."""

    local_ip4: be32
    remote_ip4: be32
    local_port: u32
    remote_port: u32


class Cookie(Struct):
    """What user space sees of a socket in a map."""

    number: u64


class Spliced(Struct):
    """What has skipped TCP."""

    messages: u64
    octets: u64


sockets = SockHash[Ends, Cookie](max_entries=65536)
spliced = Array[u32, Spliced](max_entries=1)


@bpf.sock_ops
def remember(ctx: SockOps) -> int:
    """Put a socket into the map, on both sides of a connection."""
    if ctx.family != AF_INET:
        return 1
    if ctx.op in (SockOpsOp.ACTIVE_ESTABLISHED_CB, SockOpsOp.PASSIVE_ESTABLISHED_CB):
        ends = Ends(
            local_ip4=ctx.local_ip4,
            remote_ip4=ctx.remote_ip4,
            local_port=ctx.local_port,
            remote_port=ntohl(ctx.remote_port),
        )
        h.sock_hash_update(ctx, sockets, ends, 0)
    return 1


@bpf.sk_msg
def splice(ctx: SkMsg) -> int:
    """Hand bytes to the other socket; where there is none they go by TCP."""
    if ctx.family != AF_INET:
        return SkAction.PASS
    other = Ends(
        local_ip4=ctx.remote_ip4,
        remote_ip4=ctx.local_ip4,
        local_port=ntohl(ctx.remote_port),
        remote_port=ctx.local_port,
    )
    size = ctx.size
    if h.msg_redirect_hash(ctx, sockets, other, BPF_F_INGRESS) == SkAction.PASS:
        count = spliced.lookup(0)
        if count is not None:
            atomic_add(count.messages, 1)
            atomic_add(count.octets, size)
    return SkAction.PASS


def main() -> None:
    """Attach both, wait, print what was spliced."""
    parser = argparse.ArgumentParser(description="Let bytes between sockets of a cgroup skip TCP.")
    parser.add_argument("cgroup", type=Path, help="a directory of cgroup v2")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([splice, remember])) as loaded:
        loaded.attach_all(cgroup=arguments.cgroup, sockets=loaded.maps["sockets"])
        with suppress(KeyboardInterrupt):
            print(f"splicing in {arguments.cgroup}; Ctrl-C ends it")
            pause()
        total = TypedMap(spliced, loaded.maps["spliced"])[0]
        print(f"{total.messages} messages, {total.octets} bytes have skipped TCP")


if __name__ == "__main__":
    run_script(main)
