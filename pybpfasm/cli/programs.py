"""The programs that an INPUT holds: an object, raw instructions, hex text, or a loaded program."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from pybpfasm.cli.errors import InputError, UsageError
from pybpfasm.cli.literals import hex_text
from pybpfasm.cli.loaded import is_loaded, loaded_program
from pybpfasm.cli.streams import STANDARD, read_input, read_text, shown

if TYPE_CHECKING:
    from pybpfasm.isa import ByteOrder, Instruction
    from pybpfasm.spec import ProgramSpec, SourceLine

INPUT_HELP = "an object, `id:N` of a loaded program, the path of a pinned one, or with --raw or --hex instructions"
ELF_MAGIC = b"\x7fELF"


@attrs.frozen
class FoundProgram:
    """A program of an input. `functions` are its functions' names by slot, `lines` its source lines.

    `spec` is there if it can be run as its type says; `note` says what could not be done for it.
    """

    name: str
    instructions: "tuple[Instruction, ...]"
    section: str = ""
    functions: Mapping[int, str] = {}
    lines: "tuple[SourceLine, ...]" = ()
    note: str = ""
    spec: "ProgramSpec | None" = None
    byteorder: "ByteOrder" = "little"
    is_loaded: bool = False


def add_input(parser: ArgumentParser) -> None:
    """The input, and how to read it."""
    parser.add_argument("input", metavar="INPUT", help=f"{INPUT_HELP}; - is standard input")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="the input is instructions, 8 bytes a slot")
    form.add_argument("--hex", action="store_true", help="the input is the same as hex text")
    parser.add_argument("--byteorder", choices=("little", "big"), help="of --raw and --hex; default: little")


ReadObject = Callable[[bytes, str], list[FoundProgram]]


def find_programs(arguments: Namespace, read_object: ReadObject | None = None) -> list[FoundProgram]:
    """All programs of the input, at least one; an object's as they are compiled, or as `read_object` gives them.

    Raises `InputError`, and what reading objects and decoding instructions raises.
    """
    name: str = arguments.input
    if arguments.raw or arguments.hex:
        return [_bare(name, hex_text(read_text(name), name) if arguments.hex else read_input(name), arguments)]
    if arguments.byteorder is not None:
        raise UsageError("--byteorder is for --raw and --hex: an object tells its own")
    if name != STANDARD and is_loaded(name):
        program, instructions = loaded_program(name)
        return [FoundProgram(program, tuple(instructions), is_loaded=True)]
    data = read_input(name)
    if not data.startswith(ELF_MAGIC):
        raise InputError(f"{shown(name)}: this is no ELF object: for instructions say --raw, for hex text --hex")
    from pybpfasm.cli.objects import compiled_programs

    found = (read_object or compiled_programs)(data, shown(name))
    if not found:
        raise InputError(f"{shown(name)}: there is no program in this object")
    return found


def _bare(name: str, data: bytes, arguments: Namespace) -> FoundProgram:
    from pybpfasm.isa import EncodingError, decode

    try:
        byteorder: ByteOrder = arguments.byteorder or "little"
        return FoundProgram("", tuple(decode(data, byteorder)), byteorder=byteorder)
    except EncodingError as error:
        raise InputError(f"{shown(name)}: {error}") from None


def named(programs: list[FoundProgram], name: str, source: str) -> FoundProgram:
    """The program of that name. Raises `InputError` with the names that there are; `source` is the input's."""
    for program in programs:
        if program.name == name:
            return program
    names = ", ".join(each.name for each in programs if each.name) or "one without a name"
    raise InputError(f"{shown(source)}: there is no program {name!r} in it: it has {names}")


def only_one(programs: list[FoundProgram], name: str | None, source: str) -> FoundProgram:
    """The program of that name, or without one the only one. Raises `InputError` if there is a choice."""
    if name is not None:
        return named(programs, name, source)
    if len(programs) > 1:
        names = ", ".join(each.name for each in programs)
        raise InputError(f"{shown(source)}: it has {len(programs)} programs: say --program with one of {names}")
    return programs[0]


def in_section(programs: list[FoundProgram], section: str, source: str) -> list[FoundProgram]:
    """The programs of that section. Raises `InputError` with the sections that there are."""
    found = [program for program in programs if program.section == section]
    if not found:
        sections = ", ".join(dict.fromkeys(each.section for each in programs if each.section)) or "none"
        raise InputError(f"{shown(source)}: there is no program in a section {section!r}: it has {sections}")
    return found
