"""What we print in LLVM's syntax is what llvm-objdump prints, instruction by instruction."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from isa_elf import objdump, printed, without_note
from isa_streams import OPCODES, streams
from isa_vectors import VECTORS

from pybpfasm import isa
from pybpfasm.isa import ByteOrder, Instruction
from pybpfasm.isa.validity import DST, FIELDS, IMM, OFFSET, SRC, problem

# What LLVM 19 has no words for: gotox, a per-CPU address, the kernel's nospec, load_acquire and store_release.
NOT_IN_LLVM_19 = {0x0D, 0xC2}
NEWER_ATOMICS = {0x100, 0x110}

REGISTERS = (0, 3, 10)
OFFSETS = (0, 1, 8, 16, 32, -1, -0x8000, 0x7FFF)
IMMEDIATES = (0, 1, 16, 32, 64, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1, -1, -0x80000000, 0x7FFFFFFF, 0x10001)
WIDE = (*IMMEDIATES, 1 << 32, 0x80000000, 1 << 63, 0x1122334455667788, (1 << 64) - 1, 0xFFFFFFFF)


def is_known(instruction: Instruction) -> bool:
    """Whether LLVM 19 prints it."""
    opcode, _, _, offset, imm, _ = instruction
    if opcode & 0xE7 == 0xC3:
        return imm not in NEWER_ATOMICS
    return opcode not in NOT_IN_LLVM_19 and not (opcode == 0xBF and offset == -1)


def exhaustive(opcode: int) -> list[Instruction]:
    """Every combination of the interesting values that is an instruction."""
    fields = FIELDS[opcode]
    immediates = [imm & (1 << 64) - 1 for imm in WIDE] if opcode == 0x18 else IMMEDIATES
    values = itertools.product(
        REGISTERS if fields & DST else (0,),
        range(11) if fields & SRC else (0,),
        OFFSETS if fields & OFFSET else (0,),
        immediates if fields & IMM else (0,),
    )
    made = (Instruction(opcode, *each) for each in values)
    return [each for each in made if problem(*each[:5]) is None and is_known(each)]


@pytest.mark.parametrize("order", ["little", "big"])
def test_every_instruction_is_printed_as_llvm_does(order: ByteOrder, tmp_path: Path) -> None:
    """All opcodes with all variants and the ends of each field's range; older tools' text is read back."""
    tool, version = objdump()
    instructions = [each for opcode in OPCODES for each in exhaustive(opcode)]
    lines = printed(tool, instructions, order, tmp_path)
    for instruction, line in zip(instructions, lines, strict=True):
        ours = isa.format_instruction(instruction, "llvm")
        if version >= 19:
            assert line == without_note(ours), instruction
        elif line and _is_v1(instruction):
            assert isa.parse(line, "llvm") == [instruction]


def _is_v1(instruction: Instruction) -> bool:
    """Of the first instruction set, which every LLVM prints without loss: no variants of later ones."""
    opcode, _, src, offset, _, _ = instruction
    plain = opcode & 7 in (4, 7) and not offset and opcode & 0xF0 != 0xD0
    return plain or opcode & 7 in (1, 2) or (opcode & 7 == 5 and opcode not in (0x85, 0x8D, 0xE5) and not src)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(streams)
def test_random_streams_are_printed_as_llvm_does(tmp_path: Path, instructions: list[Instruction]) -> None:
    """Random values in every field, too."""
    tool, version = objdump()
    if version < 19:
        pytest.skip(f"{tool} is of LLVM {version}: 19 or later is needed")
    known = [each for each in instructions if is_known(each)]
    if known:
        lines = printed(tool, known, "little", tmp_path)
        assert lines == [without_note(isa.format_instruction(each, "llvm")) for each in known]


def test_the_vectors_are_printed_as_llvm_does(tmp_path: Path) -> None:
    """The rows of the tables agree with the tool, not only with us."""
    tool, version = objdump()
    if version < 19:
        pytest.skip(f"{tool} is of LLVM {version}: 19 or later is needed")
    known = [vector for vector in VECTORS if is_known(vector.instruction)]
    lines = printed(tool, [vector.instruction for vector in known], "little", tmp_path)
    assert lines == [without_note(vector.llvm) for vector in known]
