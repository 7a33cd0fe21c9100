"""Which registers an instruction changes (RFC 9669)."""

from pybpfasm.isa.instruction import Instruction
from pybpfasm.isa.opcodes import FETCH, Atomic, Class, Jump, Mode

_CLASS, _OPERATION, _MODE = 0x07, 0xF0, 0xE0

# A call's result, and the arguments, which are lost.
CALL_CHANGES = frozenset(range(6))


def changed_registers(instruction: Instruction) -> frozenset[int]:
    """The registers that an instruction changes; those that a call loses are among them."""
    class_ = instruction.opcode & _CLASS
    mode = instruction.opcode & _MODE
    if class_ in (Class.ALU, Class.ALU64, Class.LDX):
        return frozenset((instruction.dst,))
    if class_ == Class.LD:
        return CALL_CHANGES if mode in (Mode.ABS, Mode.IND) else frozenset((instruction.dst,))
    if class_ == Class.JMP and instruction.opcode & _OPERATION == Jump.CALL:
        return CALL_CHANGES
    if class_ == Class.STX and mode == Mode.ATOMIC:
        return _changed_by_atomic(instruction)
    return frozenset()


def _changed_by_atomic(instruction: Instruction) -> frozenset[int]:
    if instruction.imm == Atomic.CMPXCHG:
        return frozenset((0,))
    if instruction.imm == Atomic.LOAD_ACQUIRE:
        return frozenset((instruction.dst,))
    fetches = instruction.imm != Atomic.STORE_RELEASE and instruction.imm & FETCH
    return frozenset((instruction.src,)) if fetches else frozenset()
