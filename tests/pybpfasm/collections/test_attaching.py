"""Attaching a whole collection by what its sections say, with the effects observed in a namespace of the test's own."""

import socket
import subprocess
import threading
from collections.abc import Callable

import pytest
from collection_objects import CLANGS, HEAD, collection, compiled

from pybpfasm import isa
from pybpfasm.errors import BpfError
from pybpfasm.kernel import features
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.attaching import Targets, is_attached, way_to_attach
from pybpfasm.kernel.collection import Collection
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType

NETWORK = (
    HEAD
    + """
u64 dropped;
u64 seen;
struct md { u32 data, data_end; };

SEC("xdp") int drop(struct md *ctx)
{
    u8 *data = (u8 *)(u64)ctx->data, *end = (u8 *)(u64)ctx->data_end;
    if (data + 42 > end || data[23] != 17 || data[36] != 0 || data[37] != 9)
        return 2;
    dropped++;
    return 1;
}

SEC("tcx/egress") int see(void *ctx) { seen++; return -1; }

SEC("sk_lookup") int lookup(void *ctx) { return 1; }

SEC("syscall") int by_hand(void *ctx) { return 0; }
"""
)

CONGESTION = (
    HEAD
    + """
struct sock;
struct tcp_congestion_ops {
    u32 (*ssthresh)(struct sock *);
    void (*cong_avoid)(struct sock *, u32, u32);
    u32 (*undo_cwnd)(struct sock *);
    char name[16];
};
SEC("struct_ops/threshold") u32 threshold(u64 *ctx) { return 16; }
SEC("struct_ops/avoid") int avoid(u64 *ctx) { return 0; }
SEC("struct_ops/undo") u32 undo(u64 *ctx) { return 16; }
SEC(".struct_ops") struct tcp_congestion_ops mine = {
    .ssthresh = (void *)threshold, .cong_avoid = (void *)avoid, .undo_cwnd = (void *)undo, .name = "pybpfasm_all",
};
"""
)


def in_namespace(function: Callable[[], None]) -> None:
    """Run it in a new network namespace whose loopback is up; what it raises comes out."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            function()
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    for failure in failures:
        raise failure


def arrives(port: int) -> bool:
    """Whether a datagram to that port of the loopback comes back to us."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(0.3)
        receiver.sendto(b"x", ("127.0.0.1", port))
        try:
            return receiver.recv(10) == b"x"
        except TimeoutError:
            return False


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.needs(features.TCX_LINK)
def test_a_network_object(clang: str) -> None:
    """XDP drops what it is to drop, tcx counts, sk_lookup is attached, the syscall program is left alone; all ends."""
    spec = compiled(clang, NETWORK)

    def check() -> None:
        with Collection.load(spec) as loaded:
            assert set(loaded.attach_all(interface="lo")) == {"drop", "see", "lookup"}
            assert not arrives(9)
            assert arrives(10)
            dropped, seen = (
                int.from_bytes((loaded.maps[".bss"].lookup(bytes(4)) or b"")[at : at + 8], "little") for at in (0, 8)
            )
            assert (dropped, seen >= 2) == (1, True)
        assert arrives(9)

    in_namespace(check)


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.needs(features.STRUCT_OPS)
def test_a_struct_ops_object(clang: str) -> None:
    """A congestion control written in C can be chosen by a socket while the collection is open, and not after."""

    def choose() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as chooser:
            chooser.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"pybpfasm_all")

    with Collection.load(compiled(clang, CONGESTION)) as loaded:
        with pytest.raises(FileNotFoundError):
            choose()
        assert set(loaded.attach_all()) == {"mine"}
        choose()
    with pytest.raises(FileNotFoundError):
        choose()


NO_HOOK = AttachType(0)


def spec_of(kind: ProgramType, hook: AttachType = NO_HOOK, section: str = "", place: str | None = None) -> ProgramSpec:
    """A program of a kind."""
    code = (isa.mov_imm(0, 0), isa.exit_program())
    return ProgramSpec("test", kind, hook, "ctx", code, {}, section=section, attach_to=place)


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(ProgramType.KPROBE, section="kprobe/do_unlinkat", place="do_unlinkat"),
        spec_of(ProgramType.KPROBE, section="kretprobe/do_unlinkat", place="do_unlinkat"),
        spec_of(ProgramType.KPROBE, section="kprobe/do_unlinkat+0x4", place="do_unlinkat+0x4"),
        spec_of(ProgramType.KPROBE, section="uprobe.s//bin/sh:main+8", place="/bin/sh:main+8"),
        spec_of(ProgramType.TRACEPOINT, place="sched/sched_switch"),
        spec_of(ProgramType.RAW_TRACEPOINT, place="sched_switch"),
        spec_of(ProgramType.TRACING, AttachType.TRACE_FENTRY, place="do_unlinkat"),
        spec_of(ProgramType.TRACING, AttachType.TRACE_ITER, place="task"),
        spec_of(ProgramType.LSM, AttachType.LSM_MAC, place="file_open"),
        spec_of(ProgramType.FLOW_DISSECTOR, AttachType.FLOW_DISSECTOR),
    ],
    ids=lambda spec: spec.section or spec.type.name.lower(),
)
def test_kinds_that_say_where_they_belong(spec: ProgramSpec) -> None:
    """They need no target."""
    assert is_attached(spec)
    assert callable(way_to_attach(spec, Targets()))


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        (spec_of(ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS), "cgroup"),
        (spec_of(ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS), "cgroup"),
        (spec_of(ProgramType.XDP, AttachType.XDP), "interface"),
        (spec_of(ProgramType.SCHED_CLS, AttachType.TCX_INGRESS), "interface"),
        (spec_of(ProgramType.SCHED_CLS, AttachType.NETKIT_PEER), "interface"),
        (spec_of(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT), "sockets"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.type.name.lower(),
)
def test_kinds_that_need_a_target(spec: ProgramSpec, target: str) -> None:
    """Without it the error names what to give."""
    with pytest.raises(BpfError, match=rf"^program test \(\w+\) needs a target: {target}=…$"):
        way_to_attach(spec, Targets())


@pytest.mark.parametrize(
    "spec",
    [
        spec_of(ProgramType.SCHED_CLS, section="tc"),
        spec_of(ProgramType.KPROBE, section="usdt/libc:setjmp", place="libc:setjmp"),
        spec_of(ProgramType.NETFILTER, AttachType.NETFILTER, section="netfilter"),
        spec_of(ProgramType.PERF_EVENT, section="perf_event"),
    ],
    ids=lambda spec: spec.section,
)
def test_kinds_whose_place_nobody_knows(spec: ProgramSpec) -> None:
    """The error names the program, its section, and where attaching by hand is done."""
    with pytest.raises(
        BpfError, match=r"^cannot tell where to attach program test: .*; attach it by pybpfasm.kernel.links$"
    ):
        way_to_attach(spec, Targets())


def test_an_attachment_made_by_hand() -> None:
    """The collection owns it from then on, and closes it."""
    closed = []

    class Held:
        def __enter__(self) -> "Held":
            return self

        def __exit__(self, *_: object) -> None:
            closed.append(True)

    with Collection.load(collection(spec_of(ProgramType.SCHED_CLS))) as loaded:
        loaded.attach("test", Held())  # type: ignore[arg-type]  # all that is used of an attachment
        assert list(loaded.links) == ["test"]
        assert closed == []
    assert closed == [True]
