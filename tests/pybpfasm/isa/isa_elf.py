"""The smallest object that llvm-objdump disassembles, and what it prints of it."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pybpfasm import isa
from pybpfasm.isa import ByteOrder, Instruction

EM_BPF, ET_REL = 247, 1
_ROW = re.compile(r"\s*(\d+):\t(.*)")
# llvm-objdump's names of places, and our notes of what LLVM's syntax has no words for.
_NOTE = re.compile(r"\s*<[^<>]*>$")


def objdump() -> tuple[str, int]:
    """The newest llvm-objdump on PATH and its version; without one the test is skipped."""
    found = [
        name for name in ("llvm-objdump", *(f"llvm-objdump-{each}" for each in range(30, 10, -1))) if shutil.which(name)
    ]
    versions = {name: _version(name) for name in found}
    if not versions:
        pytest.skip("llvm-objdump is not on PATH: install llvm 19 or later")
    best = max(versions, key=lambda name: versions[name])
    return best, versions[best]


def _version(tool: str) -> int:
    printed = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"LLVM version (\d+)", printed)
    assert found is not None
    return int(found[1])


def relocatable(code: bytes, order: ByteOrder) -> bytes:
    """An ELF object for BPF with one section, .text."""
    o = "<" if order == "little" else ">"
    names = b"\0.text\0.shstrtab\0"
    start = 64
    headers = start + len(code) + len(names)
    ident = b"\x7fELF" + bytes([2, 1 if order == "little" else 2, 1]) + bytes(9)
    header = struct.pack(f"{o}HHIQQQIHHHHHH", ET_REL, EM_BPF, 1, 0, 0, headers, 0, 64, 0, 0, 64, 3, 2)

    def section(name: int, kind: int, flags: int, at: int, size: int, alignment: int) -> bytes:
        return struct.pack(f"{o}IIQQQQIIQQ", name, kind, flags, 0, at, size, 0, 0, alignment, 0)

    text = section(1, 1, 6, start, len(code), 8)
    strings = section(7, 3, 0, start + len(code), len(names), 1)
    return ident + header + code + names + bytes(64) + text + strings


def printed(tool: str, instructions: list[Instruction], order: ByteOrder, folder: Path) -> list[str]:
    """One line an instruction; empty for those that the tool does not know."""
    path = folder / "stream.o"
    path.write_bytes(relocatable(isa.encode(instructions, order), order))
    command = [tool, "-d", "--mcpu=v4", "--no-show-raw-insn", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {int(found[1]): found[2] for found in map(_ROW.fullmatch, output.splitlines()) if found}
    lines, slot = [], 0
    for each in instructions:
        lines.append(without_note(rows.get(slot, "")).strip())
        slot += each.slots
    return [line if line != "<unknown>" else "" for line in lines]


def without_note(line: str) -> str:
    """A line without what stands behind it in angle brackets."""
    return _NOTE.sub("", line)
