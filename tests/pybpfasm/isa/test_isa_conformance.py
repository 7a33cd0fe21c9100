"""The public suite bpf_conformance is written in uBPF's syntax: all of it is read."""

import os
from pathlib import Path

import pytest

from pybpfasm import isa

FOLDER = os.environ.get("PYBPFASM_CONFORMANCE")


def assembly(path: Path) -> str | None:
    """A file's section `-- asm`, if it has one."""
    sections = path.read_text().split("-- asm\n")
    return sections[1].partition("\n--")[0] if len(sections) > 1 else None


def test_the_suite_is_read() -> None:
    """Every program of the suite parses, and what it parses to is printed and encoded and comes back."""
    if FOLDER is None:
        pytest.skip("PYBPFASM_CONFORMANCE is not set: it names the folder of bpf_conformance's tests, *.data")
    files = sorted(Path(FOLDER).glob("*.data"))
    assert len(files) >= 313
    programs = {path.name: isa.parse(text, "ubpf") for path in files if (text := assembly(path)) is not None}
    assert len(programs) == len(files)
    for name, program in programs.items():
        assert program, name
        assert isa.decode(isa.encode(program)) == program, name
        assert isa.parse(isa.format(program)) == program, name
        assert isa.parse(isa.format(program, "llvm"), "llvm") == program, name
