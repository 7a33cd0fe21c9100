"""Which registers an instruction reads: to name the one that has no value."""

from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import CALL_REGISTER, Alu, Atomic, Class, Mode, X

_CONTEXT_REGISTER = 6
_MODE_BITS = 0xE0


def registers_read(instruction: Instruction) -> tuple[int, ...]:
    """The registers that the instruction itself reads, in the order in which it names them; a call's are not."""
    opcode, dst, src, _, imm, _ = instruction
    group = opcode & 7
    if group in (Class.ALU, Class.ALU64):
        return _of_alu(opcode, dst, src)
    if group in (Class.JMP, Class.JMP32):
        if opcode == CALL_REGISTER:
            return (dst,)
        return (dst, src) if opcode & X else (dst,)
    if group == Class.LDX:
        return (src,)
    if group == Class.ST:
        return (dst,)
    if group == Class.LD:
        return (src, _CONTEXT_REGISTER) if opcode & _MODE_BITS == Mode.IND else (_CONTEXT_REGISTER,)
    if opcode & _MODE_BITS == Mode.ATOMIC and imm in (Atomic.LOAD_ACQUIRE, Atomic.CMPXCHG):
        return (src,) if imm == Atomic.LOAD_ACQUIRE else (dst, src, 0)
    return dst, src


def _of_alu(opcode: int, dst: int, src: int) -> tuple[int, ...]:
    code = opcode & 0xF0
    if code == Alu.MOV:
        return (src,)
    return (dst, src) if opcode & X and code not in (Alu.NEG, Alu.END) else (dst,)
