"""Where the field lies that a path names: `task_struct.mm`, `net_device.stats.rx_packets`, `sk_buff.cb[3]`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pybpfasm.btf import kinds
from pybpfasm.btf.error import BtfError, NotFoundError
from pybpfasm.btf.kinds import Kind, Record
from pybpfasm.btf.sizes import Types, described, strip
from pybpfasm.btf.value import Value

if TYPE_CHECKING:
    from pybpfasm.btf.blob import Btf

_STEP = re.compile(r"\.?([^.\[\]\s]+)|\[(\d{1,10})\]")


class Field(Value):
    """A field's place, counted in bits from the start of the outermost type.

    `bit_size` is None unless it is a bit field. Its bits count from the lowest on little-endian machines, from the
    highest on big-endian ones.
    """

    bit_offset: int
    bit_size: int | None
    type_id: int

    @property
    def byte_offset(self) -> int:
        """The byte where the field starts (for a bit field: its first bit)."""
        return self.bit_offset // 8


class _DecodedOnce:
    """The types of a blob, each decoded once: many members may have one type, and a long one."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._records: dict[int, Record] = {}
        self.pointer_size = btf.pointer_size

    def type(self, type_id: int) -> Record:
        """The record of an id."""
        if type_id not in self._records:
            self._records[type_id] = self._btf.type(type_id)
        return self._records[type_id]


def find_field(btf: Btf, path: str, within: int | None) -> Field:
    """The place of the field that `path` names."""
    steps = _steps(path)
    if within is None:
        if isinstance(steps[0], int):
            raise BtfError(f"{path!r}: a path starts with the name of a type")
        within = _root(btf, steps[0])
        steps = steps[1:]
    place = Field(0, None, within)
    for step in steps:
        if place.bit_size is not None:
            raise NotFoundError(f"{path!r}: nothing lies within a bit field")
        place = _element(btf, place, step, path) if isinstance(step, int) else _member(btf, place, step, path)
    return place


def _steps(path: str) -> list[str | int]:
    """The names and subscripts of a path."""
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if not found or (path[at] == ".") != (at > 0 and found[1] is not None):
            break
        steps.append(found[1] if found[1] is not None else int(found[2]))
        at = found.end()
    if not steps or at < len(path):
        raise BtfError(f"{path!r} is no path of names: write type.member, type.member[3], type.member.member")
    return steps


def _root(btf: Btf, name: str) -> int:
    try:
        return btf.find(name, Kind.STRUCT, Kind.UNION)
    except NotFoundError:
        pass
    try:
        return btf.find(name, Kind.TYPEDEF)
    except NotFoundError:
        raise NotFoundError(f"there is no struct, union or typedef {name!r}") from None


def _element(btf: Btf, place: Field, index: int, path: str) -> Field:
    record = btf.type(btf.strip(place.type_id))
    if not isinstance(record, kinds.Array):
        raise NotFoundError(
            f"{path!r}: what [{index}] is taken of is {described(btf, place.type_id)}, which is no array"
        )
    # An array at a struct's end that is declared without a size has a count of 0: it goes as far as the memory does.
    if record.count and index >= record.count:
        raise NotFoundError(f"{path!r}: the array has {record.count} elements, there is no [{index}]")
    return Field(place.bit_offset + index * btf.size_of(record.type_id) * 8, None, record.type_id)


def _member(btf: Btf, place: Field, name: str, path: str) -> Field:
    type_id = btf.strip(place.type_id)
    record = btf.type(type_id)
    if isinstance(record, kinds.Ptr):
        raise NotFoundError(f"{path!r}: {name} lies behind a pointer: ask for the offset in what it points to")
    if not isinstance(record, kinds.Struct | kinds.Union):
        raise NotFoundError(f"{path!r}: {name} is taken of {described(btf, type_id)}, which has no members")
    found = _search(btf, record, name)
    if found is None:
        raise NotFoundError(f"{path!r}: {described(btf, type_id)} has no member {name!r}")
    return Field(place.bit_offset + found.bit_offset, found.bit_size, found.type_id)


def _search(btf: Btf, outermost: kinds.Struct | kinds.Union, name: str) -> Field | None:
    """The member of that name, in the struct itself or in its anonymous members."""
    waiting = [(0, outermost)]
    seen: set[int] = set()
    decoded = _DecodedOnce(btf)
    while waiting:
        start, record = waiting.pop()
        anonymous: list[tuple[int, kinds.Struct | kinds.Union]] = []
        for member in record.members:
            if member.name == name:
                return _placed(btf, start, member)
            if not member.name:
                type_id = strip(decoded, member.type_id)
                inner = decoded.type(type_id)
                if type_id not in seen and isinstance(inner, kinds.Struct | kinds.Union):
                    seen.add(type_id)
                    anonymous.append((start + member.bit_offset, inner))
        waiting += reversed(anonymous)
    return None


def _placed(btf: Btf, start: int, member: kinds.Member) -> Field:
    if member.bit_size is not None:
        return Field(start + member.bit_offset, member.bit_size, member.type_id)
    offset, size = integer_bits(btf, member.type_id)
    return Field(start + member.bit_offset + offset, size, member.type_id)


def integer_bits(types: Types, type_id: int) -> tuple[int, int | None]:
    """Offset and size in bits of an integer that uses part of its bytes: how bit fields were described first."""
    record = types.type(type_id)
    if isinstance(record, kinds.Int) and (record.offset or record.bits != record.size * 8):
        return record.offset, record.bits
    return 0, None
