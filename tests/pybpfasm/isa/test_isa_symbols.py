"""Instructions with symbols: each is printed so that it is read back as it was."""

import pytest

from pybpfasm import isa
from pybpfasm.isa import Instruction, Syntax
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.isa.text.reader import Reader

SYMBOLIC = [
    isa.load_map(1, "stats"),
    isa.load_map(1, "a-b"),
    isa.load_map(1, "fd:3"),
    isa.load_map(1, "zähler 2"),
    isa.load_map_value(1, ".rodata.cst-1", 8),
    isa.load_function(1, "pc+3"),
    isa.load_kernel_variable(2, "12"),
    isa.call_kfunc("x y"),
    *(isa.load_map(1, name) for name in ("", 'a"b', "a;b // c", "a#b", "a\nb", "a\\x3bb")),
    isa.call_function("handle"),
    isa.call_function("bpf_map_lookup_elem"),
    Instruction(LD_IMM64, 1, imm=0, symbol="jiffies"),
    Instruction(LD_IMM64, 1, imm=5, symbol="jiffies"),
]


@pytest.mark.parametrize("syntax", ["kernel", "llvm"])
@pytest.mark.parametrize("instruction", SYMBOLIC, ids=str)
def test_a_symbol_is_read_back(instruction: Instruction, syntax: Syntax) -> None:
    """Whatever its name looks like, the instruction is the same afterwards, before labels are resolved."""
    text = isa.format([instruction], syntax)
    reader = Reader(syntax, [text])
    reader.line(1, text)
    assert reader._items == [instruction]


@pytest.mark.parametrize(("syntax", "comment"), [("kernel", ";"), ("llvm", "//"), ("ubpf", "#")])
def test_a_comment_may_be_long(syntax: Syntax, comment: str) -> None:
    """Only what is an instruction has a limit: source lines beside it are as long as they are."""
    assert isa.parse(f"exit {comment} {'x' * 5000}", syntax) == [isa.exit_program()]


def test_an_address_space_has_16_bits() -> None:
    """The second of the two does not run over into the first."""
    with pytest.raises(isa.ParseError, match="an address space has 16 bits"):
        isa.parse("r1 = addr_space_cast(r2, 0, 65537)")


@pytest.mark.parametrize("convert", [lambda order: isa.decode(bytes(8), order), lambda order: isa.encode([], order)])
def test_byte_orders_there_are(convert: object) -> None:
    """A third one is refused."""
    with pytest.raises(ValueError, match=r"^byte order 'middle' is not known: little and big are$"):
        convert("middle")  # type: ignore[operator]  # one of the two above
