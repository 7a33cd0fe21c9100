"""Register a TCP congestion control that is written in Python: as simple as the first one was.

    python examples/congestion.py mine

A socket uses it that asks for it by its name, `setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"mine")`; so does
`iperf3 --congestion mine`. The window grows by a packet a round trip, and is halved by a loss. It is for reading, not
for the Internet. Needs root and Linux 5.6.
"""

import argparse
import time

import pybpfasm as bpf
from pybpfasm import Array, KernelStruct, Struct, atomic_add, u32, u64
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.kernel.links import attach_struct_ops
from pybpfasm.scripts import run_script


class TcpSock(KernelStruct, name="tcp_sock"):
    """What the kernel's TCP keeps of a connection; windows are in packets."""

    snd_cwnd: u32
    snd_cwnd_cnt: u32
    snd_cwnd_clamp: u32
    snd_ssthresh: u32
    prior_cwnd: u32


class Work(Struct):
    """What has been done for all connections: packets that were acknowledged, and losses."""

    acknowledged: u64
    losses: u64


work = Array[u32, Work](max_entries=1)


@bpf.struct_ops("tcp_congestion_ops.ssthresh")
def on_loss(sk: TcpSock) -> int:
    """How far the window may grow quickly after a loss: half of what it was, two packets at least."""
    total = work.lookup(0)
    if total is not None:
        atomic_add(total.losses, 1)
    return max(sk.snd_cwnd >> 1, 2)


@bpf.struct_ops("tcp_congestion_ops.cong_avoid")
def on_acknowledged(sk: TcpSock, number: u32, packets: u32) -> int:
    """Double the window each round trip up to the threshold; from there on add one packet each round trip."""
    total = work.lookup(0)
    if total is not None:
        atomic_add(total.acknowledged, packets)
    if sk.snd_cwnd < sk.snd_ssthresh:
        sk.snd_cwnd = min(sk.snd_cwnd + packets, sk.snd_cwnd_clamp)
        return 0
    sk.snd_cwnd_cnt += packets
    if sk.snd_cwnd_cnt >= sk.snd_cwnd:
        sk.snd_cwnd_cnt = 0
        sk.snd_cwnd = min(sk.snd_cwnd + 1, sk.snd_cwnd_clamp)
    return 0


@bpf.struct_ops("tcp_congestion_ops.undo_cwnd")
def on_false_alarm(sk: TcpSock) -> int:
    """The loss was none: the window is what it was before."""
    return max(sk.snd_cwnd, sk.prior_cwnd)


MEMBERS = {"ssthresh": "on_loss", "cong_avoid": "on_acknowledged", "undo_cwnd": "on_false_alarm"}


def main() -> None:
    """Register it, and tell each second what it has done."""
    parser = argparse.ArgumentParser(description="Register a TCP congestion control.")
    parser.add_argument("name", help="by which sockets ask for it, 15 letters at most")
    arguments = parser.parse_args()
    with Collection.load(compile_collection([on_loss, on_acknowledged, on_false_alarm])) as loaded:
        functions = {member: loaded.programs[program] for member, program in MEMBERS.items()}
        with attach_struct_ops("tcp_congestion_ops", functions, {"name": arguments.name}):
            print(f"congestion control {arguments.name} is there; Ctrl-C takes it away")
            told = 0
            while True:
                time.sleep(1)
                total = TypedMap(work, loaded.maps["work"])[0]
                if total.acknowledged > told:
                    told = total.acknowledged
                    print(f"{total.acknowledged} packets acknowledged, {total.losses} losses")


if __name__ == "__main__":
    run_script(main)
