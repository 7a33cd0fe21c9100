"""The tables of vectors, and that they reach every instruction that validity.py knows."""

import re
from collections.abc import Callable

import pytest
from isa_streams import OPCODES
from isa_vectors import FAMILIES, VECTORS, Vector

from pybpfasm import isa
from pybpfasm.isa import EncodingError, Instruction
from pybpfasm.isa.opcodes import CALL, LD_IMM64, MOV32_X, MOV64_X
from pybpfasm.isa.validity import FIELDS, VARIANT, problem

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector.little[:2]} {vector.llvm}")


@each_vector
def test_constructor_and_bytes(vector: Vector) -> None:
    """A constructor's instruction has the standard's bytes, little and big endian, and decoding gives it back."""
    instruction = vector.instruction
    assert isa.encode([instruction]).hex() == vector.little
    assert isa.encode([instruction], "big").hex() == vector.big
    assert isa.decode(bytes.fromhex(vector.little)) == [instruction]
    assert isa.decode(bytes.fromhex(vector.big), "big") == [instruction]


@each_vector
def test_text_of_both_syntaxes(vector: Vector) -> None:
    """An instruction is printed as the kernel's and LLVM's tools print it, and reading that gives it back."""
    kernel = f"({vector.little[:2]}) {vector.kernel}"
    assert isa.format_instruction(vector.instruction) == str(vector.instruction) == kernel
    assert isa.format_instruction(vector.instruction, "llvm") == vector.llvm
    assert isa.parse(kernel) == [vector.instruction]
    assert isa.parse(vector.kernel) == [vector.instruction]
    assert isa.parse(vector.llvm, "llvm") == [vector.instruction]


def test_no_vector_is_twice() -> None:
    """Each row adds an instruction."""
    assert len({vector.little for vector in VECTORS}) == len(VECTORS)


# Which field of an opcode with variants tells them apart.
_DIVISIONS = [group | code | source for group in (0x04, 0x07) for code in (0x30, 0x90) for source in (0, 8)]
VARIANT_FIELDS: dict[int, str] = {
    **dict.fromkeys(_DIVISIONS, "offset"),
    **dict.fromkeys((0xD4, 0xDC, 0xD7), "imm"),
    **dict.fromkeys((int(MOV32_X), int(MOV64_X)), "offset"),
    **dict.fromkeys((int(CALL), int(LD_IMM64)), "src"),
    **dict.fromkeys((0xC3, 0xCB, 0xD3, 0xDB), "imm"),
}


def variants(opcode: int) -> set[int]:
    """The values of the field that makes an opcode's variants."""
    field = VARIANT_FIELDS[opcode]
    values = range(11) if field == "src" else range(-0x200, 0x200)
    empty = Instruction(opcode)
    made = {value: empty._replace(**{field: value}) for value in values}  # type: ignore[arg-type]  # a field of int
    return {value for value, instruction in made.items() if problem(*instruction[:5]) is None}


def test_every_opcode_has_a_vector() -> None:
    """Whoever adds an opcode adds a row."""
    assert {vector.instruction.opcode for vector in VECTORS} == set(OPCODES)


@pytest.mark.parametrize("opcode", [opcode for opcode in OPCODES if FIELDS[opcode] & VARIANT], ids=hex)
def test_every_variant_has_a_vector(opcode: int) -> None:
    """Whoever adds a variant of an opcode adds a row."""
    field = VARIANT_FIELDS[opcode]
    shown = {getattr(each.instruction, field) for each in VECTORS if each.instruction.opcode == opcode}
    assert shown == variants(opcode)


def test_every_constructor_is_in_a_vector() -> None:
    """Each public function that makes an instruction stands in a table."""
    source = re.findall(r"isa\.([a-z_0-9]+)\(", _source_of_vectors())
    from pybpfasm.isa import construct

    public = {
        name
        for name, found in vars(construct).items()
        if isinstance(found, Callable) and getattr(found, "__module__", "") == construct.__name__ and name[0] != "_"  # type: ignore[arg-type]  # Callable is a class at run time
    }
    assert public <= set(source)
    assert len(FAMILIES) == 12


def _source_of_vectors() -> str:
    import isa_vectors

    with open(isa_vectors.__file__) as file:
        return file.read()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: isa.load(3, 0, 1, 0), "an access of 3 bytes: 1, 2, 4 and 8 are possible"),
        (lambda: isa.load_signed(8, 0, 1, 0), "an access of 8 bytes: 1, 2 and 4 are possible"),
        (lambda: isa.store_imm(0, 1, 0, 0), "an access of 0 bytes: 1, 2, 4 and 8 are possible"),
        (lambda: isa.load_packet(8, 0), "an access of 8 bytes: 1, 2 and 4 are possible"),
        (lambda: isa.to_big_endian(0, 24), "a swap of 24 bits: 16, 32 and 64 are possible"),
        (
            lambda: isa.mov_signed(0, 1, 32, bits=32),
            "a sign of 32 bits in a move of 32: 8 and 16 are possible, 32 with 64",
        ),
        (lambda: isa.alu(isa.Alu.ADD, 0, 1, signed=True), "ADD has no signed form: DIV and MOD have"),
        (lambda: isa.mov(0, 1, bits=16), "an operation of 16 bits: 32 and 64 are possible"),
        (lambda: isa.alu_imm(isa.Alu.ADD, 0, 1, bits=8), "an operation of 8 bits: 32 and 64 are possible"),
        (lambda: isa.neg(0, bits=16), "an operation of 16 bits: 32 and 64 are possible"),
        (lambda: isa.jump_if(isa.Jump.JEQ, 0, 1, "x", bits=16), "an operation of 16 bits: 32 and 64 are possible"),
        (
            lambda: isa.atomic(isa.Atomic.ADD, 2, 1, 0, 2),
            "an access of 2 bytes: 4 and 8 are possible",
        ),
        (
            lambda: isa.alu(isa.Alu.NEG, 0, 1),
            "NEG has not two operands: neg, to_big_endian, to_little_endian and byte_swap have one",
        ),
        (
            lambda: isa.alu_imm(isa.Alu.END, 0, 1, bits=32),
            "END has not two operands: neg, to_big_endian, to_little_endian and byte_swap have one",
        ),
        (
            lambda: isa.jump_if_imm(isa.Jump.EXIT, 0, 1, "x"),
            "EXIT is no condition: jump, call, exit_program and may_goto make the others",
        ),
        (lambda: isa.mov_signed(0, 1, 8, bits=16), "an operation of 16 bits: 32 and 64 are possible"),
        (lambda: isa.exchange(1, 1, 0, 2), "an access of 1 bytes: 4 and 8 are possible"),
    ],
)
def test_what_cannot_be_constructed(make: Callable[[], Instruction], message: str) -> None:
    """A width that no instruction has is refused where it is given, and the message says which there are."""
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}$"):
        make()
