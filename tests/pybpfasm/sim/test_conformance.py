"""The public suite bpf_conformance: every vector ends in the interpreter with the result that the suite expects.

PYBPFASM_CONFORMANCE names the folder of its .data files.
"""

import os
from pathlib import Path

import pytest

from pybpfasm import isa, sim

FOLDER = os.environ.get("PYBPFASM_CONFORMANCE")
FILES = sorted(Path(FOLDER).glob("*.data")) if FOLDER else []


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section by its name, `-- asm` and so on, without comments between them."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("-- "):
            current = found.setdefault(line[3:].strip(), [])
        else:
            current.append(line)
    return found


def instructions(vector: dict[str, list[str]]) -> list[isa.Instruction]:
    """The program: what is in `asm`, else the slots in `raw`."""
    if "asm" in vector:
        return isa.parse("\n".join(vector["asm"]), "ubpf")
    slots = [int(line.partition("#")[0], 16) for line in vector["raw"] if line.partition("#")[0].strip()]
    return isa.decode(b"".join(slot.to_bytes(8, "little") for slot in slots))


def memory(vector: dict[str, list[str]]) -> bytes | None:
    """The bytes that r1 points to."""
    return bytes.fromhex(" ".join(vector["mem"])) if "mem" in vector else None


@pytest.mark.skipif(not FOLDER, reason="PYBPFASM_CONFORMANCE is not set: it names bpf_conformance's folder tests/")
def test_the_suite_is_there() -> None:
    """The folder that is named holds the whole suite."""
    assert len(FILES) >= 313


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    """One vector of the suite gives its result."""
    vector = sections(path.read_text())
    expected = int(vector["result"][0], 16)
    assert sim.run(instructions(vector), mem=memory(vector)).ret == expected & (1 << 64) - 1
