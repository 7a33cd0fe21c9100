"""The rows of the conformance suite for tracing: what each is attached to, and what makes it run."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import attrs
from link_kinds import LinkKind, Scene
from probe_library import GUARDED, PLAIN_PLACES, PROVIDER, ProbeLibrary
from tracing_mount import LSM_ACTIVE, mounted_tracefs

from pybpfasm.btf import Kind
from pybpfasm.kernel import features
from pybpfasm.kernel.btf_objects import vmlinux
from pybpfasm.kernel.links import (
    Attachment,
    PerfEvent,
    attach_kprobe,
    attach_kprobes,
    attach_perf_event,
    attach_raw_tracepoint,
    attach_tracepoint,
    attach_tracing,
    attach_uprobe,
    attach_uprobes,
    attach_usdt,
)
from pybpfasm.kernel.links.perf import PERF_COUNT_SW_TASK_CLOCK, PERF_TYPE_SOFTWARE
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, LinkType, ProgramType

NO_HOOK = AttachType(0)
_COMM = Path("/proc/self/comm")
SAMPLE_PERIOD_NS = 1_000_000


@attrs.frozen
class _Scene:
    target: int | str
    attach: Callable[[Program], Attachment]
    trigger: Callable[[], None]


def rename() -> None:
    """Write this thread's own name to it: a task_rename."""
    Path("/proc/thread-self/comm").write_text(_COMM.read_text().removesuffix("\n"))


def unlink() -> None:
    """Make a file and remove it."""
    fd, name = tempfile.mkstemp()
    os.close(fd)
    os.unlink(name)


def compute() -> None:
    """Use this process's time, for some samples."""
    end = time.process_time() + 20 * SAMPLE_PERIOD_NS / 1e9
    while time.process_time() < end:
        pass


def _place(
    attach: Callable[[Program], Attachment], target: Callable[[], int | str], trigger: Callable[[], None]
) -> Callable[[], AbstractContextManager[Scene]]:
    """A scene that needs nothing made for it."""

    @contextmanager
    def scene() -> Iterator[Scene]:
        yield _Scene(target(), attach, trigger)

    return scene


def _type_id(function: str) -> Callable[[], int]:
    return lambda: vmlinux().find(function, Kind.FUNC)


@contextmanager
def _tracepoint() -> Iterator[Scene]:
    with mounted_tracefs():
        yield _Scene("task_rename", lambda program: attach_tracepoint(program, "task/task_rename"), rename)


@contextmanager
def _library() -> Iterator[ProbeLibrary]:
    with tempfile.TemporaryDirectory() as folder:
        made = ProbeLibrary(Path(folder) / "library")
        try:
            yield made
        finally:
            made.close()


def _in_library(
    attach: Callable[[ProbeLibrary, Program], Attachment],
) -> Callable[[], AbstractContextManager[Scene]]:
    @contextmanager
    def scene() -> Iterator[Scene]:
        with _library() as library:
            yield _Scene(str(library.path), lambda program: attach(library, program), library.call)

    return scene


def _attach_clock(program: Program) -> Attachment:
    clock = PerfEvent.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, sample_period=SAMPLE_PERIOD_NS, pid=0)
    return attach_perf_event(program, clock)


_KPROBE: Any = {
    "link": (features.PERF_LINK,),
    "type": LinkType.PERF_EVENT,
    "program_type": ProgramType.KPROBE,
    "hook": NO_HOOK,
    "of_this_process": True,
}
_BY_BTF: Any = {"type": LinkType.TRACING, "of_this_process": True}

TRACING_KINDS = (
    LinkKind(
        name="raw tracepoint",
        type=LinkType.RAW_TRACEPOINT,
        program_type=ProgramType.RAW_TRACEPOINT,
        hook=NO_HOOK,
        scene=_place(lambda program: attach_raw_tracepoint(program, "task_rename"), lambda: "task_rename", rename),
        needs=(),
        of_this_process=True,
    ),
    LinkKind(
        name="tp_btf",
        type=LinkType.RAW_TRACEPOINT,
        of_this_process=True,
        program_type=ProgramType.TRACING,
        hook=AttachType.TRACE_RAW_TP,
        attach_to="task_rename",
        scene=_place(attach_tracing, lambda: "task_rename", rename),
        needs=(features.KERNEL_BTF,),
    ),
    LinkKind(
        name="tracepoint",
        type=LinkType.PERF_EVENT,
        program_type=ProgramType.TRACEPOINT,
        hook=NO_HOOK,
        scene=_tracepoint,
        needs=(),
        link=(features.PERF_LINK,),
        of_this_process=True,
    ),
    LinkKind(
        name="kprobe",
        scene=_place(lambda program: attach_kprobe(program, "vfs_unlink"), lambda: "vfs_unlink", unlink),
        needs=(features.KPROBES,),
        **_KPROBE,
    ),
    LinkKind(
        name="kretprobe",
        scene=_place(
            lambda program: attach_kprobe(program, "vfs_unlink", on_return=True), lambda: "vfs_unlink", unlink
        ),
        needs=(features.KPROBES,),
        **_KPROBE,
    ),
    LinkKind(
        name="kprobe.multi",
        type=LinkType.KPROBE_MULTI,
        program_type=ProgramType.KPROBE,
        hook=AttachType.TRACE_KPROBE_MULTI,
        scene=_place(lambda program: attach_kprobes(program, ["vfs_unlink", "vfs_rmdir"]), lambda: 0, unlink),
        needs=(features.KPROBE_MULTI,),
        of_this_process=True,
    ),
    LinkKind(
        name="uprobe",
        scene=_in_library(lambda library, program: attach_uprobe(program, library.path, "probed")),
        needs=(features.UPROBES,),
        **_KPROBE,
    ),
    LinkKind(
        name="uretprobe",
        scene=_in_library(lambda library, program: attach_uprobe(program, library.path, "probed", on_return=True)),
        needs=(features.UPROBES,),
        **_KPROBE,
    ),
    LinkKind(
        name="uprobe.multi",
        type=LinkType.UPROBE_MULTI,
        program_type=ProgramType.KPROBE,
        hook=AttachType.TRACE_UPROBE_MULTI,
        scene=_in_library(lambda library, program: attach_uprobes(program, library.path, offsets=PLAIN_PLACES[:1])),
        needs=(features.UPROBE_MULTI,),
        of_this_process=True,
    ),
    LinkKind(
        name="USDT",
        type=LinkType.UPROBE_MULTI,
        program_type=ProgramType.KPROBE,
        hook=AttachType.TRACE_UPROBE_MULTI,
        scene=_in_library(lambda library, program: attach_usdt(program, library.path, PROVIDER, GUARDED)),
        needs=(features.UPROBE_MULTI,),
        of_this_process=True,
    ),
    LinkKind(
        name="fentry",
        program_type=ProgramType.TRACING,
        hook=AttachType.TRACE_FENTRY,
        attach_to="vfs_unlink",
        scene=_place(attach_tracing, _type_id("vfs_unlink"), unlink),
        needs=(features.FENTRY,),
        **_BY_BTF,
    ),
    LinkKind(
        name="fexit",
        program_type=ProgramType.TRACING,
        hook=AttachType.TRACE_FEXIT,
        attach_to="vfs_unlink",
        scene=_place(attach_tracing, _type_id("vfs_unlink"), unlink),
        needs=(features.FENTRY,),
        **_BY_BTF,
    ),
    LinkKind(
        name="fmod_ret",
        program_type=ProgramType.TRACING,
        hook=AttachType.MODIFY_RETURN,
        attach_to="security_inode_unlink",
        scene=_place(attach_tracing, _type_id("security_inode_unlink"), unlink),
        needs=(features.FMOD_RET,),
        **_BY_BTF,
    ),
    LinkKind(
        name="LSM",
        program_type=ProgramType.LSM,
        hook=AttachType.LSM_MAC,
        attach_to="inode_unlink",
        scene=_place(attach_tracing, _type_id("bpf_lsm_inode_unlink"), unlink),
        needs=(features.LSM, LSM_ACTIVE),
        **_BY_BTF,
    ),
    LinkKind(
        name="perf event",
        type=LinkType.PERF_EVENT,
        program_type=ProgramType.PERF_EVENT,
        hook=NO_HOOK,
        scene=_place(_attach_clock, lambda: 0, compute),
        needs=(),
        link=(features.PERF_LINK,),
    ),
)
