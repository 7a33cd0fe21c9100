"""Encode and decode: both byte orders, every rule, any bytes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isa_streams import OPCODES, few, of_opcode, streams, unhurried

from pybpfasm import isa
from pybpfasm.isa import ByteOrder, EncodingError, Instruction

ORDERS: tuple[ByteOrder, ...] = ("little", "big")
orders = st.sampled_from(ORDERS)


@unhurried
@given(streams, orders)
def test_decode_is_the_inverse_of_encode(instructions: list[Instruction], order: ByteOrder) -> None:
    """What there is can be encoded, 8 bytes a slot, and comes back as it was."""
    data = isa.encode(instructions, order)
    assert len(data) == 8 * sum(each.slots for each in instructions)
    assert isa.decode(data, order) == instructions


@pytest.mark.parametrize("opcode", OPCODES, ids=hex)
@few
@given(data=st.data())
def test_decode_is_the_inverse_for_every_opcode(opcode: int, data: st.DataObject) -> None:
    """The same for each opcode by itself, so that none is missed by chance."""
    instruction = data.draw(of_opcode(opcode))
    assert isa.decode(isa.encode([instruction])) == [instruction]


@unhurried
@given(streams)
def test_byte_orders_differ_as_the_standard_says(instructions: list[Instruction]) -> None:
    """Big endian exchanges the registers' halves and the bytes of offset and immediate, slot by slot."""
    little, big = isa.encode(instructions), isa.encode(instructions, "big")
    for at in range(0, len(little), 8):
        slot, other = little[at : at + 8], big[at : at + 8]
        assert other[0] == slot[0]
        assert other[1] == slot[1] >> 4 | (slot[1] & 15) << 4
        assert other[2:4] == slot[3:1:-1]
        assert other[4:8] == slot[7:3:-1]


def _slot(opcode: int) -> st.SearchStrategy[bytes]:
    """A slot with an opcode that there is and anything else behind it."""
    return st.binary(min_size=7, max_size=7).map(lambda rest: bytes([opcode]) + rest)


slots = st.lists(st.sampled_from(OPCODES).flatmap(_slot), max_size=8).map(b"".join)


@unhurried
@given(st.binary(max_size=64) | slots, orders)
def test_any_bytes_are_taken_or_refused(data: bytes, order: ByteOrder) -> None:
    """Bytes decode to what encodes to the same bytes, or are refused by naming a slot: nothing else happens."""
    try:
        decoded = isa.decode(data, order)
    except EncodingError as error:
        slot = re.match(r"slot (\d+): ", str(error))
        assert slot is not None
        assert int(slot[1]) <= len(data) // 8
    else:
        assert isa.encode(decoded, order) == data


@unhurried
@given(streams, st.data())
def test_one_changed_byte_is_never_lost(instructions: list[Instruction], data: st.DataObject) -> None:
    """A stream with one byte changed is refused or decodes to another stream: no field is ignored."""
    encoded = bytearray(isa.encode(instructions))
    if not encoded:
        return
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = isa.decode(bytes(encoded))
    except EncodingError:
        return
    assert decoded != instructions


def test_nothing_is_no_instruction() -> None:
    """An empty stream has no bytes, and no bytes are an empty stream."""
    assert isa.encode([]) == b""
    assert isa.decode(b"") == []


# Each rule of validity.py, the instruction before it in one slot or two, and the message.
NOP = "b700000000000000"
WIDE = "18000000000000000000000000000000"
RULES = [
    ("ff00000000000000", "opcode 0xff is not known"),
    ("0000000000000000", "opcode 0x00 is not known"),
    ("b70b000000000000", "register r11 does not exist, r10 is the last"),
    ("bfb0000000000000", "register r11 does not exist, r10 is the last"),
    ("180b00000000000000000000" + "00000000", "register r11 does not exist, r10 is the last"),
    ("9501000000000000", "opcode 0x95 has no destination, and here it is 1"),
    ("b710000000000000", "opcode 0xb7 has no source, and here it is 1"),
    ("0710000000000000", "opcode 0x07 has no source, and here it is 1"),
    ("0f21010000000000", "opcode 0x0f has no offset, and here it is 1"),
    ("0f21000001000000", "opcode 0x0f has no immediate, and here it is 1"),
    ("1d21000001000000", "opcode 0x1d has no immediate, and here it is 1"),
    ("0500000001000000", "opcode 0x05 has no immediate, and here it is 1"),
    ("0600010000000000", "opcode 0x06 has no offset, and here it is 1"),
    ("e510000000000000", "opcode 0xe5 has no source, and here it is 1"),
    ("2010000000000000", "opcode 0x20 has no source, and here it is 1"),
    ("7920000001000000", "opcode 0x79 has no immediate, and here it is 1"),
    ("7a10000000000000", "opcode 0x7a has no source, and here it is 1"),
    ("1800010000000000" + "0000000000000000", "opcode 0x18 has no offset, and here it is 1"),
    ("3f21020000000000", "division has offset 0 or, signed, 1, not 2"),
    ("97010f0005000000", "division has offset 0 or, signed, 1, not 15"),
    ("dc01000008000000", "a swap has 16, 32 or 64 bits, not 8"),
    ("d701000000000000", "a swap has 16, 32 or 64 bits, not 0"),
    ("bf21000001000000", "a move between registers has no immediate, and here it is 1"),
    ("bc21000001000000", "opcode 0xbc has no immediate, and here it is 1"),
    ("bf21080001000000", "a move between registers has no immediate, and here it is 1"),
    ("bf21070000000000", "a move that extends the sign has offset 8, 16 or 32, not 7"),
    ("bc21200000000000", "a move that extends the sign has offset 8, 16, not 32"),
    ("8530000001000000", "a call of kind 3 is not known, 0 (helper), 1 (function) and 2 (kfunc) are"),
    ("8500050001000000", "a call of a helper has no offset, and here it is 5"),
    ("8501000001000000", "opcode 0x85 has no destination, and here it is 1"),
    ("1870000000000000" + "0000000000000000", "ld_imm64 of kind 7 is not known, 0 to 6 are"),
    ("1810000005000000" + "0000000001000000", "ld_imm64 of kind 1 has no upper half, and here it is 0x1"),
    ("1840000005000000" + "00000000ffffffff", "ld_imm64 of kind 4 has no upper half, and here it is 0xffffffff"),
    ("db21000002000000", "an atomic instruction 0x2 is not known"),
    ("db210000ffffffff", "an atomic instruction -0x1 is not known"),
    ("d321000000000000", "an atomic instruction has 32 or 64 bits"),
    ("1800000000000000", "ld_imm64 lacks its second slot"),
    ("b70000", "3 bytes left over, a slot has 8"),
]


@pytest.mark.parametrize(("data", "message"), RULES, ids=[message for _, message in RULES])
def test_each_rule_names_its_slot(data: str, message: str) -> None:
    """What is no instruction is refused for its reason, with the slot where it stands."""
    for before, slot in (("", 0), (NOP, 1), (WIDE + NOP, 3)):
        with pytest.raises(EncodingError, match=f"^slot {slot}: {re.escape(message)}$"):
            isa.decode(bytes.fromhex(before + data))


@pytest.mark.parametrize("second", ["0100000000000000", "0001000000000000", "0000010000000000", NOP])
def test_a_second_slot_carries_only_an_immediate(second: str) -> None:
    """Whatever else the second slot of ld_imm64 holds is refused, and that slot is named."""
    with pytest.raises(EncodingError, match=r"^slot 2: the second slot of ld_imm64 carries only an immediate$"):
        isa.decode(bytes.fromhex(NOP + "1800000000000000" + second))


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (isa.mov_imm(0, 1 << 31), "immediate 2147483648 is out of range, -2147483648 to 2147483647 are possible"),
        (
            isa.mov_imm(0, -(1 << 31) - 1),
            "immediate -2147483649 is out of range, -2147483648 to 2147483647 are possible",
        ),
        (
            isa.mov_imm(0, 1 << 32, bits=32),
            "immediate 4294967296 is out of range, -2147483648 to 2147483647 are possible",
        ),
        (isa.load(4, 0, 1, 1 << 15), "offset 32768 is out of range, -32768 to 32767 are possible"),
        (isa.load(4, 0, 1, -(1 << 15) - 1), "offset -32769 is out of range, -32768 to 32767 are possible"),
        (Instruction(0x18, imm=1 << 64), "immediate 18446744073709551616 is out of range, it has more than 64 bits"),
        (isa.mov(11, 0), "dst is register 11, r0 to r10 exist"),
        (isa.mov(0, 15), "src is register 15, r0 to r10 exist"),
        (isa.mov(16, 0), "dst is register 16, r0 to r10 exist"),
        (isa.mov(0, -1), "src is register -1, r0 to r10 exist"),
        (isa.mov(-1, 1), "dst is register -1, r0 to r10 exist"),
        (Instruction(256), "opcode 256 has more than 8 bits"),
        (isa.load_map(1, "stats"), "symbol 'stats' is not resolved"),
        (isa.jump("end"), "symbol 'end' is not resolved"),
    ],
)
def test_encode_errors_name_the_slot(instruction: Instruction, message: str) -> None:
    """An instruction without an encoding is refused, by the slot it would have, in both byte orders."""
    for order in ORDERS:
        with pytest.raises(EncodingError, match=f"^slot 2: {re.escape(message)}$"):
            isa.encode([isa.load_imm64(0, 5), instruction], order)


@pytest.mark.parametrize("imm", [-1, 1 << 63, (1 << 64) - 1, -(1 << 63)])
def test_wide_immediates_come_back_unsigned(imm: int) -> None:
    """A 64-bit immediate may be given signed; decoded it is unsigned."""
    assert isa.decode(isa.encode([Instruction(0x18, imm=imm)])) == [Instruction(0x18, imm=imm & (1 << 64) - 1)]


def test_a_narrow_operation_takes_unsigned_immediates() -> None:
    """0 to 0xffffffff of a 32-bit operation are encoded as the signed number of the same bits."""
    assert isa.mov_imm(1, 0xFFFFFFFF, bits=32).imm == -1
    assert isa.alu_imm(isa.Alu.AND, 1, 0x80000000, bits=32).imm == -0x80000000
    assert isa.jump_if_imm(isa.Jump.JEQ, 1, 0xFFFFFFFF, "x", bits=32).imm == -1
    assert isa.mov_imm(1, 0xFFFFFFFF).imm == 0xFFFFFFFF  # of 64 bits it would not be the same number


def test_instructions_are_values() -> None:
    """Equal fields are equal instructions, usable as keys, and the number of slots follows the opcode."""
    assert isa.mov(1, 2) == Instruction(0xBF, 1, 2)
    assert len({isa.mov(1, 2), isa.mov(1, 2), isa.mov(2, 1)}) == 2
    assert isa.mov(1, 2)._replace(dst=3) == isa.mov(3, 2)
    assert [isa.load_imm64(0, 1).slots, isa.exit_program().slots] == [2, 1]


def test_the_wide_opcode_is_one_number() -> None:
    """instruction.py repeats the opcode of ld_imm64, so that it need not load the enums."""
    from pybpfasm.isa import instruction, opcodes

    assert instruction._LD_IMM64 == opcodes.LD_IMM64
