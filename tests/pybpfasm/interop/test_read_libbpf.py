"""What we link is what libbpf links: the kernel gives both the same tag."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from pybpfasm_interop import COMPILERS, compiled, tool

from pybpfasm.interop import read_elf, write_elf
from pybpfasm.isa import Instruction, encode


@pytest.mark.parametrize("compiler", COMPILERS)
def test_linked_programs_are_libbpfs(compiler: str, tmp_path: Path, bpffs: Path) -> None:
    """Every instruction of linked.c is as libbpf has it, as we read the object and as we write it again."""
    data = compiled("linked", tmp_path, compiler=compiler)
    read = read_elf(data)
    first = _loaded(data, tmp_path / "first.o", bpffs / "first")
    again = _loaded(write_elf(read), tmp_path / "again.o", bpffs / "again")
    assert set(first) == set(again) == set(read.programs)
    for name, program in read.programs.items():
        assert first[name] in _tags(program.instructions), name
        assert again[name] == first[name], name


def _loaded(data: bytes, path: Path, folder: Path) -> dict[str, str]:
    """The tags of an object's programs, loaded by bpftool."""
    bpftool = tool("bpftool")
    path.write_bytes(data)
    command = [bpftool, "prog", "loadall", str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {pin.name: _tag(pin) for pin in folder.iterdir()}


def _tag(pin: Path) -> str:
    shown = subprocess.run(["bpftool", "-j", "prog", "show", "pinned", str(pin)], capture_output=True, check=True)
    return str(json.loads(shown.stdout)["tag"])


def _tags(instructions: tuple[Instruction, ...]) -> set[str]:
    """SHA-1, or from Linux 6.18 SHA-256, of the instructions without maps' numbers."""
    data = encode([each if each.symbol is None else each._replace(symbol=None, imm=0) for each in instructions])
    return {hashlib.sha1(data).hexdigest()[:16], hashlib.sha256(data).hexdigest()[:16]}  # noqa: S324 - the kernel's
