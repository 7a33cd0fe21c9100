"""Text in and out: what is printed is read back, in every form that tools and people write it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isa_streams import OPCODES, few, of_opcode, streams, unhurried

from pybpfasm import isa
from pybpfasm.isa import EncodingError, Instruction, Jump, ParseError, Syntax, parse

SYNTAXES: tuple[Syntax, ...] = ("kernel", "llvm")
printed_syntaxes = st.sampled_from(SYNTAXES)

# --- there and back ---------------------------------------------------------------------------------------------------


@unhurried
@given(streams, printed_syntaxes)
def test_what_is_printed_is_read_back(instructions: list[Instruction], syntax: Syntax) -> None:
    """Any instructions that there are survive being text."""
    assert parse(isa.format(instructions, syntax), syntax) == instructions


@pytest.mark.parametrize("opcode", OPCODES, ids=hex)
@few
@given(data=st.data())
def test_every_opcode_is_read_back(opcode: int, data: st.DataObject) -> None:
    """The same for each opcode by itself; in the kernel's syntax the opcode in parentheses may be left out."""
    instruction = data.draw(of_opcode(opcode))
    kernel, llvm = isa.format_instruction(instruction), isa.format_instruction(instruction, "llvm")
    assert parse(kernel) == parse(kernel[5:]) == parse(llvm, "llvm") == [instruction]


@unhurried
@given(streams, printed_syntaxes)
def test_a_listing_is_read_back(instructions: list[Instruction], syntax: Syntax) -> None:
    """The numbers before the lines count slots, and reading the listing gives the instructions."""
    rows = list(isa.listing(instructions, syntax))
    slot = 0
    for row, instruction in zip(rows, instructions, strict=True):
        assert row == f"{slot:4}: {isa.format_instruction(instruction, syntax)}"
        slot += instruction.slots
    assert parse("\n".join(rows), syntax) == instructions


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("instruction", "kernel", "llvm"),
    [
        (isa.load_map(1, "stats"), "r1 = map[stats]", "r1 = stats ll"),
        (isa.load_map_value(1, ".rodata", 8), "r1 = map[.rodata][0]+8", "r1 = .rodata + 0x8 ll <map value>"),
        (isa.load_map_value(1, "x"), "r1 = map[x][0]+0", "r1 = x ll <map value>"),
        (isa.load_kernel_variable(1, "jiffies"), "r1 = ksym[jiffies]", "r1 = jiffies ll <kernel variable>"),
        (isa.call_kfunc("bpf_cast"), "call kernel-function#bpf_cast", "call bpf_cast <kfunc>"),
    ],
)
def test_names_that_wait_for_the_loader(instruction: Instruction, kernel: str, llvm: str, syntax: Syntax) -> None:
    """Names of maps, variables and kfuncs are printed and read as names."""
    text = isa.format_instruction(instruction, syntax)
    assert re.sub(r"^\(..\) ", "", text) == (kernel if syntax == "kernel" else llvm)
    assert parse(text, syntax) == [instruction]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "instruction",
    [
        isa.jump("L"),
        isa.jump_long("L"),
        isa.may_goto("L"),
        isa.jump_if(Jump.JSLT, 1, 2, "L", bits=32),
        isa.jump_if_imm(Jump.JNE, 1, -5, "L"),
        isa.call_function("L"),
        isa.load_function(1, "L"),
    ],
    ids=isa.format_instruction,
)
def test_labels_are_printed_by_name(instruction: Instruction, syntax: Syntax) -> None:
    """Before labels are resolved the text names them; reading it with the label resolves them."""
    text = isa.format_instruction(instruction, syntax)
    assert re.search(r"\bL\b", text)
    assert parse(f"{text}\nL: exit", syntax) == isa.resolve_labels([instruction, isa.Label("L"), isa.exit_program()])


def test_format_takes_one_or_many() -> None:
    """One instruction is one line, many are a line each, none is empty."""
    assert isa.format(isa.exit_program(), "llvm") == "exit"
    assert isa.format([isa.mov(1, 2), isa.exit_program()], "llvm") == "r1 = r2\nexit"
    assert isa.format([]) == ""
    assert list(isa.listing([isa.load_imm64(0, 1), isa.exit_program()], "llvm")) == ["   0: r0 = 0x1 ll", "   2: exit"]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (Instruction(0xFF), "opcode 0xff is not known"),
        (Instruction(0x1FF), "opcode 0x1ff is not known"),
        (Instruction(-1), "opcode -0x1 is not known"),
        (Instruction(0xDB, imm=2), "an atomic instruction 0x2 is not known"),
        (Instruction(0xBF, 1, 2, 7), "a move that extends the sign has offset 8, 16 or 32, not 7"),
        (Instruction(0x85, src=4), "a call of kind 4 is not known, 0 (helper), 1 (function) and 2 (kfunc) are"),
        (Instruction(0x18, src=9), "ld_imm64 of kind 9 is not known, 0 to 6 are"),
        (Instruction(0xDC, imm=8), "a swap has 16, 32 or 64 bits, not 8"),
    ],
)
def test_what_is_no_instruction_is_not_printed(instruction: Instruction, message: str, syntax: Syntax) -> None:
    """No text is made up for an opcode or a variant that does not exist."""
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}$"):
        isa.format([instruction], syntax)


def test_unknown_syntaxes_are_refused() -> None:
    """The message says which there are."""
    with pytest.raises(ValueError, match=r"^syntax 'intel' is not known: kernel, llvm and ubpf are$"):
        parse("exit", "intel")  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(ValueError, match=r"^syntax 'ubpf' cannot be printed: kernel and llvm can$"):
        isa.format([], "ubpf")


# --- forms of text ----------------------------------------------------------------------------------------------------

LOOP = [
    isa.mov_imm(0, 0),
    isa.alu_imm(isa.Alu.ADD, 0, 1),
    Instruction(0xA5, 0, 0, -2, 10),
    isa.exit_program(),
]
SAME: dict[str, tuple[Syntax, str]] = {
    "kernel": ("kernel", "r0 = 0\nr0 += 1\nif r0 < 0xa goto pc-2\nexit"),
    "kernel with opcodes": ("kernel", "(b7) r0 = 0\n(07) r0 += 1\n(a5) if r0 < 0xa goto pc-2\n(95) exit"),
    "opcodes in capitals": ("kernel", "(B7) r0 = 0\n(07) r0 += 1\n(A5) if r0 < 0xA goto pc-2\n(95) exit"),
    "labels": ("kernel", "r0 = 0\nagain:\nr0 += 1\nif r0 < 0xa goto again\nexit"),
    "a label in the line": ("kernel", "start: r0 = 0\nagain: r0 += 1\nif r0 < 10 goto again\nout: exit"),
    "two labels": ("kernel", "r0 = 0\na: b:\nr0 += 1\nif r0 < 10 goto b\nexit"),
    "odd names": ("kernel", "r0 = 0\n.L$a.b_1: r0 += 1\nif r0 < 10 goto .L$a.b_1\nexit"),
    "an unused label at the end": ("kernel", "r0 = 0\nr0 += 1\nif r0 < 10 goto pc-2\nexit\nend:"),
    "numbered": ("kernel", "0: r0 = 0\n1: r0 += 1\n2: if r0 < 10 goto pc-2\n3: exit"),
    "numbered from elsewhere": ("kernel", "7: r0 = 0\n8: r0 += 1\n9: if r0 < 10 goto pc-2\n10: exit"),
    "numbered in another order": ("kernel", "3: exit\n1: r0 += 1\n2: if r0 < 10 goto pc-2\n0: r0 = 0"),
    "visited twice": ("kernel", "0: r0 = 0\n1: r0 += 1\n2: if r0 < 10 goto pc-2\n1: r0 += 1\n3: exit\n3: exit"),
    "comments": ("kernel", "; first\nr0 = 0 ; zero\n# and\n  # then\nr0 += 1;\nif r0 < 10 goto pc-2 ;;; x: y\nexit"),
    "CRLF": ("kernel", "r0 = 0\r\nr0 += 1\r\nif r0 < 10 goto pc-2\r\nexit\r\n"),
    "tabs": ("kernel", "\tr0\t=\t0\n\tr0\t+=\t1\n\tif\tr0\t<\t10\tgoto\tpc-2\n\texit\t"),
    "spaces": ("kernel", "  r0   =  0  \n\n   \n r0 += 1\n if r0  <  10   goto   pc-2\n exit"),
    "no spaces": ("kernel", "r0=0\nr0+=1\nif r0<10 goto pc-2\nexit"),
    "bpftool's signatures": (
        "kernel",
        "int f(void * ctx):\n; x\n 0: (b7) r0 = 0\n 1: (07) r0 += 1\n 2: (a5) if r0 < 0xa goto pc-2\n 3: (95) exit\n",
    ),
    "llvm": ("llvm", "r0 = 0x0\nr0 += 0x1\nif r0 < 0xa goto -0x2\nexit"),
    "llvm in decimal": ("llvm", "r0 = 0\nr0 += 1\nif r0 < 10 goto -2\nexit"),
    "llvm, one line": ("llvm", "r0 = 0; again: r0 += 1; if r0 < 10 goto again; exit;"),
    "llvm with comments": ("llvm", "// first\nr0 = 0 # zero\nr0 += 1 // one; exit\n; source\nif r0 < 10 goto -2\nexit"),
    "llvm with names of places": ("llvm", "r0 = 0\nr0 += 1\nif r0 < 10 goto -2 <f+0x8>\nexit"),
    "llvm, numbered": ("llvm", "0:\tr0 = 0\n1:\tr0 += 1\n2:\tif r0 < 0xa goto -0x2 <LBB0_1>\n3:\texit"),
    "ubpf": ("ubpf", "mov %r0, 0\nadd %r0, 1\njlt %r0, 10, -2\nexit"),
    "ubpf without signs": ("ubpf", "mov r0, 0x0\nadd r0,1\njlt r0, 0xa, -2\nexit"),
    "ubpf with labels": ("ubpf", "mov %r0, 0 # zero\nagain:\nadd %r0, 1 ; one\njlt %r0, 10, again\nexit"),
}


@pytest.mark.parametrize(("syntax", "text"), SAME.values(), ids=SAME)
def test_one_program_in_many_forms(syntax: Syntax, text: str) -> None:
    """Spaces, comments, labels, numbers and line ends do not change what is read."""
    assert parse(text, syntax) == LOOP


@pytest.mark.parametrize("syntax", ["kernel", "llvm", "ubpf"])
@pytest.mark.parametrize("text", ["", "\n", "\r\n", "  \t ", ";", "; x\n# y\n", "a:\nb:"])
def test_text_without_instructions(syntax: Syntax, text: str) -> None:
    """Nothing, space, comments and labels are an empty program."""
    assert parse(text, syntax) == []


@pytest.mark.parametrize(
    ("text", "syntax", "instruction"),
    [
        ("r1 = 0x5", "kernel", isa.load_imm64(1, 5)),
        ("r1 = 5", "kernel", isa.mov_imm(1, 5)),
        ("(b7) r1 = 0x5", "kernel", isa.mov_imm(1, 5)),
        ("(b7) r1 = -0x5", "kernel", isa.mov_imm(1, -5)),
        ("(18) r1 = 5", "kernel", isa.load_imm64(1, 5)),
        ("(18) r1 = -5", "kernel", isa.load_imm64(1, -5)),
        ("r1 = 0xffffffff", "llvm", isa.mov_imm(1, -1)),
        ("r1 = 4294967295 ll", "llvm", isa.load_imm64(1, 0xFFFFFFFF)),
        ("r1 = +7", "kernel", isa.mov_imm(1, 7)),
        ("r1 = 007", "kernel", isa.mov_imm(1, 7)),
        ("call bpf_get_prandom_u32", "kernel", isa.call(7)),
        ("call bpf_get_prandom_u32#7", "kernel", isa.call(7)),
        ("call some_kernels_own_name#7", "kernel", isa.call(7)),
        ("call pc+4#bpf_prog_6deef7357e7b4530_f", "kernel", Instruction(0x85, 0, 1, 0, 4)),
        ("call pc+4#0xffffffffc0001234", "kernel", Instruction(0x85, 0, 1, 0, 4)),
        ("r1 = map[fd:5]", "kernel", Instruction(0x18, 1, 1, 0, 5)),
        ("r1 = fooll ll", "llvm", isa.load_map(1, "fooll")),
        ("r1 = ll ll", "llvm", isa.load_map(1, "ll")),
        ("*(u8 *)(r10 - 1) = r3", "llvm", isa.store(1, 10, -1, 3)),
        ("r1 = *(u32 *)(r2+4)", "llvm", isa.load(4, 1, 2, 4)),
        ("lock *(u32*)(r1+0)+=w2", "llvm", isa.atomic(isa.Atomic.ADD, 4, 1, 0, 2)),
        ("call local -5", "ubpf", Instruction(0x85, 0, 1, 0, -5)),
        ("call %r3", "ubpf", isa.call_register(3)),
        ("ldxw %r1, [%r2]", "ubpf", isa.load(4, 1, 2, 0)),
    ],
)
def test_what_can_be_written_in_other_ways(text: str, syntax: Syntax, instruction: Instruction) -> None:
    """Ways of writing that tools and people use beside the one that is printed."""
    assert parse(text, syntax) == [instruction]


def test_the_exit_of_ubpf() -> None:
    """In uBPF's syntax `exit` as a target is the last exit, unless it is a label."""
    assert [each.offset for each in parse("ja exit\nexit\nmov %r0, 1\nexit", "ubpf")] == [2, 0, 0, 0]
    assert parse("ja exit\nexit:\nmov %r0, 1\nexit", "ubpf")[0].offset == 0


# --- the verifier's log -----------------------------------------------------------------------------------------------

BRANCH = [
    isa.mov(6, 1),
    isa.load(4, 0, 1, 4),
    Instruction(0x15, 0, 0, 1, 2),
    isa.mov_imm(0, 0),
    isa.alu_imm(isa.Alu.AND, 0, 1),
    isa.exit_program(),
]
LINUX_5_10 = """\
func#0 @0
0: R1=ctx(id=0,off=0,imm=0) R10=fp0
; int f(struct ctx *c)
0: (bf) r6 = r1
1: R1=ctx(id=0,off=0,imm=0) R6_w=ctx(id=0,off=0,imm=0) R10=fp0
1: (61) r0 = *(u32 *)(r1 +4)
2: R0_w=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R1=ctx(id=0,off=0,imm=0) R10=fp0
2: (15) if r0 == 0x2 goto pc+1
 R0_w=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R1=ctx(id=0,off=0,imm=0) R10=fp0
3: (b7) r0 = 0
4: (57) r0 &= 1
5: (95) exit
last_idx 5 first_idx 0
regs=1 stack=0 before 4: (57) r0 &= 1

from 2 to 4: R0_w=inv2 R1=ctx(id=0,off=0,imm=0) R6_w=ctx(id=0,off=0,imm=0) R10=fp0
4: (57) r0 &= 1
5: safe
verification time 85 usec
stack depth 0
processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
"""
LINUX_6_1 = """\
0: R1=ctx(off=0,imm=0) R10=fp0
0: (bf) r6 = r1                       ; R1=ctx(off=0,imm=0) R6_w=ctx(off=0,imm=0)
1: (61) r0 = *(u32 *)(r1 +4)          ; R0_w=scalar(umax=4294967295,var_off=(0x0; 0xffffffff)) R1=ctx(off=0,imm=0)
2: (15) if r0 == 0x2 goto pc+1        ; R0_w=scalar(umax=4294967295,var_off=(0x0; 0xffffffff))
3: (b7) r0 = 0                        ; R0_w=0
4: (57) r0 &= 1                       ; R0_w=0
5: (95) exit

from 2 to 4: R0_w=2 R1=ctx(off=0,imm=0) R6_w=ctx(off=0,imm=0) R10=fp0
4: (57) r0 &= 1                       ; R0_w=0
5: (95) exit
processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
"""
REJECTED = """\
0: R1=ctx() R10=fp0
0: (bf) r6 = r1                       ; R1=ctx() R6_w=ctx()
1: (61) r0 = *(u32 *)(r1 +4)
invalid bpf_context access off=4 size=4
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
CALLED = """\
0: R1=ctx() R10=fp0
; f(1) @ prog.c:12
0: (b7) r1 = 1                        ; R1_w=1
1: (85) call pc+1
caller:
 R10=fp0
callee:
 frame1: R1_w=1 R10=fp0
3: frame1: R1_w=1 R10=fp0
3: (bf) r0 = r1                       ; frame1: R0_w=1 R1_w=1
4: (95) exit
returning from callee:
 frame1: R0_w=1 R1_w=1 R10=fp0
to caller at 2:
 R0_w=1 R10=fp0

from 4 to 2: R0_w=1 R10=fp0
2: (95) exit
mark_precise: frame0: last_idx 2 first_idx 0 subseq_idx -1
mark_precise: frame0: regs=r0 stack= before 4: (95) exit
"""
LIVE_REGISTERS = """\
Live regs before insn:
      0: .1........ (bf) r6 = r1
      1: .1........ (61) r0 = *(u32 *)(r1 +4)
  1   2: 0......... (15) if r0 == 0x2 goto pc+1
  1   3: .......... (b7) r0 = 0
      4: 0......... (57) r0 &= 1
      5: 0......... (95) exit
0: R1=ctx() R10=fp0
0: (bf) r6 = r1                       ; R1=ctx() R6=ctx()
1: (61) r0 = *(u32 *)(r1 +4)
invalid bpf_context access off=4 size=4
"""
LOGS = {
    "Linux 5.10": (LINUX_5_10, BRANCH),
    "Linux 6.1": (LINUX_6_1, BRANCH),
    "rejected": (REJECTED, BRANCH[:2]),
    "with a call": (
        CALLED,
        [isa.mov_imm(1, 1), Instruction(0x85, 0, 1, 0, 1), isa.exit_program(), isa.mov(0, 1), isa.exit_program()],
    ),
    "with live registers": (LIVE_REGISTERS, BRANCH),
    "totals only": ("0: (95) exit\nprocessed 1 insns (limit 1000000) …\n", [isa.exit_program()]),
}


@pytest.mark.parametrize(("log", "instructions"), LOGS.values(), ids=LOGS)
def test_a_verifiers_log_is_read(log: str, instructions: list[Instruction]) -> None:
    """The instructions among states, paths and totals, in the forms of several kernels; visited twice, taken once."""
    assert parse(log) == instructions
    assert parse(log.replace("\n", "\r\n")) == instructions


def test_a_log_with_unreached_instructions_is_refused() -> None:
    """What the verifier never visited is not in the log, and nothing is made up for it."""
    log = "0: R1=ctx() R10=fp0\n0: (05) goto pc+1\n2: (95) exit\n"
    with pytest.raises(
        ParseError, match="slot 1 is missing before slot 2; a verifier's log lacks what was never reached"
    ):
        parse(log)


def test_an_error_in_a_log_is_located() -> None:
    """Lines that are passed over count, and blanked columns keep their place."""
    with pytest.raises(ParseError) as caught:
        parse("Live regs before insn:\n  1   0: .......... (b7) r0 = what\n0: R1=ctx() R10=fp0\n")
    assert (caught.value.line, caught.value.column) == (2, 31)


def test_a_program_that_only_mentions_a_log_is_none() -> None:
    """States in comments do not turn a program into a log, of which lines would be passed over."""
    with pytest.raises(ParseError, match="line 2"):
        parse("r0 = 0 ; R1=ctx() R10=fp0, then processed 5 insns\nwhat\nexit")
