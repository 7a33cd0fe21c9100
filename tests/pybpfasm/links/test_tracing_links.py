"""Links of tracing, beyond what all kinds do: names, places, processes, cookies, and what errors say."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from link_kinds import LinkKind
from probe_library import ARGUMENTS, FUNCTION, GUARDED, GUARDED_PLACE, PLAIN, PLAIN_PLACES, PROVIDER, ProbeLibrary
from small_programs import count
from tracing_kinds import NO_HOOK, SAMPLE_PERIOD_NS, TRACING_KINDS, compute, rename, unlink
from tracing_mount import LSM_ACTIVE, mounted_tracefs

from pybpfasm import isa
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.kernel import features
from pybpfasm.kernel.ksyms import symbol_address
from pybpfasm.kernel.links import (
    Link,
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
    perf,
    tracing,
    usdt_probes,
)
from pybpfasm.kernel.links.perf import PERF_COUNT_SW_TASK_CLOCK, PERF_TYPE_SOFTWARE
from pybpfasm.kernel.links.usdt import UsdtArgument, parse_arguments
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Helper, ProgramType

KINDS = {each.name: each for each in TRACING_KINDS}


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ProbeLibrary]:
    """A file with probe points, mapped into this process."""
    made = ProbeLibrary(tmp_path / "library")
    yield made
    made.close()


def counting(name: str, counts: Map, index: int = 0) -> Program:
    """A program for a kind of link that counts in a slot."""
    kind: LinkKind = KINDS[name]
    return kind.program(counts, index)


def counting_by_cookie(counts: Map, hook: AttachType = NO_HOOK) -> Program:
    """A kprobe program that counts in the slot that its cookie names."""
    code = (
        isa.call(Helper.GET_ATTACH_COOKIE),
        isa.store(4, 10, -4, 0),
        isa.mov(2, 10),
        isa.alu_imm(isa.Alu.ADD, 2, -4),
        isa.load_map(1, "counts"),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(isa.Jump.JEQ, 0, 0, "out"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        isa.Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    spec = ProgramSpec("by_cookie", ProgramType.KPROBE, hook, "pt_regs", tuple(isa.resolve_labels(code)), {})
    return Program.load(spec, {"counts": counts})


# --- tracepoints ------------------------------------------------------------------------------------------------------


def test_a_tracepoint_that_is_not_there(counts: Map) -> None:
    """A raw tracepoint and a tracepoint of an unknown name are refused by name, each in one line."""
    with counting("raw tracepoint", counts) as program, pytest.raises(KernelError) as caught:
        attach_raw_tracepoint(program, "no_such_thing")
    assert str(caught.value).startswith(
        "cannot attach program count_0 to raw tracepoint no_such_thing: this kernel has no"
    )
    with mounted_tracefs(), counting("tracepoint", counts) as program:
        with pytest.raises(KernelError, match=r"^cannot find tracepoint sched/no_such: this kernel has none") as caught:
            attach_tracepoint(program, "sched/no_such")
        assert caught.value.errno == errno.ENOENT
        for name in ("task_rename", "task/", "a/b/c", None):
            with pytest.raises(BpfError, match=r"has to have its category: sched/sched_switch$"):
                attach_tracepoint(program, name)


def test_where_the_spec_says(counts: Map) -> None:
    """Without a name, the place is the one that the program's own spec names; without either, that is said."""
    kind = KINDS["raw tracepoint"]
    with kind.program(counts, 0) as program:
        with pytest.raises(BpfError, match=r"^program count_0 does not say to which tracepoint"):
            attach_raw_tracepoint(program)
        named = Program(
            os.dup(program.fd), ProgramSpec("named", kind.program_type, NO_HOOK, "", (), {}, attach_to="task_rename")
        )
    with named, attach_raw_tracepoint(named):
        rename()
        assert count(counts) == 1


# --- kprobes ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs(features.KPROBES)
def test_a_kernel_function_that_is_not_there(counts: Map) -> None:
    """An unknown function is refused by name."""
    with counting("kprobe", counts) as program:
        with pytest.raises(KernelError, match=r"^cannot open kprobe no_such_function: there is no such function"):
            attach_kprobe(program, "no_such_function")
        with pytest.raises(KernelError, match=r"^cannot open kprobe vfs_unlink\+0x1: .*no instruction begins there"):
            attach_kprobe(program, "vfs_unlink", offset=1)


@pytest.mark.needs(features.KPROBES)
@pytest.mark.parametrize("on_return", [False, True])
def test_kprobe_by_tracefs(counts: Map, on_return: bool) -> None:
    """A probe made by a line in tracefs works as well, and its line is gone afterwards."""
    with mounted_tracefs() as tracefs, counting("kprobe", counts) as program:
        with attach_kprobe(program, "vfs_unlink", on_return=on_return, by_tracefs=True) as made:
            assert "pybpfasm/" in (tracefs / "kprobe_events").read_text()
            unlink()
            assert count(counts) == 1
            with pytest.raises(UnsupportedFeatureError):
                made.info()
        assert (tracefs / "kprobe_events").read_text() == ""
        with pytest.raises(KernelError, match=r"^cannot write `p:pybpfasm/\w+ no_such_function` to .*no such function"):
            attach_kprobe(program, "no_such_function", by_tracefs=True)
        assert (tracefs / "kprobe_events").read_text() == ""


@pytest.mark.needs(features.KPROBE_MULTI)
def test_many_kprobes_by_address_with_cookies(counts: Map) -> None:
    """Functions given by address, each with its cookie; the info names addresses and cookies."""
    addresses = [symbol_address("vfs_unlink"), symbol_address("vfs_rmdir")]
    with (
        counting_by_cookie(counts, AttachType.TRACE_KPROBE_MULTI) as program,
        attach_kprobes(program, addresses=addresses, cookies=[3, 4]) as link,
    ):
        unlink()
        assert count(counts, 3) >= 1
        assert count(counts, 4) == 0
        if link.info().details["addrs"]:  # Linux 6.6
            assert len(link.info().details["addrs"]) == 2  # type: ignore[arg-type]  # a tuple, for this detail


@pytest.mark.needs(features.KPROBE_MULTI)
def test_many_kprobes_one_of_them_missing(counts: Map) -> None:
    """One unknown function among many is told."""
    with counting("kprobe.multi", counts) as program:
        with pytest.raises(KernelError, match=r"^cannot attach program count_0 to 2 kernel functions: one of the"):
            attach_kprobes(program, ["vfs_unlink", "no_such_function"])
        with pytest.raises(BpfError, match="not both"):
            attach_kprobes(program, ["vfs_unlink"], addresses=[1])


# --- uprobes ----------------------------------------------------------------------------------------------------------


def test_a_uprobe_by_offset(counts: Map, library: ProbeLibrary) -> None:
    """A place counted from the file's start is as good as a symbol."""
    with counting("uprobe", counts) as program, attach_uprobe(program, library.path, offset=FUNCTION):
        library.call()
        library.call()
        assert count(counts) == 2


def test_a_uprobe_for_one_process(counts: Map, library: ProbeLibrary) -> None:
    """A probe for another process is not met by this one, a probe for this one is."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with counting("uprobe", counts) as program:
            with attach_uprobe(program, library.path, "probed", pid=other.pid):
                library.call()
            assert count(counts) == 0
            with attach_uprobe(program, library.path, "probed", pid=os.getpid()):
                library.call()
            assert count(counts) == 1
    finally:
        other.communicate(b"\n")


def test_uprobe_by_tracefs(counts: Map, library: ProbeLibrary) -> None:
    """A probe made by a line in tracefs works as well, and its line is gone afterwards."""
    with mounted_tracefs() as tracefs, counting("uprobe", counts) as program:
        with attach_uprobe(program, library.path, "probed", by_tracefs=True):
            library.call()
            assert count(counts) == 1
        assert (tracefs / "uprobe_events").read_text() == ""
        with pytest.raises(BpfError, match=r"tracefs knows neither processes nor semaphores$"):
            attach_uprobe(program, library.path, "probed", by_tracefs=True, pid=0)


@pytest.mark.needs(features.PERF_LINK)
def test_a_cookie(counts: Map, library: ProbeLibrary) -> None:
    """The program sees the cookie of the place it was met at."""
    with (
        counting_by_cookie(counts) as program,
        attach_uprobe(program, library.path, "probed", cookie=5),
        attach_uprobe(program, library.path, offset=PLAIN_PLACES[0], cookie=6),
    ):
        library.call()
        assert (count(counts, 5), count(counts, 6)) == (1, 1)


@pytest.mark.needs(features.UPROBE_MULTI)
def test_many_uprobes(counts: Map, library: ProbeLibrary) -> None:
    """One link with a cookie for each of its places; the info has file, places and cookies."""
    with (
        counting_by_cookie(counts, AttachType.TRACE_UPROBE_MULTI) as program,
        attach_uprobes(program, library.path, offsets=PLAIN_PLACES, cookies=[1, 2], pid=0) as link,
    ):
        library.call()
        assert (count(counts, 1), count(counts, 2)) == (1, 1)
        info = link.info()
        if info.name:  # Linux 6.8
            assert info.name == str(library.path)
            assert info.details["offsets"] == PLAIN_PLACES
            assert info.details["cookies"] == (1, 2)
            assert info.details["pid"] == os.getpid()


def test_a_file_that_cannot_be_probed(counts: Map, library: ProbeLibrary, tmp_path: Path) -> None:
    """A missing file, symbol, or ELF header is told by name."""
    text = tmp_path / "text"
    text.write_text("no program")
    with counting("uprobe", counts) as program:
        with pytest.raises(BpfError, match=rf"^{library.path} has no function nothing: is it stripped"):
            attach_uprobe(program, library.path, "nothing")
        with pytest.raises(BpfError, match=rf"^{text} is no ELF file that can be read: "):
            attach_uprobe(program, text, "probed")
        with pytest.raises(KernelError, match=rf"^cannot read {tmp_path}/none: No such file or directory \(ENOENT\)$"):
            attach_uprobe(program, tmp_path / "none", "probed")
        with pytest.raises(KernelError, match=r"^cannot open uprobe offset 0x0 of .*/none: there is no such"):
            attach_uprobe(program, tmp_path / "none")


# --- USDT -------------------------------------------------------------------------------------------------------------


def test_probe_points_of_a_file(library: ProbeLibrary) -> None:
    """Places are offsets in the file, corrected for prelink; the semaphore and the arguments are told."""
    plain, guarded = usdt_probes(library.path, PROVIDER, PLAIN), usdt_probes(library.path, name=GUARDED)
    assert [each.offset for each in plain] == list(PLAIN_PLACES)
    assert [(each.offset, each.semaphore_offset) for each in guarded] == [(GUARDED_PLACE, 0x2000)]
    first, second, third = guarded[0].arguments
    assert " ".join(each.text for each in guarded[0].arguments) == ARGUMENTS
    assert (first.size, first.signed, first.register in ("rdi", "x0"), first.in_memory) == (8, False, True, False)
    assert (second.size, second.signed, second.constant) == (4, True, 3)
    assert (third.in_memory, third.offset) == (True, -8 if "rbp" in ARGUMENTS else 8)
    assert usdt_probes(library.path, "another") == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-1@16(%rax,%rbx,8)", UsdtArgument("-1@16(%rax,%rbx,8)", 1, True, None, "rax", True, 16, "rbx", 8)),
        ("8@(%rsp)", UsdtArgument("8@(%rsp)", 8, False, None, "rsp", True)),
        ("-4@$-0x10", UsdtArgument("-4@$-0x10", 4, True, -16)),
        ("8f@%xmm0", UsdtArgument("8f@%xmm0", 8, False, None, "xmm0")),
        ("4@[x29, -12]", UsdtArgument("4@[x29, -12]", 4, False, None, "x29", True, -12)),
        ("8@name(%rip)", UsdtArgument("8@name(%rip)", 8, False)),
    ],
)
def test_an_argument_of_a_probe_point(text: str, wanted: UsdtArgument) -> None:
    """Each form that compilers write is understood, and what is not keeps its text."""
    assert list(parse_arguments(f"8@%rdi {text} 4@$1"))[1] == wanted


def test_usdt_by_uprobes(counts: Map, library: ProbeLibrary) -> None:
    """All places of a probe point are met, and none after the end."""
    with counting("uprobe", counts) as program:
        with attach_usdt(program, library.path, PROVIDER, PLAIN):
            library.call()
            assert count(counts) == 2
        library.call()
        assert count(counts) == 2
        with pytest.raises(
            KernelError, match=rf"^cannot attach program count_0: {library.path} has no probe point a:b"
        ):
            attach_usdt(program, library.path, "a", "b")


def test_the_semaphore_of_a_probe_point(counts: Map, library: ProbeLibrary) -> None:
    """It is raised while a probe is attached: a program then computes its arguments."""
    assert library.semaphore == 0
    with counting("uprobe", counts) as program:
        with attach_usdt(program, library.path, PROVIDER, GUARDED):
            assert library.semaphore == 1
        assert library.semaphore == 0


# --- perf events ------------------------------------------------------------------------------------------------------


def test_a_perf_event_without_links(counts: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels before 5.15: the program runs until the end, and what only links can do is refused."""
    monkeypatch.setattr(perf, "lacks", lambda feature: feature is features.PERF_LINK)
    with counting("perf event", counts) as program:
        clock = PerfEvent.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, sample_period=SAMPLE_PERIOD_NS, pid=0)
        with attach_perf_event(program, clock) as made:
            compute()
            assert count(counts) > 0
            with pytest.raises(UnsupportedFeatureError, match=r"links to perf events: it needs Linux 5\.15"):
                made.info()
        before = count(counts)
        compute()
        assert count(counts) == before
        again = PerfEvent.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, sample_period=SAMPLE_PERIOD_NS, pid=0)
        with pytest.raises(UnsupportedFeatureError, match="cookies"):
            attach_perf_event(program, again, cookie=1)


def test_a_perf_event_that_cannot_be(counts: Map) -> None:
    """A process that is not there, and an event that is none, are told; the event is closed if attaching fails."""
    with pytest.raises(KernelError, match=r"^cannot open a perf event: there is no such process \(ESRCH\)$"):
        PerfEvent.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, pid=(1 << 22) + 1)
    with pytest.raises(KernelError, match=r"^cannot open clock: .*\((EINVAL|ENOENT)\)$"):
        PerfEvent.open(PERF_TYPE_SOFTWARE, 1 << 20, what="clock", pid=0)
    event = PerfEvent.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, what="clock", pid=0)
    with (
        counting("tracepoint", counts) as program,
        pytest.raises(KernelError, match=r"^cannot attach program count_0 to clock: a program of another type"),
    ):
        attach_perf_event(program, event)
    with pytest.raises(ValueError, match="closed"):
        event.fileno()


@pytest.mark.needs(features.PERF_LINK)
def test_a_sampling_frequency(counts: Map) -> None:
    """Samples so many times a second of the process's own time."""
    with counting("perf event", counts) as program:
        clock = PerfEvent.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, sample_frequency_hz=1000, pid=0)
        with attach_perf_event(program, clock) as link:
            compute()
            assert count(counts) > 0
            assert isinstance(link, Link)


# --- by BTF -----------------------------------------------------------------------------------------------------------


def denying(program_type: ProgramType, hook: AttachType, attach_to: str) -> Program:
    """A program that refuses, with EPERM, what this process does."""
    code = (
        isa.call(Helper.GET_CURRENT_PID_TGID),
        isa.alu_imm(isa.Alu.RSH, 0, 32),
        isa.jump_if_imm(isa.Jump.JEQ, 0, os.getpid(), "deny"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
        isa.Label("deny"),
        isa.mov_imm(0, -errno.EPERM),
        isa.exit_program(),
    )
    return Program.load(
        ProgramSpec("deny", program_type, hook, "", tuple(isa.resolve_labels(code)), {}, attach_to=attach_to)
    )


@pytest.mark.parametrize(
    ("program_type", "hook", "attach_to"),
    [
        pytest.param(
            ProgramType.LSM,
            AttachType.LSM_MAC,
            "inode_unlink",
            marks=pytest.mark.needs(features.LSM, LSM_ACTIVE),
            id="LSM",
        ),
        pytest.param(
            ProgramType.TRACING,
            AttachType.MODIFY_RETURN,
            "security_inode_unlink",
            marks=pytest.mark.needs(features.FMOD_RET),
            id="fmod_ret",
        ),
    ],
)
def test_a_program_that_denies(tmp_path: Path, program_type: ProgramType, hook: AttachType, attach_to: str) -> None:
    """While it is attached this process cannot remove a file; afterwards it can."""
    file = tmp_path / "file"
    file.touch()
    with denying(program_type, hook, attach_to) as program:
        with attach_tracing(program), pytest.raises(PermissionError):
            file.unlink()
        file.unlink()


@pytest.mark.needs(features.LSM)
def test_a_program_that_would_never_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bpf is no active security module, attaching an LSM program says so instead of having no effect."""
    modules = tmp_path / "lsm"
    modules.write_text("lockdown,capability\n")
    monkeypatch.setattr(tracing, "_MODULES", modules)
    with (
        denying(ProgramType.LSM, AttachType.LSM_MAC, "inode_unlink") as program,
        pytest.raises(KernelError, match=r"^cannot attach program deny to inode_unlink: .* boot with lsm=lockdown,cap"),
    ):
        attach_tracing(program)


def test_what_is_not_there_by_btf() -> None:
    """An unknown function, hook, tracepoint or iterator is told when the program is loaded, by its name."""
    for program_type, hook, what in (
        (ProgramType.TRACING, AttachType.TRACE_FENTRY, "kernel function"),
        (ProgramType.TRACING, AttachType.TRACE_RAW_TP, "tracepoint"),
        (ProgramType.TRACING, AttachType.TRACE_ITER, "iterator"),
        (ProgramType.LSM, AttachType.LSM_MAC, "LSM hook"),
    ):
        with pytest.raises(
            KernelError, match=rf"^cannot load program deny: the kernel has no {what} 'nothing': "
        ) as caught:
            denying(program_type, hook, "nothing")
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(KernelError, match=r"^cannot load program deny: module no_module has no kernel function 'x'"):
        denying(ProgramType.TRACING, AttachType.TRACE_FENTRY, "no_module:x")


def test_a_program_that_does_not_say_where() -> None:
    """What is attached by BTF has to say to what, already when it is loaded."""
    spec = ProgramSpec(
        "lost", ProgramType.TRACING, AttachType.TRACE_FENTRY, "", (isa.mov_imm(0, 0), isa.exit_program()), {}
    )
    with pytest.raises(BpfError, match=r"^program lost needs attach_to: a function or tracepoint: \"tcp_connect\"$"):
        Program.load(spec)
