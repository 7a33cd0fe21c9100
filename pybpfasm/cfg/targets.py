"""Where one instruction may lead: by a jump, by a call, as a function's address (RFC 9669, sections 4.3 and 5.4)."""

from typing import NamedTuple

from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import CALL, JA, JA_LONG, JA_REGISTER, LD_IMM64, CallKind, Class, Jump, WideKind


class Target(NamedTuple):
    """A slot that an instruction leads to; what is neither a jump nor a call is the address of a function."""

    slot: int
    is_jump: bool = False
    is_call: bool = False


_ELSEWHERE = frozenset(map(int, (Jump.CALL, Jump.EXIT)))


def targets_of(slot: int, instruction: Instruction) -> list[Target] | None:
    """The slots that the instruction at `slot` names; None if it names a label still to be resolved.

    A jump through a register names none.
    """
    opcode, _, src, offset, imm, symbol = instruction
    if opcode == CALL and src == CallKind.FUNCTION:
        # A loaded program's dump has the distance in the offset, one still to be loaded in the immediate.
        return None if symbol else [Target(slot + 1 + (offset or imm), is_call=True)]
    if opcode == LD_IMM64 and src == WideKind.FUNC:
        return None if symbol else [Target(slot + 1 + _signed32(imm))]
    if opcode == JA_LONG:
        return None if symbol else [Target(slot + 1 + imm, is_jump=True)]
    if opcode & 7 not in (Class.JMP, Class.JMP32) or opcode & 0xF0 in _ELSEWHERE or opcode == JA_REGISTER:
        return []
    return None if symbol else [Target(slot + 1 + offset, is_jump=True)]


def is_conditional(instruction: Instruction) -> bool:
    """Whether it may jump and may as well go on to the next instruction."""
    opcode = instruction.opcode
    is_jump = opcode & 7 in (Class.JMP, Class.JMP32) and opcode & 0xF0 not in _ELSEWHERE
    return is_jump and opcode not in (JA, JA_LONG, JA_REGISTER)


def _signed32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
