"""Wrong text: the error stands where the mistake is and says what is missing; nothing else ever comes of text."""

import re
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isa_streams import streams, unhurried

from pybpfasm import isa
from pybpfasm.isa import Instruction, ParseError, Syntax, parse

syntaxes = st.sampled_from(["kernel", "llvm", "ubpf"])

# The wrong line, the column of the mistake, and a part of what is said of it.
KERNEL = [
    ("r11 = 1", 1, "an instruction is expected, not `r11`: r10 is the last register"),
    ("r1 = r11", 6, "not `r11`: r10 is the last register"),
    ("r1 = w2", 6, "`r1` and `w2` differ in width: both are r… or both are w…"),
    ("r1 =", 5, "a register (r0 to r10, w0 to w10), a decimal number, `*`"),
    ("r1", 3, "an operator such as `+=` or `=` is expected"),
    ("= 5", 1, "an instruction is expected, not `=`"),
    ("mov r1, 5", 1, "an instruction is expected, not `mov`; in syntax 'ubpf' it is right"),
    ("r1 = 99999999999", 6, "99999999999 has more than 32 bits: a wide immediate is written with 0x"),
    ("r1 += 99999999999", 7, "99999999999 has more than 32 bits"),
    ("r1 = 0x1ffffffffffffffff", 6, "has more than 64 bits"),
    ("r1 += 0x5", 7, "a decimal number is expected, not `0x5`; in syntax 'llvm' it is right"),
    ("r1 = *(u32 *)(r2)", 17, "`+` or `-` and a number is expected, not `)`"),
    ("r1 = *(u33 *)(r2 +4)", 8, "u8, u16, u32, u64, s8, s16 or s32 is expected, not `u33`"),
    ("r1 = *(u32 *)(r2 +40000)", 18, "40000 is out of range, -32768 to 32767 are possible"),
    ("w1 = *(u32 *)(r2 +4)", 1, "this writes all 64 bits: r1, not w1; in syntax 'llvm' it is right"),
    ("*(s8 *)(r2 +4) = r1", 3, "u8, u16, u32 or u64 is expected, not `s8`"),
    ("*(u32 *)(r2 +4) += r1", 17, "`=` is expected, not `+`"),
    ("if r1 == r2", 12, "`goto` is expected"),
    ("if r1 = r2 goto pc+1", 7, "a comparison such as `==` is expected, not `=`"),
    ("if r1 == 5 goto 7", 17, "`pc` and a distance (pc+3), or a label is expected, not `7`"),
    ("if r1 == 5 goto pc+99999", 17, "a jump goes 32767 slots at most, not 99999: gotol goes farther"),
    ("goto pc+", 6, "`pc` and a distance (pc+3), or a label is expected, not `pc`"),
    ("gotol pc+99999999999", 7, "99999999999 has more than 32 bits"),
    ("goto nowhere", 6, "label 'nowhere' is not defined"),
    ("call", 5, "a helper's name and number (name#5), a function's name"),
    ("call 5", 6, "not `5`; in syntax 'llvm' it is right"),
    ("call bpf_no_such", 6, "`bpf_no_such` is no label, and no helper that is known"),
    ("exit 0", 6, "the end of the line is expected, not `0`"),
    ("r1 = -r2", 7, "`r2` is not the register that is assigned, `r1`"),
    ("r1 = be24 r1", 8, "a swap has 16, 32 or 64 bits, not 24"),
    ("w1 = be16 w1", 1, "this writes all 64 bits: r1, not w1"),
    ("w1 = (s32)w2", 7, "a sign of 32 bits needs r registers"),
    ("r1 = map[]", 10, "a map's name, or id:, fd: or idx: and a number is expected, not `]`"),
    ("r1 = map[id:]", 10, "a map's name, or id:, fd: or idx: and a number is expected, not `id`"),
    ("lock *(u8 *)(r1 +0) += r2", 8, "u8 has no such atomic instruction, u32 and u64 have"),
    ("r1 = atomic64_fetch_add((u32 *)(r2 +0), r1)", 12, "`atomic64` goes with u64, `atomic` with u32"),
    ("r1 = atomic64_cmpxchg((u64 *)(r2 +0), r0, r3)", 1, "the result of this instruction is in r0, not in r1"),
    ("r0 = atomic64_cmpxchg((u64 *)(r2 +0), r1, r3)", 40, "what memory is compared with is in r0, not in r1"),
    ("r1 = *(u8 *)skb[3]", 1, "the result of this instruction is in r0, not in r1"),
    ("r0 = *(u64 *)skb[3]", 8, "a packet is read in u8, u16 or u32"),
    ("(b7) w1 = 5", 2, "the opcode in parentheses is 0xb7, the instruction beside it has 0xb4"),
    ("(b7) r1 = 0x80000000", 10, "2147483648 is out of range for opcode 0xb7"),
    ("(b7)", 5, "an instruction is expected"),
    ("5:", 3, "an instruction is expected"),
    ("label", 1, "an instruction is expected, not `label`: a label ends in `:`"),
    ("r1 = 5 ll", 8, "the end of the line is expected, not `ll`; in syntax 'llvm' it is right"),
    ("r1 = 5 // five", 8, "not `//`: a comment begins with `;` in this syntax"),
    ("r1 = 5 # five", 8, "not `#`: a comment begins with `;` in this syntax"),
]
LLVM = [
    ("r11 = 1", 1, "an instruction is expected, not `r11`: r10 is the last register"),
    ("r1 = w2", 6, "`r1` and `w2` differ in width"),
    ("r1 = 5 l", 8, "the end of the line or `ll` is expected, not `l`"),
    ("r1 = 0xz", 6, "not `0xz`"),
    ("r1 = 99999999999", 6, "99999999999 has more than 32 bits: a wide immediate has `ll` behind it"),
    ("r1 = 0x1ffffffffffffffff ll", 6, "has more than 64 bits"),
    ("w1 = *(u64 *)(r2 + 4)", 1, "u64 needs a register r0 to r10, not `w1`"),
    ("w1 = *(s8 *)(r2 + 4)", 1, "a load that extends the sign needs a register r0 to r10"),
    ("r1 = *(u8 *)r2", 13, "`(` is expected, not `r2`"),
    ("*(u64 *)(r10 - 8) = w1", 21, "u64 needs a register r0 to r10, not `w1`"),
    ("*(u64 *)(r10 - 40000) = r1", 14, "-40000 is out of range, -32768 to 32767 are possible"),
    ("r1 = -r2", 7, "`r2` is not the register that is assigned, `r1`"),
    ("r1 = -w1", 7, "`w1` is not the register that is assigned, `r1`"),
    ("r1 = bswap8 r1", 11, "a swap has 16, 32 or 64 bits, not 8"),
    ("w1 = (s32)w2", 7, "a sign of 32 bits needs r registers"),
    ("goto 5", 6, "a distance with its sign (+3), or a label is expected, not `5`"),
    ("goto pc+5", 6, "not `pc`; in syntax 'kernel' it is right"),
    ("goto +70000", 6, "a jump goes 32767 slots at most, not 70000: gotol goes farther"),
    ("gotol +0x100000000", 7, "4294967296 has more than 32 bits"),
    ("goto nowhere", 6, "label 'nowhere' is not defined"),
    ("if r1 == r2 goto", 17, "a distance with its sign (+3), or a label is expected"),
    ("if r1 === r2 goto +1", 9, "a number or a register (r0 to r10, w0 to w10) is expected, not `=`"),
    ("if w1 == r2 goto +1", 10, "`w1` and `r2` differ in width"),
    ("if r1 == 5", 11, "`goto` is expected"),
    ("call", 5, "a number or a function's name is expected"),
    ("call foo bar", 10, "the end of the line is expected, not `bar`"),
    ("call bpf_map_lookup_elem", 6, "`bpf_map_lookup_elem` is no label, and helpers are called by number"),
    ("ld_pseudo r1, 9, 0", 15, "a kind from 0 to 6 is expected"),
    ("ld_pseudo r1 9 0", 14, "`,` is expected, not `9`"),
    ("ld_pseudo r1, 1, 5 <+0x1>", 21, "ld_imm64 of kind 1 has no upper half"),
    ("r1 = foo", 9, "`ll` is expected"),
    ("r1 = foo + 5 ll", 12, "only a map's value is addressed with an offset: write <map value> behind it"),
    ("r1 = map[foo]", 9, "`ll` is expected, not `[`; in syntax 'kernel' it is right"),
    ("w0 = xchg_64(r1 + 0x0, w0)", 1, "`w0`: 64 bits need r registers, 32 bits w registers"),
    ("r0 = xchg_64(r1 + 0x0, w0)", 24, "`w0` is not the register that is assigned, `r0`"),
    ("r0 = cmpxchg_64(r1 + 0x0, r1, r2)", 27, "what is compared is register 0"),
    ("w0 = atomic_fetch_add((u64 *)(r1 + 0x0), w0)", 1, "u64 needs a register r0 to r10, not `w0`"),
    ("lock *(u64 *)(r1 + 0) += w2", 26, "u64 needs a register r0 to r10, not `w2`"),
    ("lock *(u16 *)(r1 + 0) += w2", 8, "u16 has no such atomic instruction, u32 and u64 have"),
    ("r0 = 1; what; exit", 9, "an instruction is expected, not `what`"),
    ("r0 = 1; r1 = ; exit", 13, "a register (r0 to r10, w0 to w10), a number"),
]
UBPF = [
    ("mov r1", 7, "`,` is expected"),
    ("mov %r1,", 9, "a register (%r0 to %r10) or a number is expected"),
    ("mov %r11, 1", 5, "a register (%r0 to %r10) is expected, not `%r11`: r10 is the last register"),
    ("mov %r1 5", 9, "`,` is expected, not `5`"),
    ("mov %r1, 99999999999", 10, "99999999999 has more than 32 bits"),
    ("mov32 %r1, %x", 12, "a register (%r0 to %r10) or a number is expected, not `%x`"),
    ("foo %r1, 1", 1, "an instruction is expected, not `foo`"),
    ("movsx3232 %r1, %r2", 1, "an instruction is expected, not `movsx3232`"),
    ("le8 %r1", 1, "an instruction is expected, not `le8`"),
    ("r1 = 5", 1, "an instruction is expected, not `r1`; in syntax 'kernel' it is right"),
    ("ldxw %r1, %r2", 11, "`[` is expected, not `%r2`"),
    ("ldxw %r1, [%r2 4]", 16, "`]` is expected, not `4`"),
    ("ldxw %r1, [%r2+4", 17, "`]` is expected"),
    ("ldxw %r1, [%r2+40000]", 15, "40000 is out of range, -32768 to 32767 are possible"),
    ("stxw %r1, [%r2+4]", 6, "`[` is expected, not `%r1`"),
    ("stb [%r1], %r2", 12, "a number is expected, not `%r2`"),
    ("lddw %r1, 0x1ffffffffffffffff", 11, "has more than 64 bits"),
    ("ja", 3, "a distance with its sign (+3), or a label is expected"),
    ("ja 5", 4, "a distance with its sign (+3), or a label is expected, not `5`"),
    ("ja +40000", 4, "a jump goes 32767 slots at most, not 40000"),
    ("jeq %r1, 5", 11, "`,` is expected"),
    ("jeq %r1, 5, nowhere", 13, "label 'nowhere' is not defined"),
    ("exit 1", 6, "the end of the line is expected, not `1`"),
    ("call", 5, "`local`, a register (%r0 to %r10) or a number is expected"),
    ("call local", 11, "a distance with its sign (+3), or a label is expected"),
    ("call local nowhere", 12, "`nowhere` is no label, and helpers are called by number"),
    ("lock add %r1, %r2", 10, "`[` is expected, not `%r1`"),
    ("lock sub [%r1], %r2", 6, "`add`, `add32`, `or`, `or32` … is expected, not `sub`"),
    ("mov %r1, 1 // one", 12, "not `//`: a comment begins with `;` in this syntax"),
]
WRONG = [(syntax, *row) for syntax, rows in (("kernel", KERNEL), ("llvm", LLVM), ("ubpf", UBPF)) for row in rows]


@pytest.mark.parametrize(
    ("syntax", "text", "column", "message"), WRONG, ids=[f"{each[0]}: {each[1]}" for each in WRONG]
)
def test_a_mistake_is_located(syntax: Syntax, text: str, column: int, message: str) -> None:
    """Line, column, what is wrong, the line itself and a caret below the mistake; in later lines, too."""
    with pytest.raises(ParseError) as caught:
        parse(text, syntax)
    error = caught.value
    assert (error.line, error.column) == (1, column)
    assert message in error.message
    assert str(error) == f"line 1, column {column}: {error.message}\n    {text}\n    {' ' * (column - 1)}^"
    if not text.endswith(":"):
        with pytest.raises(ParseError) as later:
            parse(f"a:\n  ; fine\n  b:   {text}\n", syntax)
        assert (later.value.line, later.value.message) == (3, error.message)


TOGETHER: list[tuple[Syntax, str, int, int, str]] = [
    ("kernel", "a:\nr0 = 0\na: exit", 3, 1, "label `a` is already in line 1"),
    ("kernel", "r0 = 0\n1: exit", 2, 1, "a slot's number here, and none before: number all instructions or none"),
    ("kernel", "0: r0 = 0\nexit", 2, 1, "a slot's number is missing: number all instructions or none"),
    ("kernel", "a:\n0: exit", 1, 1, "a label among numbered instructions: leave out one or the other"),
    ("kernel", "0: r0 = 0\n0: exit", 2, 1, "slot 0 is another instruction in line 1"),
    ("kernel", "0: r0 = 0\n2: exit", 2, 1, "slot 1 is missing before slot 2"),
    ("kernel", "0: r0 = 0x5\n1: exit", 2, 1, "slot 1 is the second slot of the instruction before it, which takes two"),
    ("kernel", "0: exit\n1: goto x", 2, 9, "label 'x' is not defined"),
    ("kernel", "\tr0 = x", 1, 7, "is expected, not `x`"),
    ("llvm", "exit\nr1 = r2; goto x; exit", 2, 15, "label 'x' is not defined"),
    ("llvm", "if r1 == 0 goto far\n" + "exit\n" * 32768 + "far: exit", 1, 17, "label 'far' is 32768 slots away"),
]


@pytest.mark.parametrize(("syntax", "text", "line", "column", "message"), TOGETHER, ids=[each[4] for each in TOGETHER])
def test_mistakes_that_lines_make_together(syntax: Syntax, text: str, line: int, column: int, message: str) -> None:
    """Labels, numbers and distances are wrong in a line, too, and that line is shown."""
    with pytest.raises(ParseError) as caught:
        parse(text, syntax)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert message in caught.value.message
    assert text.split("\n")[line - 1] in str(caught.value)


def test_the_caret_stands_below_tabs() -> None:
    """Tabs before the mistake are tabs before the caret, so that both are equally wide."""
    with pytest.raises(ParseError, match=r"line 1, column 7: .*\n    \tr0 =\tx\n    \t    \t\^$"):
        parse("\tr0 =\tx\r\n")


def test_strange_characters_do_not_reach_the_terminal() -> None:
    """What a terminal would act upon is replaced in the line that is shown."""
    with pytest.raises(ParseError) as caught:
        parse("r0 = \x1b[31m")
    assert "\x1b" not in str(caught.value).partition("\n")[2]


def test_a_line_may_be_long_but_not_endless() -> None:
    """A thousand characters are read; more are refused without being looked at."""
    assert parse("exit" + " " * 996) == [isa.exit_program()]
    with pytest.raises(ParseError, match="line 2, column 1: a line has at most 1000 characters, this has 1001"):
        parse("exit\nexit" + " " * 997)


# --- junk -------------------------------------------------------------------------------------------------------------


@unhurried
@given(st.text(max_size=80) | st.text("rw0123456789 =+-*/&|<>s()[]{}#;:,.uxpcgotilfeknabm\n\t", max_size=80), syntaxes)
def test_any_text_is_read_or_refused(text: str, syntax: Syntax) -> None:
    """Of any text come instructions that can be encoded, or ParseError at a place in the text: nothing else."""
    try:
        instructions = parse(text, syntax)
    except ParseError as error:
        assert_within(error, text)
    else:
        assert_encodable(instructions)


@unhurried
@given(streams.filter(bool), st.data(), st.sampled_from(["kernel", "llvm"]))
def test_one_changed_character_is_read_or_refused(
    instructions: list[Instruction], data: st.DataObject, syntax: Syntax
) -> None:
    """Text near to right text is treated as strictly."""
    text = isa.format(instructions, syntax)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from([*"rw019=+-*()[]<>;:,. x\n", ""])) + text[at + 1 :]
    try:
        assert_encodable(parse(changed, syntax))
    except ParseError as error:
        assert_within(error, changed)


def assert_within(error: ParseError, text: str) -> None:
    """An error stands at a character of the text, or at an end of line."""
    lines = text.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1


def assert_encodable(instructions: list[Instruction]) -> None:
    """What was read is what there is: it has bytes that decode to it, once names are replaced."""
    named = [each._replace(symbol=None) for each in instructions]
    assert isa.decode(isa.encode(named)) == named


# --- the cost of text -------------------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
LINES: dict[str, Callable[[int], str]] = {
    "empty": lambda _: "",
    "spaces": lambda _: " " * 999,
    "spaces within": lambda _: "r1" + " " * 480 + "=" + " " * 480 + "r2",
    "comments": lambda _: ";" * 999,
    "long comments": lambda _: "exit ; " + "#/;:" * 240,
    "labels": lambda number: f"label{number}:",
    "labels in a row": lambda number: "".join(f"l{number}_{each}:" for each in range(90)),
    "wide numbers": lambda _: "r1 = " + "0" * 900 + "5",
    "jumps to a label": lambda number: f"goto l{number}\nl{number}:",
    "signatures": lambda _: "f" + "(" * 490 + ")" * 490 + "):",
    "numbered": lambda number: f"{number}: r1 += {number}",
    "one slot again and again": lambda _: "0: exit",
}


def calls(text: str) -> int:
    """How many calls, of Python and of C, reading takes."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        parse(text)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("kind", LINES)
def test_the_cost_grows_with_the_text(kind: str) -> None:
    """Twice the lines take twice the calls, whatever they are."""
    few, many = (calls("\n".join(LINES[kind](number) for number in range(count))) for count in (200, 400))
    assert many <= 2.1 * few + 20


@pytest.mark.parametrize("kind", LINES)
def test_a_megabyte_is_read(kind: str) -> None:
    """A megabyte of any kind takes seconds at most; most of it is some tenths."""
    lines, size, number = [], 0, 0
    while size < MEGABYTE:
        lines.append(LINES[kind](number))
        size += len(lines[-1]) + 1
        number += 1
        if number == 0x7FFF and kind == "jumps to a label":
            break
    start = time.process_time()
    parse("\n".join(lines))
    assert time.process_time() - start < 20


NASTY = {
    "a line without end": "r" * MEGABYTE,
    "digits": "r1 = " + "1" * 990,
    "spaces before a mistake": "r1 = foo" + " " * 980 + "!",
    "spaces everywhere": "r1 = *" + " " * 400 + "(u8" + " " * 400 + "!",
    "letters before a mistake": "r1 = " + "l" * 980 + "!",
    "brackets": "r1 = map[" * 100,
    "parentheses": "(" * 1000,
    "angle brackets": "call 5 " + "<" * 900,
    "colons": ":" * 1000,
    "stars": "*(u8 *)" * 140,
    "hashes": "call a" + "#1" * 490,
    "signs": "goto " + "+-" * 490,
}


@pytest.mark.parametrize("syntax", ["kernel", "llvm", "ubpf"])
@pytest.mark.parametrize("kind", NASTY)
def test_one_nasty_line_costs_little(kind: str, syntax: Syntax) -> None:
    """No line makes the patterns try again and again: its error comes at once."""
    start = time.process_time()
    with pytest.raises(ParseError) as caught:
        parse(NASTY[kind], syntax)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 4000


def test_a_log_of_a_megabyte_is_read() -> None:
    """The log of a loop that is walked ten thousand times is a short program."""
    states = "0: R1=ctx() R10=fp0\n" + "".join(
        f"{slot}: {text} ; R0_w=scalar(smin=0)\nfrom 1 to 0: R0=scalar(id={turn}) R10=fp0\n"
        for turn in range(5000)
        for slot, text in ((0, "(07) r0 += 1"), (1, "(a5) if r0 < 0x2710 goto pc-2"), (2, "(95) exit"))
    )
    assert len(states) > MEGABYTE
    assert [each.opcode for each in parse(states)] == [0x07, 0xA5, 0x95]


def test_errors_are_of_the_library() -> None:
    """A user may catch BpfError or ValueError."""
    from pybpfasm.errors import BpfError

    for kind in (BpfError, ValueError):
        with pytest.raises(kind, match=re.escape("line 1, column 1: an instruction is expected")):
            parse("?")
