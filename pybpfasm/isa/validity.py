"""Which instructions there are: the opcodes, the fields that each uses, and the variants that share one.

A field that an instruction does not use is zero, as the kernel demands (kernel/bpf/verifier.c).
"""

from collections.abc import Callable

from pybpfasm.isa.instruction import LAST_REGISTER
from pybpfasm.isa.opcodes import (
    ADDR_SPACE_CAST_OFFSET,
    CALL,
    CALL_REGISTER,
    EXIT,
    FETCH,
    JA,
    JA_LONG,
    JA_REGISTER,
    LD_IMM64,
    MAY_GOTO,
    MOV32_X,
    MOV64_X,
    NOSPEC,
    PER_CPU_OFFSET,
    Alu,
    Atomic,
    CallKind,
    Class,
    Jump,
    K,
    Mode,
    Size,
    WideKind,
    X,
)

# Fields that an instruction may use. VARIANT: some values of them are other instructions, or none.
DST, SRC, OFFSET, IMM, VARIANT = 1, 2, 4, 8, 16

UNKNOWN = -1

ATOMICS = frozenset(Atomic) | {code | FETCH for code in (Atomic.ADD, Atomic.OR, Atomic.AND, Atomic.XOR)}
_ORDERED = frozenset((Atomic.LOAD_ACQUIRE, Atomic.STORE_RELEASE))


def _fields_by_opcode() -> list[int]:
    fields = [UNKNOWN] * 256
    for group in (Class.ALU, Class.ALU64):
        for code in set(Alu) - {Alu.NEG, Alu.END}:
            fields[group | code | K] = DST | IMM
            fields[group | code | X] = DST | SRC
        for code in (Alu.DIV, Alu.MOD):
            fields[group | code | K] |= OFFSET | VARIANT
            fields[group | code | X] |= OFFSET | VARIANT
        fields[group | Alu.NEG] = DST
        fields[group | Alu.END | K] = DST | IMM | VARIANT
    fields[Class.ALU | Alu.END | X] = DST | IMM | VARIANT
    fields[MOV32_X] |= OFFSET | VARIANT
    fields[MOV64_X] |= OFFSET | IMM | VARIANT
    for group in (Class.JMP, Class.JMP32):
        for jump in set(Jump) - {Jump.JA, Jump.CALL, Jump.EXIT, Jump.JCOND}:
            fields[group | jump | K] = DST | OFFSET | IMM
            fields[group | jump | X] = DST | SRC | OFFSET
    fields[JA] = OFFSET
    fields[JA_LONG] = IMM
    fields[JA_REGISTER] = fields[CALL_REGISTER] = DST
    fields[CALL] = SRC | OFFSET | IMM | VARIANT
    fields[EXIT] = fields[NOSPEC] = 0
    fields[MAY_GOTO] = OFFSET
    fields[LD_IMM64] = DST | SRC | IMM | VARIANT
    for size in Size:
        fields[Class.LDX | Mode.MEM | size] = DST | SRC | OFFSET
        fields[Class.STX | Mode.MEM | size] = DST | SRC | OFFSET
        fields[Class.ST | Mode.MEM | size] = DST | OFFSET | IMM
        fields[Class.STX | Mode.ATOMIC | size] = DST | SRC | OFFSET | IMM | VARIANT
        if size != Size.DW:
            fields[Class.LDX | Mode.MEMSX | size] = DST | SRC | OFFSET
            fields[Class.LD | Mode.ABS | size] = IMM
            fields[Class.LD | Mode.IND | size] = SRC | IMM
    return fields


FIELDS = _fields_by_opcode()


def problem(opcode: int, dst: int, src: int, offset: int, imm: int) -> str | None:
    """Why these fields are no instruction; None if they are one."""
    fields = FIELDS[opcode]
    if fields == UNKNOWN:
        return f"opcode {opcode:#04x} is not known"
    if max(dst, src) > LAST_REGISTER:
        return f"register r{max(dst, src)} does not exist, r{LAST_REGISTER} is the last"
    used = (dst, DST, "destination"), (src, SRC, "source"), (offset, OFFSET, "offset"), (imm, IMM, "immediate")
    for value, bit, name in used:
        if value and not fields & bit:
            return f"opcode {opcode:#04x} has no {name}, and here it is {value}"
    return _VARIANTS[opcode](opcode, src, offset, imm) if fields & VARIANT else None


def _division(opcode: int, src: int, offset: int, imm: int) -> str | None:  # noqa: ARG001 - one shape for all
    return None if offset in (0, 1) else f"division has offset 0 or, signed, 1, not {offset}"


def _swap(opcode: int, src: int, offset: int, imm: int) -> str | None:  # noqa: ARG001 - one shape for all
    return None if imm in (16, 32, 64) else f"a swap has 16, 32 or 64 bits, not {imm}"


def _move(opcode: int, src: int, offset: int, imm: int) -> str | None:  # noqa: ARG001 - one shape for all
    wide = opcode == MOV64_X
    if imm and not (wide and offset == ADDR_SPACE_CAST_OFFSET):
        return f"a move between registers has no immediate, and here it is {imm}"
    if offset in (0, 8, 16) or (wide and offset in (32, ADDR_SPACE_CAST_OFFSET, PER_CPU_OFFSET)):
        return None
    return f"a move that extends the sign has offset 8, 16{' or 32' if wide else ''}, not {offset}"


def _call(opcode: int, src: int, offset: int, imm: int) -> str | None:  # noqa: ARG001 - one shape for all
    if src > CallKind.KFUNC:
        return f"a call of kind {src} is not known, 0 (helper), 1 (function) and 2 (kfunc) are"
    if src == CallKind.HELPER and offset:
        return f"a call of a helper has no offset, and here it is {offset}"
    return None


def _wide(opcode: int, src: int, offset: int, imm: int) -> str | None:  # noqa: ARG001 - one shape for all
    if src > WideKind.MAP_INDEX_VALUE:
        return f"ld_imm64 of kind {src} is not known, 0 to {WideKind.MAP_INDEX_VALUE.value} are"
    if imm >> 32 and src in (WideKind.MAP_FD, WideKind.FUNC, WideKind.MAP_INDEX):
        return f"ld_imm64 of kind {src} has no upper half, and here it is {imm >> 32:#x}"
    return None


def _atomic(opcode: int, src: int, offset: int, imm: int) -> str | None:  # noqa: ARG001 - one shape for all
    if imm not in ATOMICS:
        return f"an atomic instruction {imm:#x} is not known"
    if opcode & 0x18 in (Size.B, Size.H) and imm not in _ORDERED:
        return "an atomic instruction has 32 or 64 bits"
    return None


_VARIANTS: dict[int, Callable[[int, int, int, int], str | None]] = {
    **{group | code | x: _division for group in (4, 7) for code in (Alu.DIV, Alu.MOD) for x in (K, X)},
    **dict.fromkeys((Class.ALU | Alu.END, Class.ALU | Alu.END | X, Class.ALU64 | Alu.END), _swap),
    MOV32_X: _move,
    MOV64_X: _move,
    CALL: _call,
    LD_IMM64: _wide,
    **{Class.STX | Mode.ATOMIC | size: _atomic for size in Size},
}
