"""From a printer for each opcode to one for all instructions."""

import re
from collections.abc import Callable, Mapping

from pybpfasm.isa.instruction import EncodingError, Instruction
from pybpfasm.isa.validity import FIELDS, VARIANT, problem

Format = Callable[[Instruction], str]

_PLAIN = re.compile(r"[A-Za-z_.$][A-Za-z0-9_.$]*").fullmatch
# What would end the name, the line, or begin a comment.
_SPECIAL = re.compile(r"[\"\\;#/\x00-\x1f\x7f]")


def printer(formats: Mapping[int, Format]) -> Format:
    """A printer that refuses opcodes and variants that there are not, with `EncodingError`."""
    checked = {int(opcode): _checked(each) if FIELDS[opcode] & VARIANT else each for opcode, each in formats.items()}

    def text(instruction: Instruction) -> str:
        symbol = instruction[5]
        if symbol is not None and not _PLAIN(symbol):
            instruction = _quoted(instruction, symbol)
        return checked.get(instruction[0], _refuse)(instruction)

    return text


def _quoted(instruction: Instruction, symbol: str) -> Instruction:
    escaped = _SPECIAL.sub(lambda found: f"\\x{ord(found[0]):02x}", symbol)
    return instruction._replace(symbol=f'"{escaped}"')


def _checked(plain: Format) -> Format:
    def text(instruction: Instruction) -> str:
        found = problem(*instruction[:5])
        if found is not None:
            raise EncodingError(found)
        return plain(instruction)

    return text


def _refuse(instruction: Instruction) -> str:
    raise EncodingError(f"opcode {instruction.opcode:#04x} is not known")
