"""Programs, maps and links of the kernel as users name them: by id, or by where they are pinned."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pybpfasm.cli.errors import InputError
from pybpfasm.cli.streams import STANDARD, write_output
from pybpfasm.cli.tables import facts, json_text, table
from pybpfasm.errors import BpfError, KernelError

if TYPE_CHECKING:
    from pybpfasm.kernel.descriptor import Descriptor
    from pybpfasm.kernel.inventory import ObjectKind

Found = TypeVar("Found", bound="Descriptor")
Describe = Callable[[Any], dict[str, Any]]


def add_actions(parser: ArgumentParser, what: str, *, dump: str | None) -> None:
    """The actions `list`, `show` and, with a word about what it shows, `dump`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help=f"all {what}s, a line each", allow_abbrev=False)
    shown = actions.add_parser("show", help=f"one {what}, a line a fact", allow_abbrev=False)
    with_object = [shown]
    if dump is not None:
        with_object.append(actions.add_parser("dump", help=dump, allow_abbrev=False))
    for each in with_object:
        each.add_argument("object", metavar="ID|PIN", help="an id, as in 12 or id:12, or where it is pinned")
    for each in (listed, *with_object):
        each.add_argument("--json", action="store_true", help="the same as JSON")
        each.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def opened(name: str, by_id: Callable[[int], Found], by_path: Callable[[Path], Found]) -> Found:
    """The object of that name. Raises `KernelError` if there is none, or another kind of object is pinned there."""
    number = name.removeprefix("id:")
    if number.isascii() and number.isdigit():
        return by_id(int(number))
    if name.startswith("id:"):
        raise InputError(f"{name}: an id is a number: id:12")
    return by_path(Path(name))


def run_action(
    arguments: Namespace,
    kind: "ObjectKind",
    openers: tuple[Callable[[int], Found], Callable[[Path], Found]],
    describe: Describe,
    columns: list[str],
    dump: Callable[[Namespace, Found], None] | None = None,
) -> int:
    """List, show or dump; `openers` are the ones by id and by path, and without a `dump` it is the same as show."""
    by_id, by_path = openers
    if arguments.action == "list":
        _write_list(arguments, kind, by_id, describe, columns)
        return 0
    with opened(arguments.object, by_id, by_path) as found:
        if dump is not None and arguments.action == "dump":
            dump(arguments, found)
        else:
            row = describe(found)
            _write_facts(arguments, {**row, "pinned": pins_of(kind).get(row["id"], [])})
    return 0


def _write_list(
    arguments: Namespace, kind: "ObjectKind", by_id: Callable[[int], Found], describe: Describe, columns: list[str]
) -> None:
    """Describe all objects of a kind: some facts in columns, or all as JSON."""
    rows = list(_described(kind, by_id, describe))
    if arguments.json:
        write_output(arguments.output, json_text(rows))
    elif rows:
        write_output(arguments.output, "".join(f"{line}\n" for line in table(rows, columns)))
    else:
        write_output(arguments.output, f"the kernel has no {kind.value}\n")


def _write_facts(arguments: Namespace, row: dict[str, Any]) -> None:
    """Describe one object."""
    write_output(arguments.output, json_text(row) if arguments.json else "".join(f"{line}\n" for line in facts(row)))


def pins_of(kind: "ObjectKind") -> dict[int, list[str]]:
    """Where the objects of a kind are pinned, by their ids."""
    from pybpfasm.kernel.inventory import find_pins

    places: dict[int, list[str]] = {}
    for each in find_pins():
        if each.kind == kind:
            places.setdefault(each.id, []).append(str(each.path))
    return places


def type_name(kinds: Any, number: int) -> str:
    """The name of a number of uapi, or the number where this library does not know it."""
    return kinds(number).name.lower() if number in set(kinds) else str(number)


def _described(kind: "ObjectKind", by_id: Callable[[int], Found], describe: Describe) -> Iterator[dict[str, Any]]:
    import errno

    from pybpfasm.kernel.inventory import object_ids

    places = pins_of(kind)
    for number in object_ids(kind):
        try:
            with by_id(number) as found:
                row = describe(found)
        except KernelError as error:
            if error.errno == errno.ENOENT:  # gone since it was listed
                continue
            raise
        except BpfError as error:  # of a kind that is newer than this library
            row = {"id": number, "error": str(error)}
        yield {**row, "pinned": places.get(number, [])}
