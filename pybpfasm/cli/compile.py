"""`compile`: programs of a Python file, as an object or what comes before it."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from pybpfasm.cli.errors import UsageError
from pybpfasm.cli.sources import add_target, programs_of, split, target_named
from pybpfasm.cli.streams import STANDARD, write_output

if TYPE_CHECKING:
    from pybpfasm.spec import CollectionSpec

NAME = "compile"
SUMMARY = "compile the programs of a Python file"
EPILOG = """\
examples:
  python -m pybpfasm compile filter.py                       writes filter.o, which libbpf and bpftool load
  python -m pybpfasm compile filter.py:drop --emit asm       one program's instructions
  python -m pybpfasm compile filter.py --emit ir             the operations behind all passes
  python -m pybpfasm compile filter.py --emit c-skeleton -o filter.skel.h
  python -m pybpfasm compile filter.py --target 6.1 -o -

The file is run, as by `import`: it must not do more than declare. All errors are told; nothing is written then.
"""
FORMS = ("elf", "asm", "ir", "c-skeleton")


def add_arguments(parser: ArgumentParser) -> None:
    """The file, the kernel, and the form."""
    parser.add_argument("input", metavar="FILE.py[:NAME]", help="a Python file, or one program of it")
    parser.add_argument("-o", "--output", metavar="OUT", help="default: FILE.o here for elf, else standard output")
    parser.add_argument("--emit", choices=FORMS, default="elf", help="default: elf")
    add_target(parser)


def run(arguments: Namespace) -> int:
    """Compile."""
    from pybpfasm.compiler import compile_collection, operations_of

    path, name = split(arguments.input)
    target = target_named(arguments.target)
    programs = programs_of(path, name)
    output = arguments.output
    if arguments.emit == "ir":
        text = "\n\n".join(operations_of(each, target=target).text for each in programs)
        write_output(output or STANDARD, f"{text}\n")
        return 0
    collection = compile_collection(programs, {}, {}, target=target)
    if arguments.emit == "asm":
        write_output(output or STANDARD, _listing(collection))
        return 0
    from pybpfasm.interop import write_elf

    image = write_elf(collection)
    if arguments.emit == "elf":
        write_output(output or f"{path.stem}.o", image)
        return 0
    from pybpfasm.interop.skeleton import c_skeleton, identifier

    if output not in (None, STANDARD) and output.endswith(".c"):
        raise UsageError("a skeleton is a header: call it .h")
    write_output(output or STANDARD, c_skeleton(collection, image, identifier(path.stem)))
    return 0


def _listing(collection: "CollectionSpec") -> str:
    from pybpfasm.isa import listing

    parts = []
    for name, spec in collection.programs.items():
        slots = sum(each.slots for each in spec.instructions)
        parts.append("\n".join([f"; {name}, {slots} slots", *listing(spec.instructions)]))
    return "\n\n".join(parts) + "\n"
