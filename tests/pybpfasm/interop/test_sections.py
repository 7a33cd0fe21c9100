"""Section names and kinds of programs."""

import pytest

from pybpfasm.interop.sections import _TABLE, UNKNOWN, SectionKind, context_name, section_kind, section_name
from pybpfasm.uapi import AttachType, ProgramType


@pytest.mark.parametrize(
    ("name", "type_", "attach_type", "flags", "attach_to"),
    [
        ("xdp", ProgramType.XDP, AttachType.XDP, 0, None),
        ("xdp.frags/devmap", ProgramType.XDP, AttachType.XDP_DEVMAP, 32, None),
        ("kprobe/do_unlinkat", ProgramType.KPROBE, AttachType(0), 0, "do_unlinkat"),
        ("kprobe", ProgramType.KPROBE, AttachType(0), 0, None),
        ("uprobe.multi.s//bin/sh:main", ProgramType.KPROBE, AttachType.TRACE_UPROBE_MULTI, 16, "/bin/sh:main"),
        ("tracepoint/sched/sched_switch", ProgramType.TRACEPOINT, AttachType(0), 0, "sched/sched_switch"),
        ("lsm.s/bpf", ProgramType.LSM, AttachType.LSM_MAC, 16, "bpf"),
        ("cgroup/connect4", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, 0, None),
        ("?fentry/tcp_close", ProgramType.TRACING, AttachType.TRACE_FENTRY, 0, "tcp_close"),
        ("tc", ProgramType.SCHED_CLS, AttachType(0), 0, None),
    ],
)
def test_a_name_tells_the_kind(
    name: str, type_: ProgramType, attach_type: AttachType, flags: int, attach_to: str | None
) -> None:
    """Type, attach type, flags and the place after the slash are libbpf's for the name."""
    assert section_kind(name) == SectionKind(type_, attach_type, flags, attach_to)


@pytest.mark.parametrize("name", ["", "xdp_drop", "xdp/other", "kprobes/x", "from-container", "2/1", "kprobe.s/x"])
def test_other_names_tell_nothing(name: str) -> None:
    """A name that only looks like a known one is not taken for it."""
    assert section_kind(name) == UNKNOWN


@pytest.mark.parametrize("pattern", [row[0] for row in _TABLE])
def test_a_written_name_reads_back(pattern: str) -> None:
    """For every kind there is a name, and that name means the kind."""
    place = "a/b" if pattern.endswith("+") else None
    kind = section_kind(pattern.removesuffix("+") + (f"/{place}" if place else ""))
    assert kind.attach_to == place
    name = section_name(kind)
    assert name is not None
    assert section_kind(name) == kind


def test_contexts() -> None:
    """The struct that r1 points to is known where the type has one."""
    assert context_name(ProgramType.XDP) == "xdp_md"
    assert context_name(ProgramType.TRACING) == ""
