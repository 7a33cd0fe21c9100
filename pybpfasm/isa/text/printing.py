"""From a printer for each opcode to one for all instructions."""

from collections.abc import Callable, Mapping

from pybpfasm.isa.instruction import EncodingError, Instruction
from pybpfasm.isa.validity import FIELDS, VARIANT, problem

Format = Callable[[Instruction], str]


def printer(formats: Mapping[int, Format]) -> Format:
    """A printer that refuses opcodes and variants that there are not, with `EncodingError`."""
    checked = {int(opcode): _checked(each) if FIELDS[opcode] & VARIANT else each for opcode, each in formats.items()}

    def text(instruction: Instruction) -> str:
        return checked.get(instruction[0], _refuse)(instruction)

    return text


def _checked(plain: Format) -> Format:
    def text(instruction: Instruction) -> str:
        found = problem(*instruction[:5])
        if found is not None:
            raise EncodingError(found)
        return plain(instruction)

    return text


def _refuse(instruction: Instruction) -> str:
    raise EncodingError(f"opcode {instruction.opcode:#04x} is not known")
