"""Iterators: what their programs write is read as a file."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybpfasm import isa
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import Alu, Jump, Label
from pybpfasm.kernel import features
from pybpfasm.kernel.btf_objects import vmlinux
from pybpfasm.kernel.features import Feature
from pybpfasm.kernel.links import IteratorLink, attach_iterator
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, LinkType, MapType, ProgramType

# Their programs may write to what they go through, which kernel lockdown forbids.
ENTRIES = Feature(
    "iterators of a map's entries",
    "5.9",
    lambda: features.loading_for(ProgramType.TRACING, AttachType.TRACE_ITER, "bpf_map_elem"),
    "CONFIG_DEBUG_INFO_BTF",
)

pytestmark = pytest.mark.needs(features.ITERATORS)

# struct bpf_iter__task and bpf_iter__bpf_map_elem: meta, then what is gone through; struct bpf_iter_meta: seq first.
META, TASK, KEY = 0, 8, 16


def task_iterator(letter: str = "t") -> Program:
    """Writes a letter and the thread group's id (4 bytes) for each task."""
    tgid = vmlinux().field("task_struct.tgid").byte_offset
    code = (
        isa.load(8, 6, 1, META),
        isa.load(8, 7, 1, TASK),
        isa.jump_if_imm(Jump.JEQ, 7, 0, "out"),
        isa.load(4, 8, 7, tgid),
        isa.store_imm(4, 10, -8, ord(letter)),
        isa.store(4, 10, -4, 8),
        isa.load(8, 1, 6, 0),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -8),
        isa.mov_imm(3, 8),
        isa.call(Helper.SEQ_WRITE),
        Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return iterator("tasks", "task", code)


def entry_iterator() -> Program:
    """Writes the key of each entry of a map with keys of 4 bytes."""
    code = (
        isa.load(8, 6, 1, META),
        isa.load(8, 7, 1, KEY),
        isa.jump_if_imm(Jump.JEQ, 7, 0, "out"),
        isa.load(8, 1, 6, 0),
        isa.mov(2, 7),
        isa.mov_imm(3, 4),
        isa.call(Helper.SEQ_WRITE),
        Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    return iterator("entries", "bpf_map_elem", code)


def iterator(name: str, kind: str, code: tuple[isa.Instruction | Label, ...]) -> Program:
    """An iterator's program, in the kernel."""
    return Program.load(
        ProgramSpec(
            name,
            ProgramType.TRACING,
            AttachType.TRACE_ITER,
            f"bpf_iter__{kind}",
            tuple(isa.resolve_labels(code)),
            {},
            attach_to=kind,
        )
    )


@pytest.fixture
def entries() -> Iterator[Map]:
    """A hash with three entries."""
    with Map.create(MapSpec("entries", MapType.HASH, Untyped(4), Untyped(8), 8)) as made:
        for number in (3, 5, 7):
            made.update(number.to_bytes(4, "little"), bytes(8))
        yield made


def tasks(data: bytes) -> set[int]:
    """The thread groups in what a task iterator wrote."""
    return {int.from_bytes(data[at + 4 : at + 8], "little") for at in range(0, len(data), 8)}


def test_tasks() -> None:
    """Every reading goes through the tasks that there are: this process is among them, and so is its child."""
    with task_iterator() as program, attach_iterator(program) as link:
        with subprocess.Popen(["sleep", "60"]) as child:
            found = tasks(link.read())
            child.kill()
        assert {os.getpid(), child.pid} <= found
        assert child.pid not in tasks(link.read())
        with link.open_stream() as stream:
            assert stream.read(1) == b"t"
        assert (link.info().type, link.info().name) == (LinkType.ITER, "task")
        assert link.info().program_id == program.info().id


def _going_through_one_process() -> str | None:
    """Make such an iterator, which attaches nothing."""
    with task_iterator() as program:
        try:
            attach_iterator(program, pid=os.getpid()).close()
        except KernelError as error:
            return str(error)
    return None


@pytest.mark.needs(Feature("iterators of one process's threads", "6.1", _going_through_one_process))
def test_tasks_of_one_process() -> None:
    """Only the threads of the process are gone through; of one that is not there, none."""
    with task_iterator() as program:
        with attach_iterator(program, pid=os.getpid()) as link:
            assert tasks(link.read()) == {os.getpid()}
        with attach_iterator(program, pid=(1 << 22) + 1) as link:
            assert link.read() == b""


@pytest.mark.needs(ENTRIES)
def test_entries_of_a_map(entries: Map) -> None:
    """Each entry of the map once; the info has the map's id."""
    with entry_iterator() as program, attach_iterator(program, map_=entries) as link:
        data = link.read()
        assert sorted(data[at] for at in range(0, len(data), 4)) == [3, 5, 7]
        assert (link.info().name, link.info().target) == ("bpf_map_elem", entries.info().id)


@pytest.mark.needs(ENTRIES)
def test_an_iterator_without_its_map(entries: Map) -> None:
    """One that goes through entries wants a map, and one thing only is gone through."""
    with entry_iterator() as program:
        with pytest.raises(KernelError, match=r"^cannot make an iterator of program entries: .*a map"):
            attach_iterator(program)
        with pytest.raises(BpfError, match="one thing"):
            attach_iterator(program, map_=entries, pid=1)


def test_a_pinned_iterator_is_a_file(bpffs: Path) -> None:
    """Whoever reads its pin runs it; opened as a link it can be read, too, and another program put in place."""
    with task_iterator() as program, attach_iterator(program) as link:
        link.pin(bpffs / "tasks")
    assert os.getpid() in tasks((bpffs / "tasks").read_bytes())
    with IteratorLink.open(bpffs / "tasks") as adopted, task_iterator("u") as other:
        adopted.update(other)
        assert adopted.read().startswith(b"u")
        assert adopted.info().program_id == other.info().id


def test_a_program_that_is_no_iterator() -> None:
    """Another program is refused before the kernel is asked."""
    code = (isa.mov_imm(0, 0), isa.exit_program())
    spec = ProgramSpec("other", ProgramType.XDP, AttachType.XDP, "xdp_md", code, {})
    with Program.load(spec) as program, pytest.raises(BpfError, match=r"it is loaded for xdp$"):
        attach_iterator(program)
