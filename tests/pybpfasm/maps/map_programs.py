"""Small programs that use maps; they run on a packet, attached to nothing."""

from collections.abc import Iterable, Mapping

from pybpfasm import isa
from pybpfasm.isa import Alu, Instruction, Jump, Label
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Helper, ProgramType

# An Ethernet frame as short as a run takes it.
FRAME = bytes(64)

Code = Iterable[Instruction | Label]

# Socket filters return how much of a packet to keep, so any number.
PASS: Code = (isa.mov_imm(0, 7), isa.exit_program())


def load(
    code: Code, maps: Mapping[str, Map] | None = None, kind: ProgramType = ProgramType.SCHED_CLS, hook: int = 0
) -> Program:
    """A program of these instructions, in the kernel."""
    instructions = tuple(isa.resolve_labels(code))
    return Program.load(ProgramSpec("of_maps", kind, AttachType(hook), "ctx", instructions, {}), maps or {})


def run(code: Code, maps: Mapping[str, Map]) -> int:
    """What a program returns when it is run once."""
    with load(code, maps) as program:
        return program.run(FRAME).retval


def key_on_stack(number: int, size: int = 4) -> tuple[Instruction, ...]:
    """A number at r10-8, which r2 points to."""
    return (isa.store_imm(size, 10, -8, number), isa.mov(2, 10), isa.alu_imm(Alu.ADD, 2, -8))


def lookup(name: str, number: int) -> Code:
    """Returns the first 4 bytes of the value at a key of 4 bytes; 0 if there is none."""
    return (
        *key_on_stack(number),
        isa.load_map(1, name),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.load(4, 0, 0, 0),
        Label("out"),
        isa.exit_program(),
    )


def count(name: str, number: int) -> Code:
    """Adds 1 to the 8 bytes at a key of 4 bytes."""
    return (
        *key_on_stack(number),
        isa.load_map(1, name),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        Label("out"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
    )


def push(name: str, number: int) -> Code:
    """Pushes 8 bytes; returns what the helper returned."""
    return (
        *key_on_stack(number, 8),
        isa.load_map(1, name),
        isa.mov_imm(3, 0),
        isa.call(Helper.MAP_PUSH_ELEM),
        isa.exit_program(),
    )


def peek(name: str, number: int) -> Code:
    """Peeks with 8 bytes; returns 1 for success, 0 for ENOENT."""
    return (
        *key_on_stack(number, 8),
        isa.load_map(1, name),
        isa.call(Helper.MAP_PEEK_ELEM),
        isa.alu_imm(Alu.ADD, 0, 0),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "found"),
        isa.mov_imm(0, 0),
        isa.exit_program(),
        Label("found"),
        isa.mov_imm(0, 1),
        isa.exit_program(),
    )


def tail_call(name: str, index: int) -> Code:
    """Jumps to a program of an array; returns 1 if there is none."""
    return (
        isa.load_map(2, name),
        isa.mov_imm(3, index),
        isa.call(Helper.TAIL_CALL),
        isa.mov_imm(0, 1),
        isa.exit_program(),
    )


def lookup_inner(name: str, number: int, inner: int) -> Code:
    """Returns 4 bytes of a value in a map of a map of maps; 0 if either is missing."""
    return (
        *key_on_stack(number),
        isa.load_map(1, name),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.mov(1, 0),
        *key_on_stack(inner),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.load(4, 0, 0, 0),
        Label("out"),
        isa.exit_program(),
    )
