"""Programs that the kernel holds: `dis id:N` and `dis PIN`, and what they are made of."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_outcome import ROOT, Command

from pybpfasm.errors import KernelError
from pybpfasm.isa import CallKind, Instruction, parse
from pybpfasm.isa.opcodes import CALL
from pybpfasm.kernel import Map, Program
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, MapType, ProgramType

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
COUNTS = MapSpec("counts", MapType.ARRAY, Untyped(4), Untyped(8), 1)


def spec(text: str) -> ProgramSpec:
    """A socket filter."""
    return ProgramSpec(
        "filter", ProgramType.SOCKET_FILTER, AttachType(0), "__sk_buff", tuple(parse(text)), {"counts": COUNTS}
    )


@pytest.fixture
def program() -> Iterator[Program]:
    """That filter, loaded."""
    with (
        Map.create(COUNTS) as counts,
        Program.load(spec("r1 = map[counts]\nr0 = 5\nexit"), {"counts": counts}) as loaded,
    ):
        yield loaded


@needs_root
def test_a_program_by_its_id(program: Program) -> None:
    """Name, type and instructions of a loaded program; its map has its id."""
    info = program.info()
    with Program.by_id(info.id) as found:
        assert (found.spec.name, found.spec.type) == ("filter", ProgramType.SOCKET_FILTER)
        (map_id,) = info.map_ids
        assert found.xlated() == tuple(parse(f"r1 = map[id:{map_id}]\nr0 = 5\nexit"))


@needs_root
def test_a_pinned_program(program: Program, bpffs: Path) -> None:
    """The same by its pin."""
    program.pin(bpffs / "filter")
    with Program.open(bpffs / "filter") as found:
        assert found.info().id == program.info().id
        assert found.xlated() == program.xlated()


@needs_root
def test_what_is_no_program(bpffs: Path) -> None:
    """No such id, nothing pinned, a map pinned: each says which."""
    with pytest.raises(KernelError, match="there is no program with id 4294967295") as caught:
        Program.by_id(0xFFFFFFFF)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(KernelError, match="there is no program with id 0"):
        Program.by_id(0)
    with pytest.raises(KernelError, match="cannot open pin"):
        Program.open(bpffs / "nothing")
    with Map.create(COUNTS) as counts:
        counts.pin(bpffs / "counts")
        with pytest.raises(KernelError, match="another kind of object"):
            Program.open(bpffs / "counts")


@needs_root
def test_dis_of_loaded_programs(cli: Command, program: Program, bpffs: Path) -> None:
    """By id and by pin the same lines; `asm` reads them."""
    program.pin(bpffs / "filter")
    done = cli("dis", f"id:{program.info().id}")
    assert done.text.startswith("; filter\n   0: (18) r1 = map[id:")
    assert cli("dis", bpffs / "filter").out == done.out
    assert cli("asm", stdin=done.out).status == 0
    assert "entry" not in cli("cfg", bpffs / "filter").text


@needs_root
def test_calls_of_helpers_have_names(cli: Command) -> None:
    """The kernel shows a call as a distance: the name comes from its symbols."""
    with Program.load(spec("call bpf_get_prandom_u32\nexit"), {}) as loaded:
        calls = [each for each in loaded.xlated() if each.opcode == CALL and each.src == CallKind.HELPER]
        text = cli("dis", f"id:{loaded.info().id}").text
    if not calls or calls[0].imm == 0:
        pytest.skip("this kernel shows no addresses (kptr_restrict)")
    assert "call bpf_" in text
    assert "unknown" not in text


@needs_root
def test_functions_of_a_loaded_program(cli: Command) -> None:
    """A call keeps its distance; the graph has both functions."""
    with Program.load(spec("call f\nexit\nf:\nr0 = 1\nexit"), {}) as loaded:
        assert loaded.xlated()[0][:4] == Instruction(int(CALL), 0, CallKind.FUNCTION, 1)[:4]
        assert "function · slot 2" in cli("cfg", f"id:{loaded.info().id}").text


@needs_root
def test_no_such_program(cli: Command) -> None:
    """An id that is none, and one that nothing has."""
    cli("dis", "id:4294967295").failed(1, "there is no program with id 4294967295")
    cli("dis", "id:four").failed(1, "an id is a number")


@needs_root
def test_without_the_privilege(program: Program) -> None:
    """Another user is told what it takes, and sees no traceback."""
    # What the command imports may be unreadable for that user, too: it is imported before.
    script = (
        "import os, sys; from pybpfasm.cli import main; main(['dis', 'id:4294967295']); sys.stderr.flush();"
        f"os.setuid(65534); sys.exit(main(['dis', 'id:{program.info().id}']))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    _, complaint = result.stderr.splitlines()
    assert complaint.startswith("pybpfasm: cannot open program ")
    assert "it needs root" in complaint
