"""The verifier's reason is found in the log of the running kernel, and in the forms that other kernels write."""

import re

import pytest
from small_specs import EXIT, spec, xdp

from pybpfasm import isa
from pybpfasm.isa import Alu, Instruction, Jump, Label
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError, rejection
from pybpfasm.spec import ProgramSpec, SourceLine
from pybpfasm.uapi import AttachType, Helper, ProgramType

DEEP = [isa.load(4, 0, 1, 12), *[isa.jump_if_imm(Jump.JSET, 0, 1 << bit, "end") for bit in range(20)]]

REJECTED: dict[str, tuple[tuple[Instruction | Label, ...], int | None, str]] = {
    "a register that is not set": ((isa.mov(0, 5), EXIT), 0, r"R5 !read_ok"),
    "no result": ((EXIT,), 0, r"R0 !read_ok"),
    "no exit": ((isa.mov_imm(0, 0),), None, r"last insn is not an exit or jmp"),
    "no map": ((isa.mov_imm(1, 0), isa.mov_imm(2, 0), isa.call(1), EXIT), 2, r"R1 type=(inv|scalar) expected=map_ptr"),
    "beyond the context": ((isa.load(4, 0, 1, 400), EXIT), 0, r"invalid bpf_context access off=400 size=4"),
    "code that is not reached": ((isa.mov_imm(0, 0), EXIT, isa.mov_imm(0, 0), EXIT), None, r"unreachable insn 2"),
    "beyond the stack": ((isa.store_imm(8, 10, -520, 0), EXIT), 0, r"invalid write to stack R10 off=-520 size=8"),
    "a helper that is none": ((isa.call(99999), EXIT), 0, r"invalid func unknown#99999"),
    "a function": ((isa.call_function("f"), EXIT, Label("f"), isa.mov(0, 7), EXIT), 2, r"R7 !read_ok"),
    "a division": ((isa.mov_imm(0, 1), isa.alu_imm(Alu.DIV, 0, 0), EXIT), 1, r"div by zero"),
    "on many paths": ((*DEEP, Label("end"), isa.load(8, 0, 0, 0), EXIT), 21, r"R0 invalid mem access '(inv|scalar)'"),
    "with precision tracked": (
        (
            isa.load(4, 6, 1, 12),
            isa.mov_imm(7, 0),
            isa.jump_if_imm(Jump.JGT, 6, 100, "on"),
            isa.alu_imm(Alu.ADD, 7, 8),
            Label("on"),
            isa.mov(8, 10),
            isa.alu(Alu.ADD, 8, 7),
            isa.load(8, 0, 8, 0),
            EXIT,
        ),
        6,
        r"invalid read from stack R8 off=8 size=8",
    ),
}


@pytest.mark.parametrize(("code", "slot", "reason"), REJECTED.values(), ids=REJECTED)
def test_reason(code: tuple[Instruction | Label, ...], slot: int | None, reason: str) -> None:
    """The verifier's sentence and the instruction's slot are found."""
    with pytest.raises(VerifierError) as caught:
        Program.load(xdp(*code))
    assert re.fullmatch(reason, caught.value.reason)
    assert caught.value.slot == slot


def test_a_result_out_of_range() -> None:
    """The range is part of the sentence, in whatever form."""
    program_spec = spec(
        (isa.mov_imm(0, 77), EXIT),
        "range",
        ProgramType.CGROUP_SOCK_ADDR,
        AttachType.CGROUP_INET4_CONNECT,
        "bpf_sock_addr",
    )
    with pytest.raises(VerifierError, match=r"At program exit the register R0 has .* should have been in "):
        Program.load(program_spec)


def test_a_license() -> None:
    """A helper for GPL programs alone says so."""
    call = (
        isa.mov(1, 10),
        isa.mov_imm(2, 0),
        isa.mov_imm(3, 0),
        isa.call(Helper.TRACE_PRINTK),
        isa.mov_imm(0, 0),
        EXIT,
    )
    with pytest.raises(
        VerifierError, match=r"cannot call GPL.restricted function from non-GPL compatible program: this helper is for"
    ):
        Program.load(xdp(*call, license="MIT"))


SPEC = ProgramSpec(
    "p", ProgramType.XDP, AttachType.XDP, "xdp_md", (), {}, lines=(SourceLine(0, "a.py", 3, 5, "return x"),)
)

# As kernels other than this one write them.
LINUX_5_10 = """\
func#0 @0
0: R1=ctx(id=0,off=0,imm=0) R10=fp0
; return x
0: (bf) r0 = r5
R5 !read_ok
verification time 38 usec
stack depth 0
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
LINUX_6_12 = """\
0: R1=ctx() R10=fp0
; return x @ a.py:3
0: (bf) r0 = r6
mark_precise: frame0: last_idx 0 first_idx 0 subseq_idx -1
mark_precise: frame0: regs=r6 stack= before 0: (bf) r0 = r6
R6 !read_ok
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""
LINUX_7_3 = """\
0: R1=ctx() R10=fp0
0: (95) exit
R0 !read_ok

Verification failed: Register Type Safety: Unreadable register

Reason:
  R0 has never been initialized on this path, so the verifier cannot use it as an input.

At:
  insn 0
        | ^-- error: R0 is not readable
  Instruction context:
  >>> 0 | (95) exit

Causal path:
  no retained diagnostic events on this path

Suggestion:
  Initialize R0 on every path before this instruction.

processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


@pytest.mark.parametrize(("log", "reason"), [(LINUX_5_10, "R5"), (LINUX_6_12, "R6"), (LINUX_7_3, "R0")])
def test_forms_of_other_kernels(log: str, reason: str) -> None:
    """Older and newer forms give the same: a sentence, a source line."""
    error = rejection(SPEC, log, "EACCES")
    assert str(error).startswith(f"the kernel rejected program p at a.py:3:5, `return x`: {reason} !read_ok: ")
    assert error.log == log


def test_the_report_of_newer_kernels() -> None:
    """From Linux 7.3 on, the explanation is kept apart; without the old sentence, it gives the reason."""
    error = rejection(SPEC, LINUX_7_3, "EACCES")
    assert error.report.startswith("Verification failed: Register Type Safety")
    assert error.report.endswith("Initialize R0 on every path before this instruction.")
    alone = rejection(SPEC, LINUX_7_3.replace("R0 !read_ok\n", ""), "EACCES")
    assert alone.reason == "R0 has never been initialized on this path, so the verifier cannot use it as an input."


def test_a_program_that_is_too_large() -> None:
    """What came before the kernel gave up tells more than that it did; alone it is the reason."""
    jumps = (
        "1: (05) goto pc+1\nThe sequence of 8193 jumps is too complex.\nBPF program is too large. Processed 9 insn\n"
    )
    assert rejection(SPEC, jumps, "E2BIG").reason == "The sequence of 8193 jumps is too complex."
    assert rejection(SPEC, "BPF program is too large. Processed 9 insn\n", "E2BIG").reason.startswith("BPF program is")


def test_a_log_without_a_reason() -> None:
    """Then the system call's own error has to do."""
    assert rejection(SPEC, "0: (95) exit\nprocessed 1 insns (limit 1)\n", "it said EINVAL").reason == "it said EINVAL"
