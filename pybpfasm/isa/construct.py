"""Instructions by what they do: one function a family.

Registers are numbers, r0 to r10. Immediates are signed 32 bits, sign-extended to 64 where the operation has 64; an
operation of 32 bits takes 0 to 0xffffffff as well. Widths of memory are in bytes, offsets in bytes, jumps go to labels.
Raises `EncodingError` for a width that does not exist; fields out of range are found when encoded.
"""

from typing import NoReturn

from pybpfasm.isa.instruction import MASK64, EncodingError, Instruction
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
    SIGNED_OFFSET,
    SIZE_OF_BYTES,
    Alu,
    Atomic,
    CallKind,
    Class,
    Jump,
    K,
    Mode,
    WideKind,
    X,
)


class _Opcodes(dict[int, int]):
    """Opcodes by the width that the caller gives."""

    def __init__(self, what: str, opcodes: dict[int, int]) -> None:
        super().__init__(opcodes)
        self._what = what

    def __missing__(self, width: int) -> NoReturn:
        *but_last, last = map(str, self)
        raise EncodingError(f"{self._what % width}: {', '.join(but_last)} and {last} are possible")


def _by_size(opcode: int, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> _Opcodes:
    return _Opcodes("an access of %s bytes", {size: opcode | SIZE_OF_BYTES[size] for size in sizes})


def _by_bits(narrow: int, wide: int) -> _Opcodes:
    return _Opcodes("an operation of %s bits", {32: int(narrow), 64: int(wide)})


# Plain numbers: arithmetic with enum members is slow.
_ALU = _by_bits(Class.ALU, Class.ALU64)
_MOV = _by_bits(MOV32_X, MOV64_X)
_JMP = _by_bits(Class.JMP32, Class.JMP)
_LOAD = _by_size(Class.LDX | Mode.MEM)
_LOAD_SIGNED = _by_size(Class.LDX | Mode.MEMSX, (1, 2, 4))
_STORE = _by_size(Class.STX | Mode.MEM)
_STORE_IMM = _by_size(Class.ST | Mode.MEM)
_ORDERED = _by_size(Class.STX | Mode.ATOMIC)
_ATOMIC = _by_size(Class.STX | Mode.ATOMIC, (4, 8))
_ABSOLUTE = _by_size(Class.LD | Mode.ABS, (1, 2, 4))
_INDIRECT = _by_size(Class.LD | Mode.IND, (1, 2, 4))
_SWAP_TO_BIG, _SWAP_TO_LITTLE, _SWAP = Class.ALU | Alu.END | X, Class.ALU | Alu.END | K, Class.ALU64 | Alu.END
_XCHG, _CMPXCHG = int(Atomic.XCHG), int(Atomic.CMPXCHG)

_OPERATIONS = frozenset(
    group | code | source for group in _ALU.values() for code in set(Alu) - {Alu.NEG, Alu.END} for source in (K, X)
)
_CONDITIONS = frozenset(
    group | code | source
    for group in _JMP.values()
    for code in set(Jump) - {Jump.JA, Jump.CALL, Jump.EXIT, Jump.JCOND}
    for source in (K, X)
)


def mov(dst: int, source: int, *, bits: int = 64) -> Instruction:
    """`dst = source`, both registers; 32 bits clear the upper half."""
    return Instruction(_MOV[bits], dst, source)


def mov_imm(dst: int, imm: int, *, bits: int = 64) -> Instruction:
    """`dst = imm`, sign-extended to 64 bits (with bits=32 the upper half is cleared)."""
    return alu_imm(Alu.MOV, dst, imm, bits=bits)


def mov_signed(dst: int, source: int, width: int, *, bits: int = 64) -> Instruction:
    """`dst` = the low `width` bits of `source`, 8, 16 or 32, sign-extended to `bits` (Linux 6.6).

    Raises `EncodingError` for another width.
    """
    if bits in _MOV and (width not in (8, 16, 32) or width >= bits):
        raise EncodingError(f"a sign of {width} bits in a move of {bits}: 8 and 16 are possible, 32 with 64")
    return Instruction(_MOV[bits], dst, source, width)


def alu(code: Alu, dst: int, source: int, *, bits: int = 64, signed: bool = False) -> Instruction:
    """`dst = dst code source`, both registers; signed division and modulo from Linux 6.6."""
    opcode = _ALU[bits] | code | X
    if opcode not in _OPERATIONS:
        raise _no_operation(code)
    return Instruction(opcode, dst, source, _signed_offset(code) if signed else 0)


def alu_imm(code: Alu, dst: int, imm: int, *, bits: int = 64, signed: bool = False) -> Instruction:
    """`dst = dst code imm`; signed division and modulo from Linux 6.6."""
    opcode = _ALU[bits] | code
    if opcode not in _OPERATIONS:
        raise _no_operation(code)
    return Instruction(
        opcode, dst, 0, _signed_offset(code) if signed else 0, imm if bits == 64 else _immediate_of_32(imm)
    )


def neg(dst: int, *, bits: int = 64) -> Instruction:
    """`dst = -dst`."""
    return Instruction(_ALU[bits] | Alu.NEG, dst)


def to_big_endian(dst: int, bits: int) -> Instruction:
    """Convert the low 16, 32 or 64 bits of `dst` between host and network order; the bits above become zero."""
    return Instruction(_SWAP_TO_BIG, dst, 0, 0, _swapped(bits))


def to_little_endian(dst: int, bits: int) -> Instruction:
    """Convert the low 16, 32 or 64 bits of `dst` between host and little endian order; the bits above become zero."""
    return Instruction(_SWAP_TO_LITTLE, dst, 0, 0, _swapped(bits))


def byte_swap(dst: int, bits: int) -> Instruction:
    """Reverse the low 16, 32 or 64 bits' bytes on any machine; the bits above become zero (Linux 6.6)."""
    return Instruction(_SWAP, dst, 0, 0, _swapped(bits))


def addr_space_cast(dst: int, source: int, into: int, out_of: int) -> Instruction:
    """`dst` = the pointer `source` of address space `out_of` as one of `into`; 1 is an arena's (Linux 6.9)."""
    return Instruction(MOV64_X, dst, source, ADDR_SPACE_CAST_OFFSET, into << 16 | out_of)


def load(size: int, dst: int, base: int, offset: int) -> Instruction:
    """`dst = *(base + offset)`, `size` bytes, zero-extended."""
    return Instruction(_LOAD[size], dst, base, offset)


def load_signed(size: int, dst: int, base: int, offset: int) -> Instruction:
    """`dst = *(base + offset)`, `size` bytes (1, 2 or 4), sign-extended (Linux 6.6)."""
    return Instruction(_LOAD_SIGNED[size], dst, base, offset)


def store(size: int, base: int, offset: int, source: int) -> Instruction:
    """`*(base + offset) = source`, the low `size` bytes of a register."""
    return Instruction(_STORE[size], base, source, offset)


def store_imm(size: int, base: int, offset: int, imm: int) -> Instruction:
    """`*(base + offset) = imm`; for 8 bytes the 32-bit immediate is sign-extended."""
    return Instruction(_STORE_IMM[size], base, 0, offset, imm)


def atomic(code: Atomic, size: int, base: int, offset: int, source: int, *, fetch: bool = False) -> Instruction:
    """`*(base + offset) code= source`, 4 or 8 bytes, at once; `fetch` (Linux 5.12) has the old value in `source`."""
    return Instruction(_ATOMIC[size], base, source, offset, code | (FETCH if fetch else 0))


def exchange(size: int, base: int, offset: int, source: int) -> Instruction:
    """Exchange `source` and `*(base + offset)`, 4 or 8 bytes, at once (Linux 5.12)."""
    return Instruction(_ATOMIC[size], base, source, offset, _XCHG)


def compare_exchange(size: int, base: int, offset: int, source: int) -> Instruction:
    """If `*(base + offset)` equals r0 it becomes `source`; r0 becomes what it was (Linux 5.12)."""
    return Instruction(_ATOMIC[size], base, source, offset, _CMPXCHG)


def load_acquire(size: int, dst: int, base: int, offset: int) -> Instruction:
    """`dst = *(base + offset)`, and nothing that follows happens before it (Linux 6.14)."""
    return Instruction(_ORDERED[size], dst, base, offset, Atomic.LOAD_ACQUIRE)


def store_release(size: int, base: int, offset: int, source: int) -> Instruction:
    """`*(base + offset) = source`, and nothing that comes before it happens after it (Linux 6.14)."""
    return Instruction(_ORDERED[size], base, source, offset, Atomic.STORE_RELEASE)


def load_packet(size: int, offset: int) -> Instruction:
    """r0 = `size` bytes (1, 2 or 4) of the packet at `offset`, converted from network order; r6 holds the skb."""
    return Instruction(_ABSOLUTE[size], 0, 0, 0, offset)


def load_packet_indirect(size: int, register: int, offset: int = 0) -> Instruction:
    """r0 = `size` bytes (1, 2 or 4) of the packet at `register + offset`, from network order; r6 holds the skb."""
    return Instruction(_INDIRECT[size], 0, register, 0, offset)


def load_imm64(dst: int, imm: int) -> Instruction:
    """Set `dst` to any 64-bit value (two slots)."""
    return Instruction(LD_IMM64, dst, 0, 0, imm & MASK64)


def load_map(dst: int, name: str) -> Instruction:
    """Set `dst` to the map called `name`; its file descriptor is filled in at load time (two slots)."""
    return _wide(dst, WideKind.MAP_FD, 0, name)


def load_map_value(dst: int, name: str, offset: int = 0) -> Instruction:
    """Set `dst` to the address `offset` bytes into the value of the one-entry array `name` (two slots)."""
    return _wide(dst, WideKind.MAP_VALUE, (offset & 0xFFFFFFFF) << 32, name)


def load_map_index(dst: int, index: int) -> Instruction:
    """Set `dst` to the map at `index` of the load's array of descriptors (two slots)."""
    return _wide(dst, WideKind.MAP_INDEX, index)


def load_map_index_value(dst: int, index: int, offset: int = 0) -> Instruction:
    """Set `dst` to the address `offset` bytes into the value of the map at `index` (two slots)."""
    return _wide(dst, WideKind.MAP_INDEX_VALUE, (offset & 0xFFFFFFFF) << 32 | index)


def load_function(dst: int, label: str) -> Instruction:
    """Set `dst` to the address of the function at `label`, for a helper that calls back (two slots; Linux 5.13)."""
    return _wide(dst, WideKind.FUNC, 0, label)


def load_kernel_variable(dst: int, name: str) -> Instruction:
    """Set `dst` to the address of a kernel variable, by its BTF (two slots; Linux 5.10)."""
    return _wide(dst, WideKind.BTF_ID, 0, name)


def call(helper: int) -> Instruction:
    """Call a helper function by number: arguments in r1 to r5, result in r0."""
    return Instruction(CALL, 0, 0, 0, helper)


def call_function(label: str) -> Instruction:
    """Call the function at `label`: arguments in r1 to r5, result in r0, r6 to r9 as they were."""
    return Instruction(CALL, src=CallKind.FUNCTION, symbol=label)


def call_kfunc(name: str) -> Instruction:
    """Call a function of the kernel by name; its BTF id is filled in at load time (Linux 5.13)."""
    return Instruction(CALL, src=CallKind.KFUNC, symbol=name)


def call_register(register: int) -> Instruction:
    """Call the helper whose number, or the function whose address, is in a register (no kernel takes it)."""
    return Instruction(CALL_REGISTER, register)


def exit_program() -> Instruction:
    """Return from the program, or from a function, with r0."""
    return Instruction(EXIT)


def jump(label: str) -> Instruction:
    """Go to `label`, at most 32,767 slots away."""
    return Instruction(JA, 0, 0, 0, 0, label)


def jump_long(label: str) -> Instruction:
    """Go to `label`, however far it is (Linux 6.6)."""
    return Instruction(JA_LONG, symbol=label)


def jump_register(register: int) -> Instruction:
    """Go to the address in a register, one of an array of instructions."""
    return Instruction(JA_REGISTER, register)


def may_goto(label: str) -> Instruction:
    """Go to `label` once the kernel's limit of iterations is reached (Linux 6.9)."""
    return Instruction(MAY_GOTO, symbol=label)


def jump_if(code: Jump, dst: int, source: int, label: str, *, bits: int = 64) -> Instruction:
    """Go to `label` if `dst code source` holds between two registers."""
    opcode = _JMP[bits] | code | X
    if opcode not in _CONDITIONS:
        raise _no_condition(code)
    return Instruction(opcode, dst, source, 0, 0, label)


def jump_if_imm(code: Jump, dst: int, imm: int, label: str, *, bits: int = 64) -> Instruction:
    """Go to `label` if `dst code imm` holds."""
    opcode = _JMP[bits] | code
    if opcode not in _CONDITIONS:
        raise _no_condition(code)
    return Instruction(opcode, dst, 0, 0, imm if bits == 64 else _immediate_of_32(imm), label)


def _wide(dst: int, kind: WideKind, imm: int, symbol: str | None = None) -> Instruction:
    return Instruction(LD_IMM64, dst, kind, 0, imm, symbol)


def _no_operation(code: Alu) -> EncodingError:
    return EncodingError(
        f"{code.name} has not two operands: neg, to_big_endian, to_little_endian and byte_swap have one"
    )


def _no_condition(code: Jump) -> EncodingError:
    return EncodingError(f"{code.name} is no condition: jump, call, exit_program and may_goto make the others")


def _signed_offset(code: Alu) -> int:
    if code not in (Alu.DIV, Alu.MOD):
        raise EncodingError(f"{code.name} has no signed form: DIV and MOD have")
    return SIGNED_OFFSET


def _immediate_of_32(imm: int) -> int:
    return imm - (1 << 32) if 0x7FFFFFFF < imm <= 0xFFFFFFFF else imm


def _swapped(bits: int) -> int:
    if bits not in (16, 32, 64):
        raise EncodingError(f"a swap of {bits} bits: 16, 32 and 64 are possible")
    return bits
