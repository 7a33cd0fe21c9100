"""The vectors of the public suite bpf_conformance: a program in uBPF's syntax, memory, and what r0 has to be.

They are not part of this repository: PYBPFASM_CONFORMANCE names the folder with the .data files.
"""

import os
import re
from pathlib import Path

import attrs
import pytest

from pybpfasm.isa import Instruction, decode, parse

VARIABLE = "PYBPFASM_CONFORMANCE"
_SECTION = re.compile(r"^-- (\w[\w ]*)\n(.*?)(?=^-- |\Z)", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Vector:
    """One case; `memory` is None where the program is given none."""

    name: str
    instructions: tuple[Instruction, ...]
    memory: bytes | None
    result: int


def read_vector(path: Path) -> Vector:
    """Read a .data file."""
    sections = {name.strip(): body for name, body in _SECTION.findall(path.read_text())}
    instructions = tuple(parse(sections["asm"], "ubpf"))
    if "raw" in sections:
        slots = (int(word, 16) for word in sections["raw"].split())
        raw = b"".join(slot.to_bytes(8, "little") for slot in slots)
        assert tuple(decode(raw)) == instructions, path.name
    memory = bytes.fromhex(re.sub(r"#.*", "", sections["mem"])) if "mem" in sections else None
    return Vector(path.stem, instructions, memory, int(sections["result"].split()[0], 16))


def vectors() -> list[Vector]:
    """All of them, by name; none where the folder is not named."""
    folder = os.environ.get(VARIABLE)
    return [read_vector(path) for path in sorted(Path(folder).glob("*.data"))] if folder else []


def need_vectors(found: list[Vector]) -> None:
    """Skip where the folder is not named; fail where it is and holds something else than the suite."""
    if VARIABLE not in os.environ:
        pytest.skip(f"the suite bpf_conformance is not here: set {VARIABLE} to its folder of .data files")
    assert len(found) >= 313
