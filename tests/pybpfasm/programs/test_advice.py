"""What is said of the commonest rejections: what usually mends them, by the program's own names."""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from small_specs import EXIT, classifier, xdp

from pybpfasm import isa
from pybpfasm.compiler import compile_program
from pybpfasm.isa import Alu, Instruction, Jump, Label
from pybpfasm.kernel.collection import Collection
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.verifier import VerifierError, rejection
from pybpfasm.records import evolve
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, RegisterName, Untyped
from pybpfasm.uapi import Helper, MapType

STATS = MapSpec("stats", MapType.HASH, Untyped(4), Untyped(16), 4)
RING = MapSpec("ring", MapType.RINGBUF, Untyped(0), Untyped(0), 4096)
ZERO = isa.mov_imm(0, 0)

LOOKUP = (
    isa.store_imm(4, 10, -4, 0),
    isa.mov(2, 10),
    isa.alu_imm(Alu.ADD, 2, -4),
    isa.load_map(1, "stats"),
    isa.call(Helper.MAP_LOOKUP_ELEM),
)
FOUND = (*LOOKUP, isa.jump_if_imm(Jump.JEQ, 0, 0, "out"))
OUT = (Label("out"), ZERO, EXIT)
RANDOM = (isa.mov(6, 0), isa.call(Helper.GET_PRANDOM_U32))


def prog(*items: Instruction | Label, names: Iterable[tuple[int, int, str]] = ()) -> ProgramSpec:
    """An XDP program with a map of stats and a ring buffer, and names for what its registers have."""
    return evolve(xdp(*items), maps={"stats": STATS, "ring": RING}, names=tuple(RegisterName(*each) for each in names))


# A program, what the sentence has of the kernel's words, and what is said behind it.
REJECTED: dict[str, tuple[ProgramSpec, str, str]] = {
    "may be None": (
        prog(*LOOKUP, isa.load(8, 0, 0, 0), *OUT, names=[(5, 0, "stat")]),
        "invalid mem access 'map_value_or_null'",
        "`stat` may be None here: test it with `is None` before, .* (the verifier has R0=map_value_or_null(",
    ),
    "a number as a pointer": (
        prog(isa.mov_imm(7, 5), isa.load(8, 0, 7, 0), EXIT, names=[(0, 7, "flow")]),
        "R7 invalid mem access 'scalar'",
        "`flow` is a number for the verifier, not a pointer: .* (the verifier has R7=5)",
    ),
    "an index without a limit": (
        prog(*FOUND, *RANDOM, isa.alu_imm(Alu.AND, 0, 0x7FFFFFFF), isa.alu(Alu.ADD, 6, 0), isa.load(1, 0, 6, 0), *OUT),
        "R6 unbounded memory access",
        "the verifier knows no limit of an index or an offset in R6: bound it by",
    ),
    "an index that may be negative": (
        prog(
            *FOUND,
            *RANDOM,
            isa.jump_if_imm(Jump.JSGT, 0, 7, "out"),
            isa.jump_if_imm(Jump.JSLT, 0, -7, "out"),
            isa.alu(Alu.ADD, 6, 0),
            isa.load(1, 0, 6, 0),
            *OUT,
        ),
        "R6 min value is negative",
        "R6 may be below 0 for the verifier: make the index unsigned",
    ),
    "outside of a value": (
        prog(*FOUND, isa.load(8, 0, 0, 16), *OUT),
        "invalid access to map value, value_size=16 off=16 size=8",
        "this reaches outside of the map's value: bound the index below the array's length",
    ),
    "outside of a packet": (
        prog(isa.load(4, 2, 1, 0), isa.load(4, 3, 1, 4), isa.load(1, 0, 2, 0), *OUT),
        "invalid access to packet",
        "the packet may end before these bytes: take them by `ctx.packet(Type, offset)`",
    ),
    "no value": (
        prog(isa.mov(0, 8), EXIT),
        "R8 !read_ok",
        "R8 has no value on one of the ways here, or a call has overwritten it",
    ),
    "bytes that were not written": (
        evolve(
            prog(
                isa.mov(2, 10),
                isa.alu_imm(Alu.ADD, 2, -16),
                isa.load_map(1, "ring"),
                isa.mov_imm(3, 16),
                isa.mov_imm(4, 0),
                isa.load(8, 5, 10, -600),
                isa.call(Helper.RINGBUF_OUTPUT),
                *OUT,
            )
        ),
        "invalid read from stack",
        "bytes on the stack are read that were not written on every way here: build the struct whole",
    ),
    "outside of the stack": (
        prog(isa.store_imm(8, 10, -520, 0), *OUT),
        "invalid write to stack R10 off=-520 size=8",
        "this reaches outside of what is on the stack: a stack has 512 bytes",
    ),
    "a reservation that is kept": (
        prog(
            isa.load_map(1, "ring"),
            isa.mov_imm(2, 8),
            isa.mov_imm(3, 0),
            isa.call(Helper.RINGBUF_RESERVE),
            isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
            *OUT,
        ),
        "would lead to reference leak",
        "what was reserved or looked up is still held where the program ends, .*: submit, discard or release it once",
    ),
    "a loop without an end": (
        prog(Label("again"), isa.mov_imm(6, 0), isa.jump("again"), ZERO, EXIT),
        "(back-edge from insn|infinite loop detected|unreachable insn)",
        "(the verifier does not see that this loop ends: count by a local|no way leads to this code)",
    ),
    "too many ways": (
        prog(
            *(isa.call(Helper.GET_PRANDOM_U32), isa.mov(6, 0), isa.mov_imm(7, 0), Label("again")),
            *(isa.call(Helper.GET_PRANDOM_U32), isa.alu(Alu.ADD, 7, 0)),
            *(isa.jump_if_imm(Jump.JSET, 6, 1 << 30, "on"), isa.alu_imm(Alu.ADD, 7, 3), Label("on")),
            *(isa.alu_imm(Alu.ADD, 6, 1), isa.jump_if_imm(Jump.JLT, 6, 1 << 29, "again"), ZERO, EXIT),
        ),
        "(BPF program is too large|The sequence of 8193 jumps is too complex)",
        "there are more ways through the program than the verifier follows: fewer rounds",
    ),
    "no such helper": (
        prog(isa.call(Helper.MSG_APPLY_BYTES), *OUT),
        "(program of this type cannot use helper|unknown func) bpf_msg_apply_bytes#61",
        "this kernel has no such helper for programs of this type: `python -m pybpfasm probe` shows",
    ),
    "a field that is not there": (
        prog(isa.load(4, 0, 1, 400), EXIT),
        "invalid bpf_context access off=400 size=4",
        "this field of the context cannot be read or written so, at this hook or on this kernel",
    ),
    "another kind of argument": (
        prog(isa.mov_imm(1, 0), isa.mov_imm(2, 0), isa.call(Helper.MAP_LOOKUP_ELEM), *OUT, names=[(0, 1, "table")]),
        "R1 type=(inv|scalar) expected=map_ptr",
        "`table` is (inv|scalar) where the kernel's function wants map_ptr",
    ),
    "a pointer that may be None is computed with": (
        prog(*LOOKUP, isa.alu_imm(Alu.ADD, 0, 8), isa.load(8, 0, 0, 0), EXIT),
        "R0 pointer arithmetic on map_value_or_null prohibited",
        "a pointer is computed with a number that has no limit, or that may be None: test and bound it before",
    ),
    "a licence": (
        evolve(
            prog(
                *(isa.store_imm(8, 10, -8, 0), isa.mov(1, 10), isa.alu_imm(Alu.ADD, 1, -8), isa.mov_imm(2, 8)),
                isa.call(Helper.TRACE_PRINTK),
                *OUT,
            ),
            license="Proprietary",
        ),
        "cannot call GPL-restricted function",
        'this helper is for programs under a licence that is compatible with the GPL: give the spec `license="GPL"`',
    ),
    "stacks of functions": (
        prog(
            isa.store_imm(8, 10, -400, 0),
            isa.call_function("f"),
            *(ZERO, EXIT, Label("f"), isa.store_imm(8, 10, -400, 0), ZERO, EXIT),
        ),
        "combined stack size of 2 calls is",
        "functions that call each other need more than 512 bytes of stack together",
    ),
    "a context at an offset": (
        evolve(
            classifier(isa.call(Helper.GET_PRANDOM_U32), ZERO, EXIT),
            instructions=(
                isa.mov(6, 1),
                isa.alu_imm(Alu.ADD, 6, 4),
                isa.load(4, 0, 6, 0),
                EXIT,
            ),
        ),
        "dereference of modified ctx ptr",
        "a context is read at a constant offset only: take its field by name",
    ),
    "code that is not reached": (
        prog(ZERO, EXIT, ZERO, EXIT),
        "unreachable insn 2",
        "no way leads to this code: a condition before is always the same",
    ),
}


@pytest.mark.parametrize(("spec", "reason", "said"), REJECTED.values(), ids=REJECTED)
def test_what_is_said(spec: ProgramSpec, reason: str, said: str) -> None:
    """The running kernel rejects it by this sentence; what follows it is for who wrote the program."""
    with pytest.raises(VerifierError) as caught:
        Collection.load(CollectionSpec({"small": spec}, dict(spec.maps))).close()
    assert re.search(loosely(reason), caught.value.log), caught.value.reason
    assert re.search(loosely(said), caught.value.advice), caught.value.advice
    assert str(caught.value).endswith(f"{caught.value.reason}: {caught.value.advice}")
    assert "\n" not in str(caught.value)


def loosely(text: str) -> str:
    """A pattern in which only `.*` and alternatives mean something."""
    pattern = re.escape(text).replace(r"\.\*", ".*")
    return re.sub(r"\\\((\w[^()]*?\\\|[^()]*?)\\\)", lambda found: f"({found[1]})".replace(r"\|", "|"), pattern)


# The same sentences as other kernels write them.
OTHERS = [
    ("R0 invalid mem access 'map_value_or_null'\n", "R0 may be None here"),  # 5.10
    ("R3 invalid mem access 'inv'\n", "R3 is a number for the verifier"),  # 5.10
    ("invalid indirect read from stack R2 off -16+0 size 16\n", "bytes on the stack are read"),  # 5.10
    ("Unreleased reference id=2 alloc_insn=6\n", "what was reserved or looked up is still held"),  # 6.1
    (
        "R0 has value (0x4d; 0x0) should have been in (0x0; 0x1)\n",
        "the result is outside of what this hook takes",
    ),  # 5.10
    (
        "At program exit the register R0 has smin=77 smax=77 should have been in [0, 1]\n",
        "the result is outside",
    ),  # 6.8
    ("unknown func bpf_msg_apply_bytes#61\n", "this kernel has no such helper"),  # 5.10
    ("calling kernel function bpf_cgroup_from_id is not allowed\n", "this kernel lets programs of this type not call"),
    ("helper call might sleep in a non-sleepable prog\n", "this may sleep, and the program may not"),  # 6.x
    ("program must be sleepable to call sleepable kfunc bpf_put_file\n", "this may sleep, and the program may not"),
    ("bpf_spin_unlock is missing\n", "a lock is held here"),
    ("misaligned stack access off (0x0; 0x0)+0+-7 size 8\n", "an access must be aligned to its size here"),
    ("function calls are not allowed while holding a lock\n", "a lock is held here"),  # 6.x
    ("The sequence of 8193 jumps is too complex.\n", "there are more ways through the program"),
    (
        "math between map_value pointer and register with unbounded min value is not allowed\n",
        "a pointer is computed with",
    ),
]


@pytest.mark.parametrize(("log", "said"), OTHERS)
def test_other_kernels_words(log: str, said: str) -> None:
    """By the sentence alone."""
    assert rejection(prog(ZERO, EXIT), f"0: (b7) r0 = 0\n{log}", "EACCES").advice.startswith(said)


@pytest.mark.parametrize(
    "sentence",
    [
        "the moon is too bright",
        "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable",
    ],
)
def test_a_sentence_that_is_not_known(sentence: str) -> None:
    """Nothing is made up, nor is it taken for one of the same words: the sentence stands by itself."""
    error = rejection(prog(ZERO, EXIT), f"0: (b7) r0 = 0\n{sentence}\n", "EINVAL")
    assert error.advice == ""
    assert str(error).endswith(f": {sentence}")


LANGUAGE = """
import pybpfasm as bpf
from pybpfasm import SkBuff
from pybpfasm import helpers as h

@bpf.tc
def prog(ctx: SkBuff) -> int:
    mark = ctx.mark
    rounds = 0
    while mark > 0:
        rounds += 1
    return 0

@bpf.tc
def other(ctx: SkBuff) -> int:
    h.sk_assign(ctx, ctx, 0)
    return 0
"""


def test_what_the_compiler_made_is_called_as_in_the_source(tmp_path: Path) -> None:
    """A rejected program of the language: the Python line, the value by its name there, what to do."""
    path = tmp_path / "language.py"
    path.write_text(LANGUAGE)
    source = importlib.util.spec_from_file_location("language", path)
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    with pytest.raises(VerifierError) as caught:
        Program.load(compile_program(module.other))
    assert str(caught.value).startswith(
        f"the kernel rejected program other at {path}:16:5, `h.sk_assign(ctx, ctx, 0)`: R2 type=ctx expected="
    )
    assert "`ctx` is ctx where the kernel's function wants " in caught.value.advice
    with pytest.raises(VerifierError, match=r"language\.py:1[01]:.*the verifier does not see that this loop ends"):
        Program.load(compile_program(module.prog))


def test_a_name_is_of_the_value_that_is_there() -> None:
    """A register that has got another value since is called by its number."""
    spec = prog(isa.mov_imm(7, 5), isa.mov_imm(7, 6), isa.load(8, 0, 7, 0), EXIT, names=[(0, 7, "flow")])
    with pytest.raises(VerifierError) as caught:
        Collection.load(CollectionSpec({"small": spec}, dict(spec.maps))).close()
    assert caught.value.advice.startswith("R7 is a number")
