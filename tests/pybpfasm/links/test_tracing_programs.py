"""Programs attached to other programs: a function replaced (ext), and traced (fentry, fexit)."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_programs import count

from pybpfasm import isa
from pybpfasm.btf import BtfBuilder, Linkage, kinds
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.isa import Label
from pybpfasm.kernel import features
from pybpfasm.kernel.links import Link, attach_to_program, attach_tracing
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import FunctionInfo, ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType

PACKET = bytes(64)
VERDICT_BEFORE, VERDICT_AFTER = 2, 1


def types(main: str, function: str, result: str = "int") -> tuple[bytes, int, int]:
    """BTF of `int main(struct xdp_md *)` and of a global function of the same prototype, with their ids."""
    builder = BtfBuilder()
    integer = builder.add(kinds.Int(result, 4, 32, signed=True))
    context = builder.add(kinds.Struct("xdp_md", 0))
    pointer = builder.add(kinds.Ptr(context))
    prototype = builder.add(kinds.FuncProto(integer, (kinds.Parameter("ctx", pointer),)))
    main_id = builder.add(kinds.Func(main, prototype, Linkage.GLOBAL))
    function_id = builder.add(kinds.Func(function, prototype, Linkage.GLOBAL))
    return builder.encode(), main_id, function_id


@pytest.fixture
def target() -> Iterator[Program]:
    """An XDP program whose verdict comes from a global function."""
    blob, main, function = types("main", "verdict")
    code = isa.resolve_labels(
        (
            isa.call_function("verdict"),
            isa.exit_program(),
            Label("verdict"),
            isa.mov_imm(0, VERDICT_BEFORE),
            isa.exit_program(),
        )
    )
    functions = (FunctionInfo(0, "main", main), FunctionInfo(2, "verdict", function))
    spec = ProgramSpec(
        "main", ProgramType.XDP, AttachType.XDP, "xdp_md", tuple(code), {}, functions=functions, types=blob
    )
    with Program.load(spec) as program:
        yield program


def extension(target: Program, function: str = "verdict") -> Program:
    """A program that replaces the target's function."""
    blob, main, _ = types("other", "unused")
    code = (isa.mov_imm(0, VERDICT_AFTER), isa.exit_program())
    spec = ProgramSpec(
        "other",
        ProgramType.EXT,
        AttachType(0),
        "xdp_md",
        code,
        {},
        attach_to=function,
        functions=(FunctionInfo(0, "other", main),),
        types=blob,
    )
    return Program.load(spec, target=target)


@pytest.mark.needs(features.EXTENSION)
def test_a_function_is_replaced(target: Program, bpffs: Path) -> None:
    """The other function runs as long as the link lives, be it by its pin; then the first is back."""
    assert target.run(PACKET).retval == VERDICT_BEFORE
    with extension(target) as program, attach_tracing(program) as link:
        assert target.run(PACKET).retval == VERDICT_AFTER
        assert link.info().program_id == program.info().id
        link.pin(bpffs / "link")
    assert target.run(PACKET).retval == VERDICT_AFTER
    with Link.open(bpffs / "link") as link:
        link.unpin()
    assert becomes(target, VERDICT_BEFORE)


def becomes(target: Program, verdict: int) -> bool:
    """Whether the target's verdict soon is this one: the kernel lets go of a link in a worker of its own."""
    for _ in range(200):
        if target.run(PACKET).retval == verdict:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.needs(features.EXTENSION)
def test_a_function_is_replaced_once(target: Program) -> None:
    """A second replacement is refused while the first is there, and possible afterwards, by the same program too."""
    with extension(target) as one, extension(target) as two:
        with attach_tracing(one), pytest.raises(KernelError, match=r"^cannot attach program other to verdict: .*EBUSY"):
            attach_tracing(two)
        with attach_to_program(one, target, "verdict"):
            assert target.run(PACKET).retval == VERDICT_AFTER
        with pytest.raises(KernelError, match=r"to function nothing of program main: program main has no function of"):
            attach_to_program(one, target, "nothing")


@pytest.mark.needs(features.EXTENSION)
def test_a_function_that_the_target_has_not(target: Program) -> None:
    """It is told when the program is loaded, and so is a missing target."""
    with pytest.raises(KernelError, match=r"^cannot load program other: its target, program main, has no function 'x'"):
        extension(target, "x")
    code = (isa.mov_imm(0, 0), isa.exit_program())
    spec = ProgramSpec("other", ProgramType.EXT, AttachType(0), "", code, {}, attach_to="verdict")
    with pytest.raises(BpfError, match=r"^program other extends another: pass that as Program\.load"):
        Program.load(spec)


@pytest.mark.needs(features.FENTRY)
@pytest.mark.parametrize("hook", [AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT])
def test_a_program_is_traced(target: Program, counts: Map, hook: AttachType) -> None:
    """Each run of the traced program is counted, as long as the link lives."""
    code = (
        isa.store_imm(4, 10, -4, 0),
        isa.mov(2, 10),
        isa.alu_imm(isa.Alu.ADD, 2, -4),
        isa.load_map(1, "counts"),
        isa.call(1),
        isa.jump_if_imm(isa.Jump.JEQ, 0, 0, "out"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )
    spec = ProgramSpec("tracer", ProgramType.TRACING, hook, "", tuple(isa.resolve_labels(code)), {}, attach_to="main")
    with Program.load(spec, {"counts": counts}, target=target) as program, attach_tracing(program):
        target.run(PACKET, repeat=3)
        assert count(counts) == 3
    target.run(PACKET)
    assert count(counts) == 3
