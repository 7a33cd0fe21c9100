"""Labels: from instructions that name places to instructions that count slots."""

from collections.abc import Iterable
from itertools import chain

from pybpfasm.isa.instruction import EncodingError, Instruction
from pybpfasm.isa.opcodes import CALL, JA_LONG, LD_IMM64, CallKind, Class, Jump, K, WideKind, X

_JUMP_CODES = frozenset(
    group | code | source
    for group in (Class.JMP, Class.JMP32)
    for code in set(Jump) - {Jump.CALL, Jump.EXIT}
    for source in (K, X)
)


class Label(str):
    """A place in a list of instructions that jumps and calls refer to by name."""

    __slots__ = ()


def resolve_labels(items: Iterable[Instruction | Label]) -> list[Instruction]:
    """Replace the labels of jumps, calls and function addresses by distances, counted in slots.

    A distance counts from the instruction after the jump (for a function's address too). Symbols of maps, variables
    and kfuncs are left. Raises `EncodingError` for a label that is missing, defined twice, or too far away.
    """
    instructions: list[Instruction] = []
    append = instructions.append
    places: dict[str, int] = {}
    waiting: list[tuple[int, int]] = []  # index and slot of each instruction with a symbol
    slot = 0
    for item in items:
        if isinstance(item, Label):
            if item in places:
                raise EncodingError(f"slot {slot}: label {str(item)!r} is defined twice")
            places[item] = slot
            continue
        if item[5] is not None:
            waiting.append((len(instructions), slot))
        append(item)
        slot += 2 if item[0] == LD_IMM64 else 1
    for index, place in waiting:
        instructions[index] = _resolved(place, instructions[index], places)
    return instructions


def link_functions(functions: Iterable[tuple[str, Iterable[Instruction | Label]]]) -> list[Instruction]:
    """One stream of functions, each with its name, the first of which is the program; labels are one name space."""
    return resolve_labels(chain.from_iterable((Label(name), *items) for name, items in functions))


def _resolved(slot: int, instruction: Instruction, places: dict[str, int]) -> Instruction:
    opcode, dst, src, offset, imm, symbol = instruction
    if opcode in _JUMP_CODES:
        distance = _distance(slot, symbol, places)
        if opcode == JA_LONG:
            return Instruction(opcode, dst, src, offset, distance)
        if not -0x8000 <= distance <= 0x7FFF:
            away = f"slot {slot}: label {symbol!r} is {distance} slots away"
            raise EncodingError(f"{away}, a jump reaches 32767: jump_long (gotol) goes farther")
        return Instruction(opcode, dst, src, distance, imm)
    if opcode == CALL and src == CallKind.FUNCTION:
        return Instruction(opcode, dst, src, offset, _distance(slot, symbol, places))
    if opcode == LD_IMM64 and src == WideKind.FUNC:
        return Instruction(opcode, dst, src, offset, _distance(slot, symbol, places) & 0xFFFFFFFF)
    return instruction


def _distance(slot: int, symbol: str | None, places: dict[str, int]) -> int:
    if symbol not in places:
        raise EncodingError(f"slot {slot}: label {symbol!r} is not defined")
    return places[symbol] - slot - 1
