"""One instruction, and how it lies in memory (RFC 9669, section 3; little endian as on x86-64 and arm64).

    byte  0       1         2    3     4      5      6      7
    +--------+----+----+---------+-----------------------------+
    | opcode |src |dst | offset  |          immediate          |
    +--------+----+----+---------+-----------------------------+

`ld_imm64` takes two such slots: the immediate's low half stands in the first, its high half in the second.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from pybpfasm.errors import BpfError
from pybpfasm.isa.opcodes import (
    BYTES_OF_SIZE,
    LD_IMM64,
    PSEUDO_MAP_FD,
    SIZE_OF_BYTES,
    Alu,
    Class,
    Jump,
    K,
    Mode,
    Size,
    X,
)

_SLOT = struct.Struct("<BBhi")
_MASK64 = (1 << 64) - 1

# The frame pointer; the encoding has room for more.
LAST_REGISTER = 10


class EncodingError(BpfError, ValueError):
    """An instruction that has no encoding, or bytes that are no instruction; the text names the slot."""


class Instruction(NamedTuple):
    """One instruction. `offset` is signed 16 bits, `imm` signed 32 (64 for ld_imm64).

    `symbol` is a name still to be resolved: of a map for ld_imm64, of a label for a jump.
    """

    opcode: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    imm: int = 0
    symbol: str | None = None

    @property
    def slots(self) -> int:
        """How many 8-byte slots the instruction takes: 2 for ld_imm64, else 1."""
        return 2 if self.opcode == LD_IMM64 else 1


def mov(dst: int, source: int, *, bits: int = 64) -> Instruction:
    """Copy register `source` to `dst`; 32 bits clear the upper half."""
    return Instruction(_alu_class(bits) | Alu.MOV | X, dst, source)


def mov_imm(dst: int, imm: int, *, bits: int = 64) -> Instruction:
    """Set `dst` to a signed 32-bit immediate, sign-extended to 64 bits (or zero-extended with bits=32)."""
    return Instruction(_alu_class(bits) | Alu.MOV | K, dst, imm=imm)


def alu(code: Alu, dst: int, source: int, *, bits: int = 64) -> Instruction:
    """`dst = dst code source`, both registers."""
    return Instruction(_alu_class(bits) | code | X, dst, source)


def alu_imm(code: Alu, dst: int, imm: int, *, bits: int = 64) -> Instruction:
    """`dst = dst code imm`; the immediate is sign-extended to 64 bits."""
    return Instruction(_alu_class(bits) | code | K, dst, imm=imm)


def neg(dst: int) -> Instruction:
    """`dst = -dst`, 64 bits."""
    return Instruction(Class.ALU64 | Alu.NEG, dst)


def to_big_endian(dst: int, bits: int) -> Instruction:
    """Swap the low 16, 32 or 64 bits of `dst` between host and network order; the bits above become zero."""
    if bits not in (16, 32, 64):
        raise EncodingError(f"a swap of {bits} bits: 16, 32 and 64 are possible")
    return Instruction(Class.ALU | Alu.END | X, dst, imm=bits)


def load(size: int, dst: int, base: int, offset: int) -> Instruction:
    """`dst = *(base + offset)`, `size` bytes, zero-extended."""
    return Instruction(Class.LDX | Mode.MEM | _size_code(size), dst, base, offset)


def store(size: int, base: int, offset: int, source: int) -> Instruction:
    """`*(base + offset) = source`, the low `size` bytes of a register."""
    return Instruction(Class.STX | Mode.MEM | _size_code(size), base, source, offset)


def store_imm(size: int, base: int, offset: int, imm: int) -> Instruction:
    """`*(base + offset) = imm`; for 8 bytes the 32-bit immediate is sign-extended."""
    return Instruction(Class.ST | Mode.MEM | _size_code(size), base, offset=offset, imm=imm)


def load_imm64(dst: int, imm: int) -> Instruction:
    """Set `dst` to any 64-bit value (two slots)."""
    return Instruction(LD_IMM64, dst, imm=imm)


def load_map(dst: int, name: str) -> Instruction:
    """Set `dst` to the map called `name`; its file descriptor is filled in at load time (two slots)."""
    return Instruction(LD_IMM64, dst, PSEUDO_MAP_FD, symbol=name)


def call(helper: int) -> Instruction:
    """Call a helper function by number: arguments in r1 to r5, result in r0."""
    return Instruction(Class.JMP | Jump.CALL, imm=helper)


def exit_program() -> Instruction:
    """Return from the program with r0."""
    return Instruction(Class.JMP | Jump.EXIT)


def jump(label: str) -> Instruction:
    """Go to `label`."""
    return Instruction(Class.JMP | Jump.JA, symbol=label)


def jump_if(code: Jump, dst: int, source: int, label: str, *, bits: int = 64) -> Instruction:
    """Go to `label` if `dst code source` holds between two registers."""
    return Instruction(_jump_class(bits) | code | X, dst, source, symbol=label)


def jump_if_imm(code: Jump, dst: int, imm: int, label: str, *, bits: int = 64) -> Instruction:
    """Go to `label` if `dst code imm` holds; the immediate is sign-extended to `bits`."""
    return Instruction(_jump_class(bits) | code | K, dst, imm=imm, symbol=label)


def _size_code(size: int) -> Size:
    if size not in SIZE_OF_BYTES:
        raise EncodingError(f"an access of {size} bytes: 1, 2, 4 and 8 are possible")
    return SIZE_OF_BYTES[size]


def _alu_class(bits: int) -> Class:
    return Class.ALU64 if bits == 64 else Class.ALU


def _jump_class(bits: int) -> Class:
    return Class.JMP if bits == 64 else Class.JMP32


def encode(instructions: Iterable[Instruction]) -> bytes:
    """The instructions as the kernel takes them: 8 bytes a slot, little endian.

    Raises `EncodingError` for a field out of range or a symbol that is not resolved.
    """
    parts: list[bytes] = []
    slot = 0
    for instruction in instructions:
        opcode, dst, src, offset, imm, symbol = instruction
        if symbol is not None:
            raise EncodingError(f"slot {slot}: symbol {symbol!r} is not resolved")
        if not (0 <= dst <= LAST_REGISTER and 0 <= src <= LAST_REGISTER):
            raise EncodingError(f"slot {slot}: register out of range in {instruction}")
        try:
            if opcode == LD_IMM64:
                low, high = _halves(imm)
                parts.append(_SLOT.pack(opcode, src << 4 | dst, offset, low) + _SLOT.pack(0, 0, 0, high))
                slot += 2
            else:
                parts.append(_SLOT.pack(opcode, src << 4 | dst, offset, imm))
                slot += 1
        except struct.error as error:
            raise EncodingError(f"slot {slot}: offset or immediate out of range in {instruction}") from error
    return b"".join(parts)


def _halves(imm: int) -> tuple[int, int]:
    if not -(1 << 63) <= imm <= _MASK64:
        raise struct.error("wider than 64 bits")
    return struct.unpack("<ii", struct.pack("<Q", imm & _MASK64))


def decode(data: bytes) -> list[Instruction]:
    """The instructions in `data`; the inverse of `encode`, for opcodes of this module.

    A 64-bit immediate comes back unsigned. Raises `EncodingError` naming the slot for anything that is no instruction.
    """
    if len(data) % 8:
        raise EncodingError(f"slot {len(data) // 8}: {len(data) % 8} bytes left over, a slot has 8")
    slots = list(_SLOT.iter_unpack(data))
    instructions: list[Instruction] = []
    index = 0
    while index < len(slots):
        opcode, registers, offset, imm = slots[index]
        if opcode == LD_IMM64:
            imm = _second_half(slots, index) << 32 | imm & 0xFFFFFFFF
        elif not is_known(opcode):
            raise EncodingError(f"slot {index}: opcode {opcode:#04x} is not known")
        instruction = Instruction(opcode, registers & 15, registers >> 4, offset, imm)
        _check_variant(index, instruction)
        instructions.append(instruction)
        index += instruction.slots
    return instructions


def _check_variant(slot: int, instruction: Instruction) -> None:
    """Refuse what shares an opcode with an instruction of this module and means something else."""
    opcode, dst, src, offset, _, _ = instruction
    if dst > LAST_REGISTER or src > LAST_REGISTER:
        raise EncodingError(f"slot {slot}: register r{max(dst, src)} does not exist, r{LAST_REGISTER} is the last")
    if opcode & 7 in (Class.ALU, Class.ALU64) and offset:
        raise EncodingError(
            f"slot {slot}: opcode {opcode:#04x} with offset {offset} (signed division or move) is not known"
        )
    if opcode == Class.JMP | Jump.CALL and src:
        raise EncodingError(f"slot {slot}: a call of kind {src} is not known, only helpers are called")


def _second_half(slots: list[tuple[int, ...]], index: int) -> int:
    if index + 1 == len(slots):
        raise EncodingError(f"slot {index}: ld_imm64 lacks its second slot")
    opcode, registers, offset, high = slots[index + 1]
    if opcode or registers or offset:
        raise EncodingError(f"slot {index + 1}: the second slot of ld_imm64 carries only an immediate")
    return high & 0xFFFFFFFF


def is_known(opcode: int) -> bool:
    """Whether the opcode byte is one that this module can name."""
    return opcode in _KNOWN


def _known_opcodes() -> frozenset[int]:
    known = {LD_IMM64, Class.JMP | Jump.CALL, Class.JMP | Jump.EXIT, Class.JMP | Jump.JA}
    for code in Alu:
        for group in (Class.ALU, Class.ALU64):
            known |= {group | code | K, group | code | X}
    known -= {Class.ALU64 | Alu.END | K, Class.ALU64 | Alu.END | X, Class.ALU | Alu.NEG | X, Class.ALU64 | Alu.NEG | X}
    for jump_code in set(Jump) - {Jump.JA, Jump.CALL, Jump.EXIT}:
        for group in (Class.JMP, Class.JMP32):
            known |= {group | jump_code | K, group | jump_code | X}
    for size in BYTES_OF_SIZE:
        known |= {group | Mode.MEM | size for group in (Class.LDX, Class.ST, Class.STX)}
    return frozenset(int(opcode) for opcode in known)


_KNOWN = _known_opcodes()
