"""`map`: the maps in the kernel, and what is in them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.errors import InputError
from pybpfasm.cli.kernel_objects import add_actions, run_action, type_name
from pybpfasm.cli.streams import shown, write_output
from pybpfasm.cli.tables import json_text

if TYPE_CHECKING:
    from pybpfasm.kernel import Map

NAME = "map"
SUMMARY = "list and show the maps in the kernel, and what they hold"
EPILOG = """\
examples:
  python -m pybpfasm map list --json
  python -m pybpfasm map show 7
  python -m pybpfasm map dump /sys/fs/bpf/stats

Sizes are in bytes. Keys and values are shown by the types that the kernel keeps for the map (BTF), else as hex; of a
per-CPU map there is a list of values, in the order of the CPUs.
"""

_COLUMNS = ["id", "type", "name", "bytes_key", "bytes_value", "max_entries", "flags", "frozen", "pinned"]


def add_arguments(parser: ArgumentParser) -> None:
    """The action and the map."""
    add_actions(parser, "map", dump="its entries")


def run(arguments: Namespace) -> int:
    """List, show or dump."""
    from pybpfasm.kernel import Map
    from pybpfasm.kernel.inventory import ObjectKind

    return run_action(arguments, ObjectKind.MAP, (Map.by_id, Map.open), _described, _COLUMNS, _dump)


def _described(found: "Map") -> dict[str, Any]:
    """The facts by the names that bpftool gives them, and the names of the types of keys and values."""
    from pybpfasm.uapi import MapType

    info = found.info()
    return {
        "id": info.id,
        "type": type_name(MapType, info.type),
        "name": info.name,
        "flags": info.flags,
        "bytes_key": info.key_size,
        "bytes_value": info.value_size,
        "max_entries": info.max_entries,
        "frozen": found.spec.frozen,
        "key": getattr(found.spec.key, "name", None) or None,
        "value": getattr(found.spec.value, "name", None) or None,
    }


def _dump(arguments: Namespace, found: "Map") -> None:
    from pybpfasm.kernel.maps import Operation

    if found.kind.lacks & {Operation.WALK, Operation.LOOKUP}:
        lacking = next(each.value for each in (Operation.WALK, Operation.LOOKUP) if each in found.kind.lacks)
        raise InputError(f"{shown(arguments.object)}: a map of type {found.kind.title} has no {lacking}")
    entries = [{"key": _plain(key), "value": _plain(value)} for key, value in _entries(found)]
    if arguments.json:
        write_output(arguments.output, json_text(entries))
    else:
        lines = [f"{_text(each['key'])}: {_text(each['value'])}" for each in entries]
        write_output(arguments.output, "".join(f"{line}\n" for line in [*lines, f"{len(entries)} in all"]))


def _entries(found: "Map") -> Iterator[tuple[Any, Any]]:
    from pybpfasm.kernel.maps import PerCpuMap, TypedMap

    view = PerCpuMap.of(found) if found.kind.per_cpu else TypedMap.of(found)
    return view.items()


def _plain(value: Any) -> Any:
    """Bytes as hex, within lists and dicts, too."""
    match value:
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {name: _plain(each) for name, each in value.items()}
    return value


def _text(value: Any) -> str:
    """Hex and numbers as they are, the rest as JSON in one line."""
    from json import dumps

    return value if isinstance(value, str) else dumps(value)
