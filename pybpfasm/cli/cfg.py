"""`cfg`: a program's control-flow graph, drawn."""

from argparse import ArgumentParser, Namespace

from pybpfasm.cli.errors import InputError
from pybpfasm.cli.programs import add_input, find_programs, only_one
from pybpfasm.cli.streams import STANDARD, shown, write_output

NAME = "cfg"
SUMMARY = "draw a program's control-flow graph"
EPILOG = """\
examples:
  python -m pybpfasm cfg prog.o --program redirect -o redirect.svg
  python -m pybpfasm cfg prog.bin --raw --dot | dot -Tpdf > prog.pdf

Jumps that are taken are green, where they are not taken red, loops are dashed, calls are blue and dotted.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What to draw, and how."""
    add_input(parser)
    parser.add_argument("--program", metavar="NAME", help="which one, where the input has several")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--svg", action="store_true", help="a picture; the default")
    form.add_argument("--dot", action="store_true", help="text for Graphviz")
    parser.add_argument("--syntax", choices=("kernel", "llvm"), default="kernel", help="default: kernel")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def run(arguments: Namespace) -> int:
    """Draw."""
    from pybpfasm.cfg import ControlFlowGraph, GraphError

    program = only_one(find_programs(arguments), arguments.program, arguments.input)
    names = {0: program.name, **program.functions} if program.name else program.functions
    try:
        graph = ControlFlowGraph.of(program.instructions, names)
    except GraphError as error:
        raise InputError(f"{shown(arguments.input)}: {error}") from None
    text = graph.to_dot(syntax=arguments.syntax) if arguments.dot else graph.to_svg(syntax=arguments.syntax)
    write_output(arguments.output, text)
    return 0
