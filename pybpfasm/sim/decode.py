"""From instructions to closures: each instruction is looked at once, and run as often as wanted."""

from functools import lru_cache

import attrs

from pybpfasm.isa import Instruction
from pybpfasm.isa.instruction import LAST_REGISTER
from pybpfasm.isa.opcodes import FETCH, LD_IMM64, NOSPEC, Atomic, Class, Mode
from pybpfasm.isa.validity import DST, FIELDS, problem
from pybpfasm.sim import arithmetic, control, transfer
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.memory import ByteOrder
from pybpfasm.sim.operation import Operation, Place, refusal

_ALU = (Class.ALU, Class.ALU64)
_JUMPS = (Class.JMP, Class.JMP32)
_ATOMIC = Class.STX | Mode.ATOMIC

_CACHED_PROGRAMS = 64


@attrs.frozen(eq=False)
class Code:
    """A program that can run: an operation a slot, and one after the last for a program that does not stop there.

    `by_slot` has the instruction of each slot; the second slot of a wide one has none.
    """

    operations: tuple[Operation, ...] = attrs.field(repr=False)
    by_slot: tuple[Instruction | None, ...] = attrs.field(repr=False)

    @property
    def slots(self) -> int:
        """How many slots the program has."""
        return len(self.by_slot)


@lru_cache(maxsize=_CACHED_PROGRAMS)
def decode(instructions: tuple[Instruction, ...], order: ByteOrder) -> Code:
    """Closures for all instructions. One that is not valid is an error only where the program gets to it."""
    count = sum(instruction.slots for instruction in instructions)
    operations: list[Operation] = []
    by_slot: list[Instruction | None] = []
    for instruction in instructions:
        slot = len(operations)
        place = Place(slot, slot + instruction.slots, count)
        operations.append(_operation(instruction, place, order))
        by_slot.append(instruction)
        if instruction.slots > 1:
            operations.append(refusal("this is the second half of ld_imm64: no instruction begins here"))
            by_slot.append(None)
    operations.append(refusal("the program runs past its last instruction: it needs an exit"))
    return Code(tuple(operations), tuple(by_slot))


def _operation(instruction: Instruction, place: Place, order: ByteOrder) -> Operation:
    opcode, dst, src, offset, imm, _ = instruction
    group = opcode & 7
    if not 0 <= opcode <= 0xFF or dst < 0 or src < 0:
        return refusal(f"opcode {opcode} or a register is out of range")
    found = problem(opcode, dst, src, offset, imm)
    if found is not None:
        return refusal(found)
    if _written(instruction) == LAST_REGISTER:
        return refusal("r10 is the frame pointer, it cannot be changed")
    if opcode == NOSPEC:
        return control.go_to(place.following)
    try:
        if group in _ALU:
            return arithmetic.operation(instruction, place, order)
        if group in _JUMPS:
            return control.operation(instruction, place)
        return transfer.operation(instruction, place)
    except SimError as error:
        return refusal(error.what)


def _written(instruction: Instruction) -> int | None:
    """The register that an instruction names and changes."""
    opcode, dst, src, _, imm, _ = instruction
    group = opcode & 7
    if group in _ALU or group == Class.LDX or opcode == LD_IMM64:
        return dst if FIELDS[opcode] & DST else None
    if opcode & 0xE7 == _ATOMIC:
        if imm == Atomic.LOAD_ACQUIRE:
            return dst
        return src if imm & FETCH and imm != Atomic.CMPXCHG else None
    return None
