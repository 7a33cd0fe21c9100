"""bpf_conformance in the running kernel: what the verifier takes gives the result, the rest has a reason."""

from collections.abc import Iterator

import pytest
from conformance.vectors import Vector, need_vectors, vectors

from pybpfasm import btf, isa
from pybpfasm.isa import Instruction, Label
from pybpfasm.isa.opcodes import CALL, EXIT, JA_LONG, CallKind, Class
from pybpfasm.kernel import Map, Program
from pybpfasm.kernel.runs import run_program
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.spec import MapSpec, ProgramSpec
from pybpfasm.uapi import AttachType, MapType, ProgramType

VECTORS = vectors()
PACKET = bytes(64)
U32 = btf.Int("unsigned int", 4)

# What no type of program can do, by vector: why, and what the verifier says.
SHIFT = "the standard masks a shift's count, the verifier refuses one that is beyond the width", r"invalid shift -?\d+"
NOT_IN_KERNEL = {
    **{
        f"{shift}{bits}-imm-{kind}": SHIFT
        for shift in ("arsh", "lsh", "rsh")
        for bits in (32, 64)
        for kind in ("high", "neg")
    },
    "callx": ("no kernel calls through a register", r"unknown opcode 8d"),
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    """The kernel computes the vector's result, or refuses the program for the reason that the table has."""
    if vector.name in NOT_IN_KERNEL:
        with pytest.raises(VerifierError, match=NOT_IN_KERNEL[vector.name][1]):
            run_in_kernel(vector)
    else:
        assert run_in_kernel(vector) == vector.result


def test_the_whole_suite_is_here() -> None:
    """All 313 are run, and the table of what the kernel refuses names none that is not among them."""
    need_vectors(VECTORS)
    assert {vector.name for vector in VECTORS} >= set(NOT_IN_KERNEL)


def run_in_kernel(vector: Vector) -> int:
    """r0 of the vector's program, as a classifier whose memory is a map's value; r0 is left in another map."""
    specs = {"result": _bytes_map("result", 8)}
    if vector.memory:
        specs["memory"] = _bytes_map("memory", len(vector.memory))
    code = tuple(isa.resolve_labels(_wrapped(vector)))
    program = ProgramSpec("vector", ProgramType.SCHED_CLS, AttachType(0), "__sk_buff", code, specs)
    maps = {name: Map.create(spec) for name, spec in specs.items()}
    try:
        if vector.memory:
            maps["memory"].update(bytes(4), vector.memory)
        with Program.load(program, maps) as loaded:
            run_program(loaded, PACKET)
        found = maps["result"].lookup(bytes(4))
        assert found is not None
        return int.from_bytes(found, "little")
    finally:
        for each in maps.values():
            each.close()


def _bytes_map(name: str, size: int) -> MapSpec:
    return MapSpec(name, MapType.ARRAY, U32, btf.Array(btf.Int("unsigned char", 1), size), 1)


def _wrapped(vector: Vector) -> Iterator[Instruction | Label]:
    """The program with r1 and r2 set, and its exits, but not its functions', leading to where r0 is kept."""
    slots = [sum(each.slots for each in vector.instructions[:index]) for index in range(len(vector.instructions))]
    targets = {slot: _target(slot, each) for slot, each in zip(slots, vector.instructions, strict=True)}
    calls = [targets[slot] for slot, each in zip(slots, vector.instructions, strict=True) if each.opcode == CALL]
    first_function = min((target for target in calls if target is not None), default=None)
    yield from _arguments(vector)
    ended = False
    for slot, instruction in zip(slots, vector.instructions, strict=True):
        if slot == first_function:
            ended = True
            yield from _end()
        yield Label(f"slot{slot}")
        target = targets[slot]
        if instruction.opcode == EXIT and not ended:
            yield isa.jump("end")
        elif target is not None:
            yield instruction._replace(
                offset=0, imm=0 if instruction.opcode in (CALL, JA_LONG) else instruction.imm, symbol=f"slot{target}"
            )
        else:
            yield instruction
    if not ended:
        yield from _end()


def _arguments(vector: Vector) -> Iterator[Instruction]:
    yield isa.load_map_value(1, "memory") if vector.memory else isa.mov_imm(1, 0)
    yield isa.mov_imm(2, len(vector.memory or b""))


def _end() -> Iterator[Instruction | Label]:
    yield Label("end")
    yield from (isa.load_map_value(1, "result"), isa.store(8, 1, 0, 0), isa.mov_imm(0, 0), isa.exit_program())


def _target(slot: int, instruction: Instruction) -> int | None:
    """Where an instruction jumps to or calls."""
    opcode, _, kind, offset, imm, _ = instruction
    if opcode == JA_LONG or (opcode == CALL and kind == CallKind.FUNCTION):
        return slot + 1 + imm
    if opcode & 7 in (Class.JMP, Class.JMP32) and opcode & 0xF0 not in (CALL & 0xF0, EXIT & 0xF0):
        return slot + 1 + offset
    return None
