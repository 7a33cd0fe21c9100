"""`btf`: types, of the kernel or of an input."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from pybpfasm.cli.errors import InputError, UsageError
from pybpfasm.cli.programs import ELF_MAGIC
from pybpfasm.cli.streams import STANDARD, read_input, shown, write_output

if TYPE_CHECKING:
    from pybpfasm.btf import Btf

NAME = "btf"
SUMMARY = "show types (BTF): of the running kernel, of an object, of a file"
EPILOG = """\
examples:
  python -m pybpfasm btf dump prog.o
  python -m pybpfasm btf dump --kernel --root task_struct --format c
  python -m pybpfasm btf field task_struct.mm
  python -m pybpfasm btf field 'sk_buff.cb[3]' vmlinux.btf
"""

_INPUT_HELP = "an object or raw BTF, - for standard input; default: the running kernel's"


def add_arguments(parser: ArgumentParser) -> None:
    """`dump` and `field`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="dump|field")
    dump = commands.add_parser("dump", help="types as text, C declarations or JSON", allow_abbrev=False)
    _add_source(dump)
    dump.add_argument("--format", choices=("raw", "c", "json"), default="raw", help="default: raw, a line a type")
    dump.add_argument(
        "--root", action="append", metavar="NAME", help="only this type and what it needs; may be repeated"
    )
    dump.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")
    field = commands.add_parser("field", help="where a field lies", allow_abbrev=False)
    field.add_argument("path", metavar="PATH", help="task_struct.mm, sk_buff.cb[3]")
    _add_source(field)
    field.add_argument("--json", action="store_true", help="the same as JSON")


def _add_source(parser: ArgumentParser) -> None:
    parser.add_argument("input", nargs="?", metavar="INPUT", help=_INPUT_HELP)
    parser.add_argument("--kernel", action="store_true", help="the running kernel's types")
    parser.add_argument("--module", metavar="NAME", help="the types of this module of the running kernel")


def run(arguments: Namespace) -> int:
    """Show types, or a field."""
    btf = _btf(arguments)
    if arguments.action == "field":
        return _show_field(btf, arguments)
    roots = _roots(btf, arguments.root) if arguments.root else None
    if arguments.format == "c":
        write_output(arguments.output, btf.dump_c(roots))
        return 0
    from pybpfasm.cli.records import as_json, as_text, needed

    ids = needed(btf, roots) if roots is not None else range(btf.first_id, btf.first_id + len(btf))
    write_output(arguments.output, as_json(btf, ids) if arguments.format == "json" else as_text(btf, ids))
    return 0


def _btf(arguments: Namespace) -> "Btf":
    from pybpfasm.btf import Btf, BtfError, kernel_btf

    if arguments.input is None or arguments.kernel or arguments.module is not None:
        if arguments.input is not None:
            raise UsageError("--kernel and --module go without INPUT")
        return kernel_btf(arguments.module)
    data = read_input(arguments.input)
    if data.startswith(ELF_MAGIC):
        from pybpfasm.cli.objects import types_of

        return types_of(data, shown(arguments.input))
    try:
        return Btf.parse(data)
    except BtfError as error:
        raise InputError(f"{shown(arguments.input)}: {error}") from None


def _roots(btf: "Btf", names: list[str]) -> list[int]:
    """The ids of the types of these names. Raises `NotFoundError` for a name that is none's."""
    return [each for name in names for each in btf.find_all(name) or [btf.find(name)]]


def _show_field(btf: "Btf", arguments: Namespace) -> int:
    field = btf.field(arguments.path)
    kind = btf.kind(field.type_id)
    facts: dict[str, object] = {
        "offset": field.byte_offset,
        "bit_offset": field.bit_offset,
        "bit_size": field.bit_size,
        "size": None if field.bit_size is not None else btf.size_of(field.type_id),
        "kind": kind.name if kind is not None else None,
        "type": btf.name(field.type_id),
        "type_id": field.type_id,
    }
    if arguments.json:
        from json import dumps

        write_output(STANDARD, dumps({"path": arguments.path, **facts}) + "\n")
    elif field.bit_size is not None:
        print(f"{arguments.path}: bits {field.bit_offset} to {field.bit_offset + field.bit_size - 1}")
    else:
        named = f" {facts['type']}" if facts["type"] else ""
        print(f"{arguments.path}: offset {facts['offset']}, size {facts['size']}, {facts['kind']}{named}")
    return 0
