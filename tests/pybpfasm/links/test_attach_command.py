"""`python -m pybpfasm attach` to what only links have: tracing, netkit, netfilter, struct_ops; by the effect of each.

The places that it shares with `load` are in tests/pybpfasm/cli/test_kernel_commands.py.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from link_kinds import LinkKind
from probe_library import PLAIN, PLAIN_PLACES, PROVIDER, ProbeLibrary
from small_network import Namespace, Wire
from small_programs import UNBOUND, count, returning
from test_tracing_struct_ops import NAME, STRUCT, avoiding, member, transfer
from tracing_kinds import SAMPLE_PERIOD_NS, TRACING_KINDS

from pybpfasm import isa
from pybpfasm.cli import main
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, LinkType, ProgramType, TcxAction

_PATIENCE_SECONDS = 10

# What names the place of each kind of the conformance suite; {} is the scene's target, a file for probes of one.
PLACES = {
    "raw tracepoint": ["--raw-tracepoint", "task_rename"],
    "tp_btf": ["--own"],
    "tracepoint": ["--tracepoint", "task/task_rename"],
    "kprobe": ["--kprobe", "vfs_unlink"],
    "kretprobe": ["--kprobe", "vfs_unlink", "--return"],
    "kprobe.multi": ["--kprobes", "vfs_unlink,vfs_rmdir"],
    "uprobe": ["--uprobe", "{}:probed"],
    "uretprobe": ["--uprobe", "{}:probed", "--return", "--pid", str(os.getpid())],
    "uprobe.multi": ["--uprobes", "{}:probed"],
    "USDT": ["--usdt", "{}:pybpfasm_test:guarded"],
    "fentry": ["--own"],
    "fexit": ["--own"],
    "fmod_ret": ["--own"],
    "LSM": ["--own"],
    "perf event": ["--perf-event", "task-clock", "--pid", str(os.getpid()), "--period", str(SAMPLE_PERIOD_NS)],
}


@pytest.fixture(autouse=True)
def _tell_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands read nothing here."""
    monkeypatch.setattr(sys, "stdin", None)


def command(*arguments: object) -> int:
    """Run a command in this process; its exit status."""
    try:
        return main([str(each) for each in arguments])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def _refuses(capsys: pytest.CaptureFixture[str], status: int, *parts: str) -> Callable[..., None]:
    """A check that a command fails with one line that says all of these."""

    def check(*arguments: object) -> None:
        capsys.readouterr()
        assert command(*arguments) == status
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("pybpfasm: ")
        assert said.err.count("\n") == 1
        assert all(each in said.err for each in parts), said.err

    return check


@pytest.mark.parametrize(
    "kind",
    [pytest.param(each, marks=pytest.mark.needs(*each.needs, *each.link), id=each.name) for each in TRACING_KINDS],
)
def test_tracing(kind: LinkKind, counts: Map, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pinned program runs at the place from the command on, until the link's pin is removed."""
    link = bpffs / "link"
    with kind.scene() as scene:
        with kind.program(counts, 0) as program:
            program.pin(bpffs / "program")
        place = [each.format(scene.target) for each in PLACES[kind.name]]
        assert command("attach", bpffs / "program", *place, "--pin", link) == 0, capsys.readouterr().err
        scene.trigger()
        assert count(counts) > 0
        capsys.readouterr()
        assert command("link", "show", link, "--json") == 0
        assert json.loads(capsys.readouterr().out)["type"] == kind.type.name.lower()
        link.unlink()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            before = count(counts)
            scene.trigger()
            if count(counts) == before:
                break
            assert time.monotonic() < deadline


@pytest.fixture
def library(tmp_path: Path) -> Iterator[ProbeLibrary]:
    """A file with a function and probe points; a colon and a blank in its name."""
    made = ProbeLibrary(tmp_path / "a: library")
    yield made
    made.close()


def _pinned(path: Path, type_: ProgramType, hook: AttachType = UNBOUND, attach_to: str | None = None) -> Path:
    """A program that returns 0, kept by its pin."""
    code = (isa.mov_imm(0, 0), isa.exit_program())
    with Program.load(ProgramSpec("nothing", type_, hook, "ctx", code, {}, attach_to=attach_to)) as program:
        program.pin(path)
    return path


@pytest.mark.needs(features.UPROBES, features.PERF_LINK)
def test_places_in_a_file(library: ProbeLibrary, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By an offset of the file, and by one in a function; what is not there is told in one line."""
    program = _pinned(bpffs / "program", ProgramType.KPROBE)
    for number, place in enumerate((f"{PLAIN_PLACES[0]:#x}", f"probed+{PLAIN_PLACES[0] - 0x1000}")):
        link = bpffs / f"link{number}"
        assert command("attach", program, "--uprobe", f"{library.path}:{place}", "--pin", link, "--cookie", 7) == 0
    pin = ("--pin", bpffs / "link")
    _refuses(capsys, 1, "nothing", str(library.path))("attach", program, "--uprobe", f"{library.path}:nothing", *pin)
    _refuses(capsys, 1, "/nowhere", "ENOENT")("attach", program, "--uprobe", "/nowhere:probed", *pin)
    _refuses(capsys, 2, "PATH:FUNCTION")("attach", program, "--uprobe", "probed", *pin)
    _refuses(capsys, 2, "as in probed+0x12")("attach", program, "--uprobe", f"{library.path}:probed+x", *pin)
    _refuses(capsys, 2, "PATH:PROVIDER:NAME")("attach", program, "--usdt", "libc", *pin)
    usdt = f"{library.path}:{PROVIDER}"
    _refuses(capsys, 1, "no probe point")("attach", program, "--usdt", f"{usdt}:nothing", *pin)
    said = "the probe point is at 2 places: one link for all takes a program that was loaded for trace_uprobe_multi"
    _refuses(capsys, 1, said)("attach", program, "--usdt", f"{usdt}:{PLAIN}", *pin)
    assert not (bpffs / "link").exists()


@pytest.mark.parametrize(
    ("place", "status", "parts"),
    [
        (["--raw-tracepoint", "nothing"], 1, ["raw tracepoint", "kprobe"]),
        (["--tracepoint", "task_rename"], 1, ["has to have its category: sched/sched_switch"]),
        (["--kprobes", "a,,b"], 2, ["--kprobes a,,b", "single commas"]),
        (["--kprobe", "+4"], 2, ["name a function"]),
        (["--uprobe", "/bin/true:main", "--pid", "-1"], 2, ["-1 is less than 0"]),
        (["--iterator"], 1, ["nothing"]),
        (["--iterator", "--of-map", "4000000000"], 1, ["no map with id 4000000000"]),
        (["--own"], 1, ["cannot attach program nothing as one of tracing: it is of type kprobe"]),
        (["--netfilter", "middle"], 2, ["--netfilter middle: there are pre-routing, local-in"]),
        (["--netfilter", "local-in", "--return"], 2, ["--return is for --kprobe", "not for --netfilter"]),
        (["--netkit-primary", "nothing0"], 1, ["nothing0", "ENODEV"]),
        (["--perf-event", "boredom", "--cpu", "0", "--period", "1"], 2, ["there are cpu-clock, task-clock"]),
        (["--perf-event", "cpu-clock", "--period", "1"], 2, ["say --cpu or --pid"]),
        (["--perf-event", "cpu-clock", "--cpu", "0"], 2, ["say --period, or --frequency"]),
        (["--perf-event", "cpu-clock", "--cpu", "9999", "--period", "1"], 1, ["perf event cpu-clock"]),
        (["--struct-ops", "tcp_congestion_ops"], 2, ["by --member"]),
        (["--xdp", "lo", "--member", "a=b"], 2, ["--member is for --struct-ops, not for --xdp"]),
        (["--own", "--cookie", "x"], 2, ["'x' is no number"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_told(
    bpffs: Path, capsys: pytest.CaptureFixture[str], place: list[str], status: int, parts: list[str]
) -> None:
    """A place that is none, one for other programs, options that do not go together: one line, and nothing is left."""
    program = _pinned(bpffs / "program", ProgramType.KPROBE)
    _refuses(capsys, status, *parts)("attach", program, *place, "--pin", bpffs / "link")
    assert not (bpffs / "link").exists()


def test_a_kernel_without_kprobes_says_what_it_was_built_without(
    bpffs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The version alone would say nothing to who has a newer kernel."""
    from pybpfasm.kernel.links import probe_events

    monkeypatch.setattr(probe_events, "_PMUS", tmp_path)
    program = _pinned(bpffs / "program", ProgramType.KPROBE)
    said = "this kernel does not support kprobes: it needs Linux 4.17 or later, built with CONFIG_KPROBES"
    _refuses(capsys, 1, said)("attach", program, "--kprobe", "vfs_unlink", "--pin", bpffs / "link")


def test_a_program_has_to_be_named(bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But for a struct of functions."""
    _refuses(capsys, 2, "which program")("attach", "--own", "--pin", bpffs / "link")


@pytest.mark.needs(features.ITERATORS)
def test_an_iterator(bpffs: Path) -> None:
    """Its pin is a file, and reading it runs the program."""
    program = _pinned(bpffs / "program", ProgramType.TRACING, AttachType.TRACE_ITER, "task")
    assert command("attach", program, "--iterator", "--pin", bpffs / "tasks") == 0
    assert (bpffs / "tasks").read_bytes() == b""


def test_output_that_cannot_be_written_undoes_it(
    bpffs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A command that fails leaves no link behind."""
    program = _pinned(bpffs / "program", ProgramType.RAW_TRACEPOINT)
    place = ("--raw-tracepoint", "task_rename", "--pin", bpffs / "link")
    _refuses(capsys, 1, "cannot be written")("attach", program, *place, "-o", tmp_path / "no" / "file")
    assert not (bpffs / "link").exists()


@pytest.mark.needs(features.NETFILTER_LINK)
def test_netfilter(wire: Wire, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Packets that come in are dropped as long as the pin is there; a priority is one program's."""
    with returning(ProgramType.NETFILTER, AttachType.NETFILTER, 0) as drop:
        drop.pin(bpffs / "drop")
    place = ["--netfilter", "local-in", "--family", "ipv4", "--priority", "-7"]
    assert wire.passes()
    assert wire.right.run(lambda: command("attach", bpffs / "drop", *place, "--pin", bpffs / "link")) == 0
    assert wire.drops()
    again = _refuses(capsys, 1, "another program has this hook and priority", "EBUSY")
    wire.right.run(lambda: again("attach", bpffs / "drop", *place, "--pin", bpffs / "other"))
    assert command("link", "show", bpffs / "link", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["type"], shown["priority"]) == (LinkType.NETFILTER.name.lower(), -7)
    (bpffs / "link").unlink()
    _soon(lambda: not wire.drops())


@pytest.mark.needs(features.NETKIT_LINK)
@pytest.mark.parametrize("end", ["primary", "peer"])
def test_netkit(bpffs: Path, capsys: pytest.CaptureFixture[str], end: str) -> None:
    """Either end's hook is taken by the name of the primary: what that one sends is dropped, or goes on."""
    wire = Wire("netkit")
    try:
        with returning(ProgramType.SCHED_CLS, UNBOUND, TcxAction.DROP) as drop:
            drop.pin(bpffs / "drop")
        place = [f"--netkit-{end}", "wire0"]
        assert wire.passes()
        assert wire.left.run(lambda: command("attach", bpffs / "drop", *place, "--pin", bpffs / "link")) == 0
        assert wire.drops() if end == "primary" else wire.passes()
        capsys.readouterr()
        assert command("link", "show", bpffs / "link", "--json") == 0
        assert json.loads(capsys.readouterr().out)["attach_type"] == f"netkit_{end}"
        (bpffs / "link").unlink()
        _soon(lambda: not wire.drops())
    finally:
        wire.close()


@pytest.mark.needs(features.STRUCT_OPS, features.STRUCT_OPS_LINK)
def test_struct_ops(namespace: Namespace, counts: Map, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A congestion control of three pinned programs is there as long as its link's pin."""
    window = (isa.mov_imm(0, 16), isa.exit_program())
    for name, program in (
        ("ssthresh", member("ssthresh", window, {})),
        ("undo_cwnd", member("undo_cwnd", window, {})),
        ("cong_avoid", avoiding(counts, 0)),
    ):
        with program:
            program.pin(bpffs / name)
    members = [f"--member={name}={bpffs / name}" for name in ("ssthresh", "undo_cwnd", "cong_avoid")]
    place = ["--struct-ops", STRUCT, f"--value=name={NAME}", "--pin", bpffs / "link"]
    _refuses(capsys, 1, "a function that must be there is missing")("attach", *place, members[0])
    _refuses(capsys, 2, "write --member NAME=")("attach", *place, "--member", "ssthresh")
    _refuses(capsys, 1, "no struct_ops called nothing")("attach", "--struct-ops", "nothing", "--pin", bpffs / "link")
    assert command("attach", *place, *members) == 0
    transfer(namespace)
    assert count(counts) > 0
    (bpffs / "link").unlink()
    _soon(lambda: not _has_congestion_control(namespace))


def _has_congestion_control(namespace: Namespace) -> bool:
    with namespace.socket(socket.SOCK_STREAM) as client:
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, NAME.encode())
        except FileNotFoundError:
            return False
    return True


def _soon(happens: Callable[[], bool]) -> None:
    """The kernel ends a link a little after its last pin has gone."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)
