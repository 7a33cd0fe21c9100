"""The instruction set: bytes and text of each constructor, encode and decode, labels, and what the verifier prints."""

import os
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs import connect, getsockopt, redirect, sockops
from pybpfasm import isa
from pybpfasm.compiler import compile_program
from pybpfasm.isa import Alu, Class, EncodingError, Instruction, Jump, Label
from pybpfasm.isa.instruction import is_known
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import Map
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Command, ProgramType

# --- constructors -----------------------------------------------------------------------------------------------------

# Constructor | bytes by RFC 9669 | text as kernel/bpf/disasm.c writes it.
MOVES = [
    (isa.mov(1, 2), "bf21000000000000", "r1 = r2"),
    (isa.mov(1, 2, bits=32), "bc21000000000000", "w1 = w2"),
    (isa.mov_imm(0, -1), "b7000000ffffffff", "r0 = -1"),
    (isa.mov_imm(9, 0x7FFFFFFF, bits=32), "b4090000ffffff7f", "w9 = 2147483647"),
    (isa.load_imm64(3, 0x1122334455667788), "18030000887766550000000044332211", "r3 = 0x1122334455667788"),
    (isa.load_imm64(3, -1), "18030000ffffffff00000000ffffffff", "r3 = 0xffffffffffffffff"),
]
ARITHMETIC = [
    (isa.alu(Alu.ADD, 1, 2), "0f21000000000000", "r1 += r2"),
    (isa.alu(Alu.SUB, 1, 2), "1f21000000000000", "r1 -= r2"),
    (isa.alu(Alu.MUL, 1, 2), "2f21000000000000", "r1 *= r2"),
    (isa.alu(Alu.DIV, 1, 2), "3f21000000000000", "r1 /= r2"),
    (isa.alu(Alu.OR, 1, 2), "4f21000000000000", "r1 |= r2"),
    (isa.alu(Alu.AND, 1, 2), "5f21000000000000", "r1 &= r2"),
    (isa.alu(Alu.LSH, 1, 2), "6f21000000000000", "r1 <<= r2"),
    (isa.alu(Alu.RSH, 1, 2), "7f21000000000000", "r1 >>= r2"),
    (isa.alu(Alu.MOD, 1, 2), "9f21000000000000", "r1 %= r2"),
    (isa.alu(Alu.XOR, 1, 2), "af21000000000000", "r1 ^= r2"),
    (isa.alu(Alu.ARSH, 1, 2), "cf21000000000000", "r1 s>>= r2"),
    (isa.alu(Alu.ADD, 1, 2, bits=32), "0c21000000000000", "w1 += w2"),
    (isa.alu_imm(Alu.ADD, 10, -8), "070a0000f8ffffff", "r10 += -8"),
    (isa.alu_imm(Alu.ARSH, 4, 31, bits=32), "c40400001f000000", "w4 s>>= 31"),
    (isa.neg(5), "8705000000000000", "r5 = -r5"),
    (isa.to_big_endian(6, 16), "dc06000010000000", "r6 = be16 r6"),
    (isa.to_big_endian(6, 32), "dc06000020000000", "r6 = be32 r6"),
    (isa.to_big_endian(6, 64), "dc06000040000000", "r6 = be64 r6"),
]
MEMORY = [
    (isa.load(1, 1, 2, 3), "7121030000000000", "r1 = *(u8 *)(r2 +3)"),
    (isa.load(2, 1, 2, 0), "6921000000000000", "r1 = *(u16 *)(r2 +0)"),
    (isa.load(4, 1, 2, -4), "6121fcff00000000", "r1 = *(u32 *)(r2 -4)"),
    (isa.load(8, 1, 10, -512), "79a100fe00000000", "r1 = *(u64 *)(r10 -512)"),
    (isa.store(1, 10, -1, 3), "733affff00000000", "*(u8 *)(r10 -1) = r3"),
    (isa.store(2, 10, -2, 3), "6b3afeff00000000", "*(u16 *)(r10 -2) = r3"),
    (isa.store(4, 10, -4, 3), "633afcff00000000", "*(u32 *)(r10 -4) = r3"),
    (isa.store(8, 10, -8, 3), "7b3af8ff00000000", "*(u64 *)(r10 -8) = r3"),
    (isa.store_imm(1, 1, 5, 7), "7201050007000000", "*(u8 *)(r1 +5) = 7"),
    (isa.store_imm(8, 1, 8, -1), "7a010800ffffffff", "*(u64 *)(r1 +8) = -1"),
]
JUMPS = [
    (Instruction(0x05, offset=-2), "0500feff00000000", "goto pc-2"),
    (Instruction(0x15, 1, offset=3, imm=-1), "15010300ffffffff", "if r1 == 0xffffffff goto pc+3"),
    (Instruction(0x1D, 1, 2, 3), "1d21030000000000", "if r1 == r2 goto pc+3"),
    (Instruction(0x25, 1, offset=3, imm=9), "2501030009000000", "if r1 > 0x9 goto pc+3"),
    (Instruction(0x35, 1, offset=3, imm=9), "3501030009000000", "if r1 >= 0x9 goto pc+3"),
    (Instruction(0x45, 1, offset=3, imm=9), "4501030009000000", "if r1 & 0x9 goto pc+3"),
    (Instruction(0x55, 1, offset=3, imm=9), "5501030009000000", "if r1 != 0x9 goto pc+3"),
    (Instruction(0x65, 1, offset=3, imm=9), "6501030009000000", "if r1 s> 0x9 goto pc+3"),
    (Instruction(0x75, 1, offset=3, imm=9), "7501030009000000", "if r1 s>= 0x9 goto pc+3"),
    (Instruction(0xA5, 1, offset=3, imm=9), "a501030009000000", "if r1 < 0x9 goto pc+3"),
    (Instruction(0xB5, 1, offset=3, imm=9), "b501030009000000", "if r1 <= 0x9 goto pc+3"),
    (Instruction(0xC5, 1, offset=3, imm=9), "c501030009000000", "if r1 s< 0x9 goto pc+3"),
    (Instruction(0xD5, 1, offset=3, imm=9), "d501030009000000", "if r1 s<= 0x9 goto pc+3"),
    (Instruction(0x16, 1, offset=3, imm=9), "1601030009000000", "if w1 == 0x9 goto pc+3"),
    (Instruction(0x5E, 1, 2, 3), "5e21030000000000", "if w1 != w2 goto pc+3"),
    (isa.call(1), "8500000001000000", "call bpf_map_lookup_elem#1"),
    (isa.exit_program(), "9500000000000000", "exit"),
]


@pytest.mark.parametrize(("instruction", "data", "text"), MOVES + ARITHMETIC + MEMORY + JUMPS)
def test_constructor_bytes_and_text(instruction: Instruction, data: str, text: str) -> None:
    """Each constructor gives the bytes of the standard and the kernel's text, and decoding gives it back."""
    assert isa.encode([instruction]).hex() == data
    assert isa.format_instruction(instruction) == text
    decoded = isa.decode(bytes.fromhex(data))
    assert isa.encode(decoded).hex() == data
    assert [isa.format_instruction(each) for each in decoded] == [text]


def test_symbols_are_shown_by_name() -> None:
    """Before labels and maps are resolved, the text names them."""
    assert isa.format_instruction(isa.load_map(1, "stats")) == "r1 = map[stats]"
    assert isa.format_instruction(isa.jump("end")) == "goto end"
    assert isa.format_instruction(isa.jump_if(Jump.JSLT, 1, 2, "end", bits=32)) == "if w1 s< w2 goto end"
    assert isa.format_instruction(isa.jump_if_imm(Jump.JNE, 1, 0, "end")) == "if r1 != 0x0 goto end"


def test_listing_counts_slots() -> None:
    """A listing numbers slots: ld_imm64 takes two."""
    rows = list(isa.listing([isa.load_imm64(0, 1), isa.mov_imm(0, 1), isa.exit_program()]))
    assert rows == ["   0: r0 = 0x1", "   2: r0 = 1", "   3: exit"]


# --- encode and decode ------------------------------------------------------------------------------------------------

opcodes = st.sampled_from([opcode for opcode in range(256) if is_known(opcode)])
signed32 = st.integers(-(1 << 31), (1 << 31) - 1)
registers = st.integers(0, 10)
unsigned64 = st.integers(0, (1 << 64) - 1)
CALL = Class.JMP | Jump.CALL


@st.composite
def instructions_of_this_module(draw: st.DrawFn) -> Instruction:
    """Any instruction that the module can name, with any operands."""
    opcode = draw(opcodes)
    dst, src = draw(registers), draw(registers)
    if opcode == LD_IMM64:
        return Instruction(opcode, dst, src, 0, draw(unsigned64))
    arithmetic = opcode & 7 in (Class.ALU, Class.ALU64)
    offset = 0 if arithmetic else draw(st.integers(-(1 << 15), (1 << 15) - 1))
    return Instruction(opcode, dst, 0 if opcode == CALL else src, offset, draw(signed32))


@given(st.lists(instructions_of_this_module()))
def test_decode_is_the_inverse_of_encode(instructions: list[Instruction]) -> None:
    """Whatever can be encoded comes back as it was, 8 bytes a slot, and each has a text."""
    data = isa.encode(instructions)
    assert len(data) == 8 * sum(each.slots for each in instructions)
    assert isa.decode(data) == instructions
    assert len(list(isa.listing(instructions))) == len(instructions)


@given(st.binary(max_size=64))
def test_decode_takes_or_refuses_any_bytes(data: bytes) -> None:
    """Bytes either decode to what encodes to the same bytes, or are refused by naming a slot."""
    try:
        decoded = isa.decode(data)
    except EncodingError:
        with pytest.raises(EncodingError, match=r"^slot \d+: "):
            isa.decode(data)
    else:
        assert isa.encode(decoded) == data


NOP = "b700000000000000"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (NOP + "ff00000000000000", "slot 1: opcode 0xff is not known"),
        (NOP + "b700", "slot 1: 2 bytes left over"),
        (NOP * 2 + "1800000000000000", "slot 2: ld_imm64 lacks its second slot"),
        ("1800000000000000" + NOP, "slot 1: the second slot of ld_imm64 carries only an immediate"),
        ("18000000000000000000000000000000" + "0000000000000000", "slot 2: opcode 0x00 is not known"),
        (NOP + "b70b000000000000", "slot 1: register r11 does not exist"),
        (NOP + "3f21010000000000", "slot 1: opcode 0x3f with offset 1 (signed division or move) is not known"),
        (NOP + "8510000001000000", "slot 1: a call of kind 1 is not known"),
    ],
)
def test_decode_errors_name_the_slot(data: str, message: str) -> None:
    """What is no instruction is refused, by the slot where it stands."""
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}"):
        isa.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (isa.mov_imm(0, 1 << 31), "slot 2: offset or immediate out of range"),
        (isa.load(4, 0, 1, 1 << 15), "slot 2: offset or immediate out of range"),
        (isa.load_imm64(0, 1 << 64), "slot 2: offset or immediate out of range"),
        (isa.mov(11, 0), "slot 2: register out of range"),
        (isa.load_map(1, "stats"), "slot 2: symbol 'stats' is not resolved"),
    ],
)
def test_encode_errors_name_the_slot(instruction: Instruction, message: str) -> None:
    """An instruction without an encoding is refused, by the slot it would have."""
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}"):
        isa.encode([isa.load_imm64(0, 5), instruction])


def test_what_cannot_be_constructed() -> None:
    """Widths that no instruction has are refused where they are given."""
    with pytest.raises(EncodingError, match=r"^an access of 3 bytes: 1, 2, 4 and 8 are possible$"):
        isa.load(3, 0, 1, 0)
    with pytest.raises(EncodingError, match=r"^a swap of 24 bits: 16, 32 and 64 are possible$"):
        isa.to_big_endian(0, 24)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_become_offsets_in_slots() -> None:
    """A jump counts slots from the instruction after it, forward and back, over two-slot instructions."""
    resolved = isa.resolve_labels(
        [
            Label("start"),
            isa.jump_if_imm(Jump.JEQ, 1, 0, "end"),
            isa.load_imm64(0, 5),
            isa.jump("start"),
            Label("end"),
            isa.exit_program(),
        ]
    )
    assert [each.offset for each in resolved] == [3, 0, -4, 0]
    assert all(each.symbol is None for each in resolved)


def test_a_map_may_be_called_as_a_label_is() -> None:
    """Names of maps and of labels do not meet."""
    resolved = isa.resolve_labels([isa.load_map(1, "x"), isa.jump("x"), Label("x"), isa.exit_program()])
    assert resolved[0].symbol == "x"
    assert resolved[1].offset == 0


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([isa.mov_imm(0, 0), isa.jump("nowhere")], "slot 1: label 'nowhere' is not defined"),
        ([Label("a"), isa.mov_imm(0, 0), Label("a")], "slot 1: label 'a' is defined twice"),
        (
            [isa.jump("far"), *[isa.mov_imm(0, 0)] * 0x8000, Label("far")],
            "slot 0: label 'far' is 32768 slots away, a jump reaches 32767",
        ),
    ],
)
def test_label_errors_name_the_slot(items: list[Instruction | Label], message: str) -> None:
    """A label that is missing, doubled or out of reach is refused."""
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}$"):
        isa.resolve_labels(items)


def test_the_longest_jump() -> None:
    """A jump of 32767 slots is still one."""
    resolved = isa.resolve_labels([isa.jump("far"), *[isa.mov_imm(0, 0)] * 0x7FFF, Label("far")])
    assert resolved[0].offset == 0x7FFF


# --- the verifier prints the same -------------------------------------------------------------------------------------

PRINTED = re.compile(r"^(\d+): \([0-9a-f]{2}\) (.*?)(?:\s+;.*)?$", re.M)
ADDRESS = re.compile(r"^(r\d+ =) (?:0x[0-9a-f]+|map\[.*\])$")


def verifier_log(spec: ProgramSpec, maps: Mapping[str, Map]) -> str:
    """What the verifier says of a program that it accepts."""
    resolved = [
        each._replace(imm=maps[each.symbol].fd, symbol=None) if each.symbol is not None else each
        for each in spec.instructions
    ]
    code, license_, log = kernel.buffer(isa.encode(resolved)), kernel.buffer(b"GPL\0"), kernel.buffer(1 << 22)
    attributes = kernel.new(
        "prog_load",
        prog_type=spec.type,
        expected_attach_type=spec.attach_type,
        insns=kernel.address(code),
        insn_cnt=len(code) // 8,
        license=kernel.address(license_),
        log_level=2,
        log_size=len(log),
        log_buf=kernel.address(log),
    )
    os.close(kernel.bpf(Command.PROG_LOAD, attributes, f"load program {spec.name}"))
    return kernel.contents(log).split(b"\0", 1)[0].decode()


def assert_same_text(spec: ProgramSpec, *, all_reached: bool) -> None:
    """Each instruction that the log shows has the text of our listing."""
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        log = verifier_log(spec, maps)
    finally:
        for each in maps.values():
            each.close()
    ours = {int(row[:4]): row[6:] for row in isa.listing(spec.instructions)}
    printed = {int(slot): text for slot, text in PRINTED.findall(log)}
    assert printed
    for slot, text in printed.items():
        wide_load = ours[slot].startswith("r") and "map[" in ours[slot]
        if wide_load:  # the log shows the map's address
            assert ADDRESS.sub(r"\1", text) == ADDRESS.sub(r"\1", ours[slot])
        else:
            assert text == ours[slot], f"slot {slot}"
    if all_reached:
        assert set(printed) == set(ours)


@pytest.mark.parametrize("module", [connect, getsockopt, redirect, sockops], ids=lambda module: module.__name__)
def test_listing_is_what_the_verifier_prints(module: ModuleType) -> None:
    """The programs of the mesh are listed as the verifier's log lists them."""
    program: Any = next(each for each in vars(module).values() if type(each).__name__ == "Program")
    assert_same_text(compile_program(program), all_reached=False)


def test_hand_written_instructions_are_what_the_verifier_prints() -> None:
    """All families of instructions, in one program that the verifier walks wholly, are listed as in its log."""
    everything: list[Instruction | Label] = [isa.mov(6, 1), isa.load(4, 7, 6, 28), isa.mov_imm(2, -1)]
    for code in set(Alu) - {Alu.NEG, Alu.END, Alu.MOV}:
        shift = code in (Alu.LSH, Alu.RSH, Alu.ARSH)
        everything += [isa.mov(3, 7), isa.alu(code, 3, 7), isa.mov(3, 7), isa.alu(code, 3, 7, bits=32)]
        everything += [isa.alu_imm(code, 3, 5 if shift else -7), isa.alu_imm(code, 3, 5, bits=32)]
    everything += [isa.neg(3), *[isa.to_big_endian(3, bits) for bits in (16, 32, 64)], isa.mov(3, 7, bits=32)]
    everything += [isa.mov_imm(4, -5, bits=32), isa.load_imm64(5, 0xFEDCBA9876543210), isa.store_imm(8, 10, -8, -2)]
    for size in (1, 2, 4, 8):
        everything += [isa.store(size, 10, -8, 7), isa.store_imm(size, 10, -8, 3), isa.load(size, 3, 10, -8)]
    everything += [isa.call(14)]
    for at, jump_code in enumerate(sorted(set(Jump) - {Jump.JA, Jump.CALL, Jump.EXIT})):
        for bits in (32, 64):
            everything += [isa.jump_if_imm(jump_code, 0, -3, f"end{at}", bits=bits)]
            everything += [isa.jump_if(jump_code, 0, 7, f"end{at}", bits=bits)]
        everything += [Label(f"end{at}"), isa.call(14)]
    everything += [isa.jump("out"), Label("out"), isa.mov_imm(0, 1), isa.exit_program()]
    code_ = tuple(isa.resolve_labels(everything))
    kind = ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT
    assert_same_text(ProgramSpec("everything", *kind, "bpf_sock_addr", code_, {}), all_reached=True)
