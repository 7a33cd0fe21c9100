"""Maps and programs that the tests of the interpreter use."""

from pybpfasm import isa
from pybpfasm.isa import Instruction, Label
from pybpfasm.sim import Context, Map, Result, create_map, run
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType


def shape(type_: MapType, key: int = 4, value: int = 8, max_entries: int = 4, **more: object) -> MapSpec:
    """A map's spec with plain sizes, named m."""
    return MapSpec("m", type_, Untyped(key), Untyped(value), max_entries, **more)


def a_map(type_: MapType, key: int = 4, value: int = 8, max_entries: int = 4, **more: object) -> Map:
    """An empty map."""
    return create_map(shape(type_, key, value, max_entries, **more))


def stack_at(register: int, offset: int) -> list[Instruction]:
    """Set a register to an address on the stack, `offset` bytes below its top."""
    return [isa.mov(register, 10), isa.alu_imm(isa.Alu.ADD, register, -offset)]


def bytes_at(register: int, data: bytes, depth: int = 64) -> list[Instruction]:
    """Put bytes on the stack, `depth` below its top, and their address into a register."""
    padded = data.ljust(-(-len(data) // 4) * 4, b"\0")
    stores = [
        isa.store_imm(4, 10, -depth + at, int.from_bytes(padded[at : at + 4], "little", signed=True))
        for at in range(0, len(padded), 4)
    ]
    return [*stores, *stack_at(register, depth)]


def program(
    type_: ProgramType, *body: Instruction | Label, attach: AttachType = AttachType.XDP, **more: object
) -> ProgramSpec:
    """A program of a type, with its labels resolved."""
    return ProgramSpec(
        name="p",
        type=type_,
        attach_type=attach,
        context="",
        instructions=tuple(isa.resolve_labels(body)),
        maps={},
        **more,
    )


def call(helper: Helper, *arguments: int | list[Instruction], after: tuple[Instruction, ...] = ()) -> list[Instruction]:
    """Call a helper with numbers or with instructions that set the register, then exit with its answer.

    r6 keeps the first argument of the program.
    """
    body: list[Instruction] = [isa.mov(6, 1)]
    for register, argument in enumerate(arguments, start=1):
        body += argument if isinstance(argument, list) else [isa.load_imm64(register, argument)]
    return [*body, isa.call(helper), *after, isa.exit_program()]


def context_argument(register: int = 1) -> list[Instruction]:
    """Instructions that put the context's address into a register."""
    return [isa.mov(register, 6)]


def signed_answer(instructions: list[Instruction], ctx: Context | None = None, **options: object) -> int:
    """What a program returns, as a signed number."""
    return result_of(instructions, ctx, **options).signed


def result_of(instructions: list[Instruction], ctx: Context | None = None, **options: object) -> Result:
    """Run instructions."""
    return run(isa.resolve_labels(instructions), ctx, **options)
