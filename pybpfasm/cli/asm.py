"""`asm`: text to instructions."""

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from pybpfasm.cli.errors import InputError, UsageError
from pybpfasm.cli.streams import STANDARD, read_text, shown, write_output

if TYPE_CHECKING:
    from pybpfasm.isa import Instruction

NAME = "asm"
SUMMARY = "assemble text into instructions"
EPILOG = """\
examples:
  printf 'r0 = 0\\nexit\\n' | python -m pybpfasm asm --as hex
  python -m pybpfasm asm drop.s -o drop.o --as elf --section xdp
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What to assemble, and into what."""
    parser.add_argument("file", nargs="?", default=STANDARD, metavar="FILE", help="the text; default: standard input")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")
    parser.add_argument("--syntax", choices=("kernel", "llvm", "ubpf"), default="kernel", help="default: kernel")
    parser.add_argument(
        "--as", dest="form", choices=("raw", "hex", "elf"), default="raw", help="8 bytes a slot, hex text, or an object"
    )
    parser.add_argument("--byteorder", choices=("little", "big"), default="little", help="default: little")
    parser.add_argument("--section", metavar="NAME", help="of an object: what kind of program it is; default: socket")
    parser.add_argument("--name", metavar="NAME", help="of the program in an object; default: prog")
    parser.add_argument("--license", metavar="L", help="of an object; default: GPL")


def run(arguments: Namespace) -> int:
    """Assemble."""
    from pybpfasm.isa import encode

    if arguments.form != "elf":
        for option in ("section", "name", "license"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option} is for objects: say --as elf")
    if arguments.form != "hex" and arguments.output == STANDARD and sys.stdout.isatty():
        raise UsageError("bytes would go to the terminal: say -o FILE, or --as hex")
    instructions = _assembled(arguments)
    if arguments.form == "elf":
        write_output(arguments.output, _object(instructions, arguments))
        return 0
    try:
        data = encode(instructions, arguments.byteorder)
    except ValueError as error:
        raise InputError(f"{shown(arguments.file)}: {error}{_map_hint(instructions)}") from None
    write_output(arguments.output, data if arguments.form == "raw" else _hex(data))
    return 0


def _assembled(arguments: Namespace) -> "list[Instruction]":
    from pybpfasm.isa import ParseError, parse

    try:
        instructions = parse(read_text(arguments.file), arguments.syntax)
    except ParseError as error:
        raise InputError(f"{shown(arguments.file)}: {error}") from None
    if not instructions:
        raise InputError(f"{shown(arguments.file)}: there is no instruction in it")
    return instructions


def _map_hint(instructions: "list[Instruction]") -> str:
    from pybpfasm.isa.opcodes import LD_IMM64

    if any(each.symbol is not None and each.opcode == LD_IMM64 for each in instructions):
        return ": bytes have no names, write map[id:N] with the map's descriptor"
    return ""


def _hex(data: bytes) -> str:
    return "".join(data[start : start + 8].hex(" ") + "\n" for start in range(0, len(data), 8))


def _object(instructions: "list[Instruction]", arguments: Namespace) -> bytes:
    from pybpfasm.cli.objects import written

    return written(
        instructions,
        section=arguments.section or "socket",
        name=arguments.name or "prog",
        license_=arguments.license or "GPL",
        byteorder=arguments.byteorder,
        source=shown(arguments.file),
    )
