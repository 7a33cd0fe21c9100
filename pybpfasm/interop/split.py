"""A program's stream of instructions, split into the functions that it is made of: what `link` has put together."""

from collections.abc import Mapping

from pybpfasm.interop.error import ElfError
from pybpfasm.isa import CallKind, Instruction, WideKind
from pybpfasm.isa.opcodes import CALL, LD_IMM64
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import ProgramSpec, SourceLine


@frozen
class Piece:
    """A function of a program, from slot `start` of it.

    `references` has, by the index of each instruction that refers to a function, the slot where that starts; lines
    count slots from the function's start.
    """

    name: str
    start: int
    instructions: tuple[Instruction, ...]
    references: Mapping[int, int]
    lines: tuple[SourceLine, ...]


def split(program: ProgramSpec) -> list[Piece]:
    """The program's functions, itself the first. Raises `ElfError` for a reference to what is no instruction."""
    slots: list[int] = []
    slot = 0
    for instruction in program.instructions:
        slots.append(slot)
        slot += instruction.slots
    targets = {
        index: target
        for index, instruction in enumerate(program.instructions)
        if (target := _target(instruction, slots[index])) is not None
    }
    names = {info.slot: info.name for info in program.functions}
    starts = sorted({0, *targets.values(), *names})
    index_of = {slot: index for index, slot in enumerate(slots)}
    for start in starts:
        if start not in index_of and start:
            raise ElfError(f"program {program.name!r}: a function is to start at slot {start}, where no instruction is")
    pieces = []
    for start, end in zip(starts, [*starts[1:], slot], strict=True):
        first, last = index_of.get(start, 0), index_of.get(end, len(slots))
        name = program.name if start == 0 else names.get(start, f"{program.name}_{start}")
        references = {index - first: targets[index] for index in range(first, last) if index in targets}
        pieces.append(
            Piece(name, start, program.instructions[first:last], references, _lines(program.lines, start, end))
        )
    return pieces


Identity = tuple[object, ...]


def identities(program: ProgramSpec, pieces: list[Piece]) -> list[Identity]:
    """What makes each function the same as one of another program: it and all that it refers to are equal."""
    own = [_own_identity(piece, pieces) for piece in pieces]
    if len({piece.name for piece in pieces}) < len(pieces):
        return [(program.name, piece.start) for piece in pieces]
    index_of = {piece.start: index for index, piece in enumerate(pieces)}
    found: list[Identity] = []
    for index in range(len(pieces)):
        reached = {index}
        waiting = [index]
        while waiting:
            for target in pieces[waiting.pop()].references.values():
                if index_of[target] not in reached:
                    reached.add(index_of[target])
                    waiting.append(index_of[target])
        found.append((pieces[index].name, frozenset(own[each] for each in reached)))
    return found


def _own_identity(piece: Piece, pieces: list[Piece]) -> Identity:
    """The function without the distances to others, which differ from program to program."""
    names = {each.start: each.name for each in pieces}
    instructions = tuple(
        instruction._replace(imm=0, symbol=names[piece.references[index]]) if index in piece.references else instruction
        for index, instruction in enumerate(piece.instructions)
    )
    return piece.name, instructions, piece.lines


def _target(instruction: Instruction, slot: int) -> int | None:
    """The slot where the function starts that an instruction refers to."""
    if instruction.symbol is not None:
        return None
    if instruction.opcode == CALL and instruction.src == CallKind.FUNCTION:
        return slot + 1 + instruction.imm
    if instruction.opcode == LD_IMM64 and instruction.src == WideKind.FUNC:
        distance = instruction.imm & 0xFFFFFFFF
        return slot + 1 + (distance - (1 << 32) if distance >> 31 else distance)
    return None


def _lines(lines: tuple[SourceLine, ...], start: int, end: int) -> tuple[SourceLine, ...]:
    return tuple(evolve(line, slot=line.slot - start) for line in lines if start <= line.slot < end)
