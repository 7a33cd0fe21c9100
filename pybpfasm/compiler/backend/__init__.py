"""The back end: from the intermediate form to instructions.

passes (in pipeline's order) → legalize → lateness → registers (intervals, spill) → select → layout
"""

from __future__ import annotations

from collections.abc import Iterator

from pybpfasm.compiler.backend.frame import Frame
from pybpfasm.compiler.backend.lateness import move_late
from pybpfasm.compiler.backend.layout import Written, lay_out
from pybpfasm.compiler.backend.legalize import legalize
from pybpfasm.compiler.backend.registers import allocate
from pybpfasm.compiler.backend.select import Selector
from pybpfasm.compiler.passes.pipeline import Watch, simplify
from pybpfasm.ir.function import Function, Unit, reverse_postorder
from pybpfasm.ir.operations import Location
from pybpfasm.ir.references import functions_named
from pybpfasm.ir.target import Target
from pybpfasm.isa import Instruction, Label, resolve_labels
from pybpfasm.isa.effects import changed_registers
from pybpfasm.records import frozen

__all__ = ["Code", "FunctionStart", "Variable", "generate"]


@frozen
class FunctionStart:
    """Where a function begins, and the bytes of its stack frame."""

    name: str
    slot: int
    stack_bytes: int


@frozen
class Variable:
    """From this slot on the register holds what the program calls `name`."""

    slot: int
    register: int
    name: str


@frozen
class Code:
    """A program's instructions, jumps resolved; maps and kfuncs by name. `locations` has an entry an instruction."""

    instructions: tuple[Instruction, ...]
    locations: tuple[Location, ...]
    functions: tuple[FunctionStart, ...]
    variables: tuple[Variable, ...]


def generate(unit: Unit, target: Target, watch: Watch | None = None) -> Code:
    """Instructions for a program and its functions. The functions are changed; `watch` is called between the passes.

    Raises `EncodingError` if a jump is too long.
    """
    items: list[Instruction | Label] = []
    locations: list[Location] = []
    starts: list[tuple[str, int, int]] = []
    variables = [(-1, number, each.name) for number, each in enumerate(unit.program.parameters, 1) if each.name]
    pending = [unit.program]
    for function in pending:
        written, frame, named = _function(function, target, watch)
        # What is not called any more is left out: the verifier refuses code that is not reached.
        pending += [each for each in functions_named(function) if each not in pending]
        starts.append((function.name, len(locations), frame.size))
        variables += [(len(locations) + at, register, name) for at, register, name in named]
        items += [Label(function.name), *written.items]
        locations += written.locations
    instructions = tuple(resolve_labels(items))
    slots = _slots(instructions)
    return Code(
        instructions,
        tuple(locations),
        tuple(FunctionStart(name, slots[at], size) for name, at, size in starts),
        tuple(_named(variables, instructions, slots)),
    )


def _named(
    variables: list[tuple[int, int, str]], instructions: tuple[Instruction, ...], slots: list[int]
) -> Iterator[Variable]:
    """The names of values; those whose instruction went elsewhere when ends were shared are left out."""
    for at, register, name in variables:
        if at < 0:
            yield Variable(-1, register, name)
        # What a call gives is noted behind the call.
        for place in (at, at - 1):
            if 0 <= place < len(instructions) and register in changed_registers(instructions[place]):
                yield Variable(slots[place], register, name)
                break


def _function(
    function: Function, target: Target, watch: Watch | None
) -> tuple[Written, Frame, list[tuple[int, int, str]]]:
    def done(name: str) -> None:
        if watch is not None:
            watch(name, function)

    bits = simplify(function, watch)
    legalize(function, target, bits)
    done("legalize")
    order = reverse_postorder(function.entry)
    move_late(function, order)
    done("move_late")
    allocation = allocate(function, order)
    done("allocate")
    frame = Frame(order)
    selector = Selector(function, allocation, frame, target)
    pieces = selector.pieces(order)
    written = lay_out(pieces, function.name)
    places = [
        (written.places[f"{function.name}.{piece.block.number}"] + at, register, name)
        for piece, at, register, name in selector.variables
        if f"{function.name}.{piece.block.number}" in written.places
    ]
    return written, frame, places


def _slots(instructions: tuple[Instruction, ...]) -> list[int]:
    found: list[int] = []
    slot = 0
    for instruction in instructions:
        found.append(slot)
        slot += instruction.slots
    return found
