"""CO-RE relocations come out as libbpf's: bpftool loads the same object, and its log has each number."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pybpfasm_interop import compiled, tool

from pybpfasm.btf import kernel_btf
from pybpfasm.interop import read_elf
from pybpfasm.isa import Class, Instruction

_PATCHED = re.compile(r"prog '(\w+)': relo #\d+: patched insn #(\d+) \((\S+)\) (\S+) (-?\d+) -> (-?\d+)")
_WIDTH = re.compile(r"prog '(\w+)': relo #\d+: patched insn #(\d+) \(LDX/ST/STX\) mem_sz (\d+) -> (\d+)")
_POISONED = re.compile(r"prog '(\w+)': relo #\d+: substituting insn #(\d+) w/ invalid insn")
_BYTES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


@pytest.mark.parametrize("compiler", ["clang-14", "clang-19"])
def test_every_relocation_has_libbpfs_number(compiler: str, tmp_path: Path, bpffs: Path) -> None:
    """Each immediate, offset, width and poisoned instruction of core.c is what libbpf makes of it for this kernel."""
    data = compiled("core", tmp_path, compiler=compiler)
    path = tmp_path / "core.o"
    path.write_bytes(data)
    command = [tool("bpftool"), "-d", "prog", "loadall", str(path), str(bpffs / "core")]
    log = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    programs = {
        name: dict(_by_slot(program.instructions))
        for name, program in read_elf(data, target=kernel_btf()).programs.items()
    }
    patched = _PATCHED.findall(log)
    assert len({(name, slot) for name, slot, *_ in patched}) > 40
    poisoned = {(name, int(slot)) for name, slot in _POISONED.findall(log)}
    for name, slot, form, field, _, number in patched:
        if field != "mem_sz" and (name, int(slot)) not in poisoned:
            assert _number(programs[name][int(slot)], form) == int(number), f"{name}, slot {slot}"
    for name, slot, _, width in _WIDTH.findall(log):
        assert _BYTES[programs[name][int(slot)].opcode & 0x18] == int(width), f"{name}, slot {slot}"
    assert poisoned
    for name, slot in poisoned:
        assert (programs[name][slot].opcode, programs[name][slot].imm) == (0x85, 195896080), f"{name}, slot {slot}"


def _by_slot(instructions: tuple[Instruction, ...]) -> Iterator[tuple[int, Instruction]]:
    slot = 0
    for instruction in instructions:
        yield slot, instruction
        slot += instruction.slots


def _number(instruction: Instruction, form: str) -> int:
    assert (instruction.opcode & 7 in (Class.LDX, Class.ST, Class.STX)) == (form == "LDX/ST/STX")
    return instruction.offset if form == "LDX/ST/STX" else instruction.imm
