"""`dis`: instructions to text."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from pybpfasm.cli.errors import InputError
from pybpfasm.cli.loaded import with_called_names
from pybpfasm.cli.programs import FoundProgram, add_input, find_programs, in_section, named
from pybpfasm.cli.streams import STANDARD, write_output

NAME = "dis"
SUMMARY = "show instructions as text, a line each with its slot"
EPILOG = """\
examples:
  python -m pybpfasm dis prog.o --program redirect --source
  python -m pybpfasm dis prog.bin --raw --syntax llvm
  python -m pybpfasm dis id:12

What is printed of one program, `asm` reads. Of a loaded program it is what the verifier made of it.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What to show, and how."""
    add_input(parser)
    parser.add_argument("--syntax", choices=("kernel", "llvm"), default="kernel", help="default: kernel")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--section", metavar="NAME", help="only the programs of this section")
    which.add_argument("--program", metavar="NAME", help="only this program")
    parser.add_argument("--source", action="store_true", help="with the source lines that the object has (BTF)")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def run(arguments: Namespace) -> int:
    """Disassemble."""
    programs = find_programs(arguments)
    if arguments.program is not None:
        programs = [named(programs, arguments.program, arguments.input)]
    if arguments.section is not None:
        programs = in_section(programs, arguments.section, arguments.input)
    if arguments.source and not any(program.lines for program in programs):
        raise InputError("--source: the input has no source lines: they are in objects compiled with -g")
    lines: list[str] = []
    for program in programs:
        lines += ["", *_heading(program)] if lines else _heading(program)
        lines += _listed(program, arguments)
    write_output(arguments.output, "\n".join(lines) + "\n")
    return 0


def _heading(program: FoundProgram) -> list[str]:
    if not program.name:
        return []
    section = f", section {program.section}" if program.section else ""
    note = f" ({program.note})" if program.note else ""
    return [f"; {program.name}{section}{note}"]


def _listed(program: FoundProgram, arguments: Namespace) -> Iterator[str]:
    """The lines of a program: before those of instructions come functions' names and source lines, as comments."""
    from pybpfasm.isa import listing

    lines = list(listing(program.instructions, arguments.syntax))
    if program.is_loaded:
        lines = with_called_names(lines)
    source = _source(program) if arguments.source else {}
    slot, last = 0, None
    for instruction, line in zip(program.instructions, lines, strict=True):
        if slot and slot in program.functions:
            yield f"; function {program.functions[slot]}"
        for comment in source.get(slot, ()):
            if comment != last:
                yield comment
            last = comment
        yield line
        slot += instruction.slots


def _source(program: FoundProgram) -> dict[int, list[str]]:
    """Source lines as comments, by the slots where they begin."""
    found: dict[int, list[str]] = {}
    for line in program.lines:
        text = " ".join(line.text.split())
        found.setdefault(line.slot, []).append(f"; {line.file}:{line.line}: {text}".rstrip())
    return found
