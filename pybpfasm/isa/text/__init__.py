"""Instructions as text, in three syntaxes: the kernel's and LLVM's, printed and read, and uBPF's, read."""

from collections.abc import Iterable, Iterator

from pybpfasm.isa.instruction import Instruction
from pybpfasm.isa.text.grammar import ParseError
from pybpfasm.isa.text.reader import Reader
from pybpfasm.isa.text.syntax import Syntax, printer_of
from pybpfasm.isa.text.verifier_log import instruction_lines, is_verifier_log

__all__ = ["ParseError", "Syntax", "format", "format_instruction", "listing", "parse"]


def format_instruction(instruction: Instruction, syntax: Syntax = "kernel") -> str:
    """One instruction in the kernel's syntax or LLVM's; an unresolved symbol is shown by its name.

    Raises `EncodingError` for an opcode, or a variant of one, that does not exist.
    """
    return printer_of(syntax)(instruction)


def format(instructions: Instruction | Iterable[Instruction], syntax: Syntax = "kernel") -> str:  # noqa: A001 - the public name
    """Instructions as text, a line each; `parse` reads it back.

    Raises `EncodingError` for an opcode, or a variant of one, that does not exist.
    """
    if isinstance(instructions, Instruction):
        return format_instruction(instructions, syntax)
    printer = printer_of(syntax)
    return "\n".join([printer(instruction) for instruction in instructions])


def listing(instructions: Iterable[Instruction], syntax: Syntax = "kernel") -> Iterator[str]:
    """One line an instruction: the number of its first slot, then its text, as bpftool's dump has it."""
    printer = printer_of(syntax)
    slot = 0
    for instruction in instructions:
        yield f"{slot:4}: {printer(instruction)}"
        slot += instruction.slots


def parse(text: str, syntax: Syntax = "kernel") -> list[Instruction]:
    """The instructions that `text` holds, with its labels (`name:`) resolved to distances; maps' names are kept.

    A line holds one instruction; in LLVM's syntax `;` separates more. Comments begin with `;` in the kernel's syntax
    (`#` before the instruction only), with `//` or `#` in LLVM's, with `;` or `#` in uBPF's. Slots' numbers (`12:`) may
    stand before the instructions, if before all of them: they are put in that order. Of a verifier's log the
    instructions are read; where maps were it has addresses. Raises `ParseError`.
    """
    lines = text.split("\n")
    if syntax == "kernel" and is_verifier_log(text):
        lines = list(instruction_lines(lines))
    reader = Reader(syntax, lines)
    for number, line in enumerate(lines, start=1):
        if line:
            reader.line(number, line)
    return reader.instructions()
