"""Instructions in memory.

    byte  0       1         2    3     4      5      6      7
    +--------+----+----+---------+-----------------------------+
    | opcode |src |dst | offset  |          immediate          |    little endian
    | opcode |dst |src | offset  |          immediate          |    big endian
    +--------+----+----+---------+-----------------------------+

`ld_imm64` takes two such slots: the immediate's low half stands in the first, its high half in the second.
"""

import struct
from collections.abc import Iterable
from typing import Literal

from pybpfasm.isa.instruction import LAST_REGISTER, MASK64, EncodingError, Instruction
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.isa.validity import DST, FIELDS, IMM, OFFSET, SRC, VARIANT, problem

ByteOrder = Literal["little", "big"]

SLOT_BYTES = 8
_SLOT = struct.Struct("<BBhi")

# The registers' byte with its halves exchanged.
_EXCHANGED = bytes(byte >> 4 | (byte & 15) << 4 for byte in range(256))
_REGISTERS = [(byte & 15, byte >> 4) for byte in range(256)]
# Which fields a registers' byte fills; an opcode that does not use one of these is looked at more closely.
_FILLED = [(DST if byte & 15 else 0) | (SRC if byte >> 4 else 0) for byte in range(256)]
_BEYOND = frozenset(byte for byte in range(256) if byte & 15 > LAST_REGISTER or byte >> 4 > LAST_REGISTER)
_LD_IMM64 = int(LD_IMM64)


def encode(instructions: Iterable[Instruction], byteorder: ByteOrder = "little") -> bytes:
    """The instructions as the kernel takes them: 8 bytes a slot.

    Raises `EncodingError` for a field out of range or a symbol that is not resolved.
    """
    parts: list[bytes] = []
    append, pack = parts.append, _SLOT.pack
    slot = 0
    for opcode, dst, src, offset, imm, symbol in instructions:
        if symbol is not None:
            raise EncodingError(f"slot {slot}: symbol {symbol!r} is not resolved")
        if dst > LAST_REGISTER or src > LAST_REGISTER:  # some of these can be packed
            raise EncodingError(f"slot {slot}: {_out_of_range(opcode, dst, src, offset, imm)}")
        try:
            if opcode == _LD_IMM64:
                low, high = _halves(imm)
                append(pack(opcode, src << 4 | dst, offset, low) + pack(0, 0, 0, high))
                slot += 2
            else:
                append(pack(opcode, src << 4 | dst, offset, imm))
                slot += 1
        except struct.error:
            fields = (opcode, dst, src, offset, imm)
            raise EncodingError(f"slot {slot}: {_out_of_range(*fields)}") from None
    data = b"".join(parts)
    return data if byteorder == "little" else _of_other_order(data, byteorder)


def decode(data: bytes, byteorder: ByteOrder = "little") -> list[Instruction]:
    """The instructions in `data`; the inverse of `encode`. A 64-bit immediate comes back unsigned.

    Raises `EncodingError` naming the slot for anything that is no instruction.
    """
    if len(data) % SLOT_BYTES:
        left = len(data) % SLOT_BYTES
        raise EncodingError(f"slot {len(data) // SLOT_BYTES}: {left} bytes left over, a slot has {SLOT_BYTES}")
    if byteorder != "little":
        data = _of_other_order(data, byteorder)
    instructions: list[Instruction] = []
    append, new = instructions.append, tuple.__new__
    fields_of, registers_of, filled = FIELDS, _REGISTERS, _FILLED
    slots = _SLOT.iter_unpack(data)
    for opcode, registers, offset, imm in slots:
        fields = fields_of[opcode]
        dst, src = registers_of[registers]
        if opcode == _LD_IMM64:
            imm = _joined(imm, next(slots, None), instructions)
        if (
            fields & VARIANT  # as in UNKNOWN
            or filled[registers] & ~fields
            or (offset and not fields & OFFSET)
            or (imm and not fields & IMM)
            or registers in _BEYOND
        ):
            found = problem(opcode, dst, src, offset, imm)
            if found is not None:
                raise EncodingError(f"slot {_slot_of(instructions)}: {found}")
        append(new(Instruction, (opcode, dst, src, offset, imm, None)))
    return instructions


def _of_other_order(data: bytes, byteorder: ByteOrder) -> bytes:
    if byteorder != "big":
        raise ValueError(f"byte order {byteorder!r} is not known: little and big are")
    return exchange_byteorder(bytes(data))


def exchange_byteorder(data: bytes) -> bytes:
    """Slots of one byte order as slots of the other."""
    exchanged = bytearray(data)
    exchanged[1::8] = data[1::8].translate(_EXCHANGED)
    exchanged[2::8], exchanged[3::8] = data[3::8], data[2::8]
    for byte in range(4):
        exchanged[4 + byte :: 8] = data[7 - byte :: 8]
    return bytes(exchanged)


def _joined(low: int, second: tuple[int, ...] | None, before: list[Instruction]) -> int:
    """The immediate of ld_imm64 from its two slots."""
    if second is None:
        raise EncodingError(f"slot {_slot_of(before)}: ld_imm64 lacks its second slot")
    opcode, registers, offset, high = second
    if opcode or registers or offset:
        raise EncodingError(f"slot {_slot_of(before) + 1}: the second slot of ld_imm64 carries only an immediate")
    return (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF


def _halves(imm: int) -> tuple[int, int]:
    if not -(1 << 63) <= imm <= MASK64:
        raise struct.error
    return struct.unpack("<ii", struct.pack("<Q", imm & MASK64))


def _slot_of(instructions: list[Instruction]) -> int:
    return sum(instruction.slots for instruction in instructions)


def _out_of_range(opcode: int, dst: int, src: int, offset: int, imm: int) -> str:
    """Which field is out of range, for a message."""
    for name, register in (("dst", dst), ("src", src)):
        if not 0 <= register <= LAST_REGISTER:
            return f"{name} is register {register}, r0 to r{LAST_REGISTER} exist"
    if not 0 <= opcode <= 0xFF:
        return f"opcode {opcode} has more than 8 bits"
    if not -0x8000 <= offset <= 0x7FFF:
        return f"offset {offset} is out of range, -32768 to 32767 are possible"
    if opcode == LD_IMM64:
        return f"immediate {imm} is out of range, it has more than 64 bits"
    return f"immediate {imm} is out of range, -2147483648 to 2147483647 are possible"
