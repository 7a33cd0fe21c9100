"""What a process with few capabilities can do, and what it is told where it cannot."""

from pathlib import Path

import pytest
from cgroup_caller import Caller
from children import python

from pybpfasm.kernel import features
from pybpfasm.kernel.permissions import Capability

pytestmark = pytest.mark.needs(features.RING_BUFFER)  # CAP_BPF came with it, in 5.8


def test_two_capabilities_suffice(caller: Caller) -> None:
    """With CAP_BPF and CAP_NET_ADMIN alone: maps, programs of networking and cgroups, links, events, collections."""
    lines = python(
        f"""
        attempt("hash", lambda: map_(MapType.HASH))
        attempt("sockhash", lambda: map_(MapType.SOCKHASH, value=4))
        ring = attempt("ring", lambda: map_(MapType.RINGBUF, key=0, value=0, entries=4096))
        attempt("reader", lambda: RingBuffer(ring).drain())
        hook = AttachType.CGROUP_INET4_CONNECT
        connect = attempt("connect4", lambda: program(ProgramType.CGROUP_SOCK_ADDR, hook))
        attempt("sched_cls", lambda: program(ProgramType.SCHED_CLS))
        attempt("link", lambda: attach_cgroup(connect, Path({str(caller.cgroup)!r})))
        spec = CollectionSpec({{"test": connect.spec}}, {{}})
        attempt("collection", lambda: Collection.load(spec).attach_all(cgroup=Path({str(caller.cgroup)!r})))
        """,
        keep=[Capability.BPF, Capability.NET_ADMIN],
    )
    names = ("hash", "sockhash", "ring", "reader", "connect4", "sched_cls", "link", "collection")
    assert lines == [f"{name}: done" for name in names]


def test_the_capability_that_is_missing_is_named() -> None:
    """Each failure for want of a capability says which one."""
    lines = python(
        """
        program(ProgramType.SOCKET_FILTER).close()
        attempt("connect4", lambda: program(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT))
        attempt("by id", lambda: Map.by_id(1 << 30))
        events = map_(MapType.PERF_EVENT_ARRAY, value=4, entries=0)
        attempt("perf", lambda: PerfBuffer(events))
        """,
        keep=[Capability.BPF],
    )
    assert "CAP_NET_ADMIN is missing" in lines[0]
    assert lines[1].endswith("it needs root, or CAP_SYS_ADMIN (EPERM)")
    assert "it needs root, or CAP_PERFMON" in lines[2]


def test_without_any(tmp_path: Path) -> None:
    """A process with nothing is told the usual two."""
    lines = python('attempt("hash", lambda: map_(MapType.HASH))', keep=[])
    assert len(lines) == 1
    assert "it needs root, or CAP_BPF" in lines[0]


def test_the_setting_that_keeps_others_out() -> None:
    """Where the sysctl alone forbids a plain array to a process without capabilities, it is named."""
    setting = Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip()
    lines = python(
        """
        from pybpfasm.kernel import sys as kernel
        from pybpfasm.uapi import Command
        array = kernel.new("map_create", map_type=MapType.ARRAY, key_size=4, value_size=8, max_entries=1)
        attempt("array", lambda: os.close(kernel.bpf(Command.MAP_CREATE, array, "create an array")))
        """,
        keep=[],
    )
    if setting == "0":
        assert lines == ["array: done"]
    else:
        assert lines[0].endswith(f"CAP_NET_ADMIN, as kernel.unprivileged_bpf_disabled is {setting} (EPERM)")


def test_a_user_namespace() -> None:
    """Root of a user namespace has all capabilities, and is told that they are not those that count."""
    lines = python('attempt("btf", lambda: program(ProgramType.SCHED_CLS))', "unshare", "--user", "--map-root-user")
    assert "user namespace" in lines[0]
    assert "is missing" not in lines[0]


# Loads a classic BPF program that lets every call pass but bpf(2), which gets EPERM (seccomp(2)).
_SECCOMP = """
    import ctypes, platform
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    class Filter(ctypes.Structure):
        _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]
    class Program_(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]
    filters = (Filter * 4)(Filter(0x20, 0, 0, 0), Filter(0x15, 0, 1, number), Filter(6, 0, 0, 0x00050001),
                           Filter(6, 0, 0, 0x7FFF0000))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(Program_(4, filters)), 0, 0) == 0
    attempt("program", lambda: program(ProgramType.SCHED_CLS))
    attempt("pin", lambda: Map.open(Path("/sys/fs/bpf/nothing")))
"""


def test_a_seccomp_filter() -> None:
    """Where the capabilities are there and bpf(2) is refused, the filter is named as the likely cause."""
    lines = python(_SECCOMP)
    assert all("seccomp" in line for line in lines), lines
