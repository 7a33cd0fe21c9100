"""Global variables in their sections: which byte of .data, .bss or .rodata each has, for all programs of a collection.

count = Global[u32]()          .bss     [count u32]
limit = ReadOnly[u64](64)      .rodata  [limit u64] [format char[12]]
"""

import functools
from typing import Any

from pybpfasm import btf
from pybpfasm.ir.operations import MapValueAddress
from pybpfasm.lang.globals import ReadOnly, Variable
from pybpfasm.lang.layout import aligned, alignment_of
from pybpfasm.lang.types import TextType, ValueType, btf_type, value_type
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapCreateFlag, MapType

READ_ONLY = ".rodata"


@frozen
class Placed:
    """A variable in its section."""

    name: str
    type: ValueType
    offset: int
    data: bytes


class Sections:
    """What has been placed so far."""

    def __init__(self) -> None:
        self._placed: dict[str, list[Placed]] = {}
        self._known: dict[int, tuple[Variable, str, Placed]] = {}
        self._texts: dict[bytes, Placed] = {}

    def address(self, name: str, variable: Variable) -> tuple[str, MapValueAddress, ValueType]:
        """The section of a variable, its address and its type. Raises `LayoutError` for one without a layout."""
        if id(variable) not in self._known:
            data = variable.packed()
            section = READ_ONLY if isinstance(variable, ReadOnly) else ".data" if any(data) else ".bss"
            placed = self._place(section, name, value_type(variable.annotation), data)
            self._known[id(variable)] = (variable, section, placed)
        _, section, placed = self._known[id(variable)]
        return section, MapValueAddress(_stand_in(section), placed.offset), placed.type

    def text(self, data: bytes) -> MapValueAddress:
        """The address of constant bytes; equal ones are there once."""
        if data not in self._texts:
            self._texts[data] = self._place(READ_ONLY, f"text{len(self._texts)}", TextType(len(data)), data)
        return MapValueAddress(_stand_in(READ_ONLY), self._texts[data].offset)

    def map(self, section: str) -> MapSpec:
        """The map of a section, with all that was placed in it."""
        rows = self._placed[section]
        last = rows[-1]
        size = aligned(last.offset + last.type.size, 8)
        contents = bytearray(size)
        for row in rows:
            contents[row.offset : row.offset + len(row.data)] = row.data
        members = tuple(btf.Member(row.name, btf_type(row.type), row.offset) for row in rows)
        read_only = section == READ_ONLY
        return evolve(
            _stand_in(section),
            value=btf.Struct(section.removeprefix("."), size, members),
            flags=int(MapCreateFlag.RDONLY_PROG) if read_only else 0,
            contents=bytes(contents),
            frozen=read_only,
        )

    def _place(self, section: str, name: str, type_: ValueType, data: bytes) -> Placed:
        rows = self._placed.setdefault(section, [])
        end = rows[-1].offset + rows[-1].type.size if rows else 0
        taken = {row.name for row in rows}
        unique = name if name not in taken else f"{name}_{len(rows)}"
        placed = Placed(unique, type_, aligned(end, min(alignment_of(type_), 8)), data)
        rows.append(placed)
        return placed


@functools.cache
def _stand_in(section: str) -> MapSpec:
    """The section's map while it is not known what else comes into it."""
    key: Any = btf.Int("unsigned int", 4)
    return MapSpec(section, MapType.ARRAY, key, Untyped(0), 1)
