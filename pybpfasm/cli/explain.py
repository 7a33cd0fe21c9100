"""`explain`: a program's Python lines beside operations, instructions and what the verifier knows."""

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from pybpfasm.cli.sources import add_target, only_program, target_named
from pybpfasm.cli.streams import STANDARD, write_output

if TYPE_CHECKING:
    from pybpfasm.spec import CollectionSpec, ProgramSpec

NAME = "explain"
SUMMARY = "show a program's Python lines beside its operations, instructions and the verifier's states"
EPILOG = """\
examples:
  python -m pybpfasm explain filter.py:drop
  python -m pybpfasm explain filter.py:drop --html drop.html     one page that needs nothing else

The states are those of the running kernel's verifier, which takes the privilege to load programs: without it, or with
--no-kernel, they are left out. Nothing stays loaded. A program that the kernel rejects is shown up to where it stopped.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The program, the kernel it is compiled for, and the form."""
    parser.add_argument("input", metavar="FILE.py:NAME", help="a program of a Python file")
    parser.add_argument("--html", action="store_true", help="a page instead of text")
    parser.add_argument("--no-kernel", action="store_true", help="do not ask the running kernel's verifier")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")
    add_target(parser)


def run(arguments: Namespace) -> int:
    """Explain."""
    from pybpfasm.compiler import operations_of
    from pybpfasm.explain import as_page, as_text, explanation

    compiled = operations_of(only_program(arguments.input), target=target_named(arguments.target))
    states, facts = ({}, []) if arguments.no_kernel else _asked(compiled.spec)
    table = explanation(compiled.spec, compiled.placed, states, facts)
    if arguments.html:
        write_output(arguments.output, as_page(table))
    else:
        color = arguments.output == STANDARD and sys.stdout is not None and sys.stdout.isatty()
        write_output(arguments.output, as_text(table, color=color) + "\n")
    return 0


def _asked(spec: "ProgramSpec") -> tuple[dict[int, str], list[tuple[str, str]]]:
    """The verifier's states by slot, and what it said in the end."""
    from pybpfasm.errors import BpfError
    from pybpfasm.kernel.collection import Collection
    from pybpfasm.kernel.verifier import VerifierError, processed, states

    instructions_and_statistics = 2 | 4
    try:
        with Collection.load(_unpinned(spec), log_level=instructions_and_statistics) as loaded:
            log = loaded.programs[spec.name].log
    except VerifierError as error:
        known = states(error.log)
        return known, [("verifier", f"rejected: {error.reason}")]
    except BpfError as error:
        return {}, [("verifier", f"not asked: {error}")]
    count = processed(log)
    return states(log), [] if count is None else [("verified", f"{count} instructions")]


def _unpinned(spec: "ProgramSpec") -> "CollectionSpec":
    """The program by itself, with maps that nobody else sees."""
    from pybpfasm.records import evolve
    from pybpfasm.spec import CollectionSpec

    maps = {name: evolve(each, pinned=False) for name, each in spec.maps.items()}
    return CollectionSpec({spec.name: evolve(spec, maps=maps)}, maps)
