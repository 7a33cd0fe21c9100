"""Constants of programs by name: variables of `.rodata`, set before the programs are loaded.

The verifier knows their values and drops the branches that they rule out. Names, places and types come from the
programs' BTF, where each section of variables is a DATASEC.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pybpfasm.btf import Btf, Kind, NotFoundError, Type, kinds
from pybpfasm.errors import BpfError
from pybpfasm.kernel.maps.btf_values import btf_pack
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import CollectionSpec, MapSpec

_SECTION = ".rodata"


@frozen
class _Variable:
    """A variable: in which map, from which byte on, of which type."""

    map: str
    offset: int
    type: Type


def with_constants(spec: CollectionSpec, constants: Mapping[str, Any]) -> dict[str, MapSpec]:
    """The collection's maps, with these values in the place of the constants of these names.

    Values are as `TypedMap` takes them for the types: numbers, bytes, lists, dicts. Raises `BpfError` for a name that
    is no constant of the collection, `LayoutError` for a value that does not fit.
    """
    maps = dict(spec.maps)
    known = dict(_variables(spec))
    for name, value in constants.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "it has none that are named: compile with `-g`"
            raise BpfError(f"the collection has no constant {name!r} (`const volatile` in C); its constants: {listed}")
        variable = known[name]
        contents = bytearray(maps[variable.map].contents or b"")
        packed = btf_pack(variable.type, value)
        contents[variable.offset : variable.offset + len(packed)] = packed
        maps[variable.map] = evolve(maps[variable.map], contents=bytes(contents))
    return maps


def _variables(spec: CollectionSpec) -> Iterator[tuple[str, _Variable]]:
    sections = [each for each in spec.maps if each == _SECTION or each.startswith(_SECTION + ".")]
    blobs = {program.types for program in spec.programs.values() if program.types}
    for types in map(Btf.parse, blobs):
        for section in sections:
            for record, offset in _members(types, section):
                yield record.name, _Variable(section, offset, types.value_type(record.type_id))


def _members(types: Btf, section: str) -> Iterator[tuple[kinds.Var, int]]:
    try:
        found = types.type(types.find(section, Kind.DATASEC))
    except NotFoundError:
        return
    if isinstance(found, kinds.DataSec):
        for each in found.variables:
            record = types.type(each.type_id)
            if isinstance(record, kinds.Var):
                yield record, each.offset
