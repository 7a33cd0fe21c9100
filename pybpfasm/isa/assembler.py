"""Labels: from instructions that jump to names to instructions that jump by offsets."""

from collections.abc import Iterable

from pybpfasm.isa.instruction import EncodingError, Instruction
from pybpfasm.isa.opcodes import Class


class Label(str):
    """A place in a list of instructions that jumps refer to by name."""

    __slots__ = ()


def resolve_labels(items: Iterable[Instruction | Label]) -> list[Instruction]:
    """Replace the jumps' labels by offsets, counted in slots from the instruction after the jump.

    Raises `EncodingError` for a label that is missing, defined twice, or further than 16 bits reach.
    """
    instructions: list[tuple[int, Instruction]] = []
    places: dict[str, int] = {}
    slot = 0
    for item in items:
        if isinstance(item, Label):
            if item in places:
                raise EncodingError(f"slot {slot}: label {str(item)!r} is defined twice")
            places[item] = slot
        else:
            instructions.append((slot, item))
            slot += item.slots
    return [_resolved(place, item, places) for place, item in instructions]


def _resolved(slot: int, instruction: Instruction, places: dict[str, int]) -> Instruction:
    if instruction.symbol is None or instruction.opcode & 7 not in (Class.JMP, Class.JMP32):
        return instruction
    if instruction.symbol not in places:
        raise EncodingError(f"slot {slot}: label {instruction.symbol!r} is not defined")
    offset = places[instruction.symbol] - slot - 1
    if not -0x8000 <= offset <= 0x7FFF:
        raise EncodingError(f"slot {slot}: label {instruction.symbol!r} is {offset} slots away, a jump reaches 32767")
    return instruction._replace(offset=offset, symbol=None)
