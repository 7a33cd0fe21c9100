"""`check`: all that is wrong with the programs of a Python file, for editors and for CI."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from pybpfasm.cli.sources import add_target, programs_of, split, target_named
from pybpfasm.cli.streams import STANDARD, write_output

if TYPE_CHECKING:
    from pybpfasm.compiler import CompileError

NAME = "check"
SUMMARY = "tell all that is wrong with the programs of a Python file"
EPILOG = """\
examples:
  python -m pybpfasm check filter.py
  python -m pybpfasm check filter.py --target 6.1

A line for each error, FILE:LINE:COLUMN: error: what is wrong and what to write instead; line and column count from 1.
Exit status 0: there is none, 1: there is one. Nothing is loaded.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The file and the kernel."""
    parser.add_argument("input", metavar="FILE.py[:NAME]", help="a Python file, or one program of it")
    add_target(parser)


def run(arguments: Namespace) -> int:
    """Check."""
    from pybpfasm.compiler import CompileError, compile_collection, compile_program
    from pybpfasm.errors import BpfError

    path, name = split(arguments.input)
    target = target_named(arguments.target)
    programs = programs_of(path, name)
    lines: dict[str, None] = {}
    for program in programs:
        try:
            compile_program(program, target=target)
        except CompileError as error:
            lines.update(dict.fromkeys(map(_told, (error, *error.others))))
        except BpfError as error:
            lines[f"{path}: error: {program.name}: {error}"] = None
    if not lines:
        try:
            compile_collection(programs, {}, {}, target=target)
        except BpfError as error:  # what only several of them do wrong
            lines[f"{path}: error: {error}"] = None
    write_output(STANDARD, "".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


def _told(error: "CompileError") -> str:
    place = error.location
    return f"{place.file}:{place.line}:{place.column}: error: {error.reason}"
