"""Size, alignment, and what stands behind names and qualifiers, of types by id."""

from __future__ import annotations

from typing import Protocol

from pybpfasm.btf import kinds
from pybpfasm.btf.error import BtfError
from pybpfasm.btf.kinds import Record

# How many types may stand one in another. The kernel follows 32 (MAX_RESOLVE_DEPTH in kernel/bpf/btf.c); no real type
# comes near (13 in a row in Linux 6.18), and a cycle ends here.
MAX_DEPTH = 64

_TRANSPARENT = (kinds.Typedef, kinds.Const, kinds.Volatile, kinds.Restrict, kinds.TypeTag)
_SIZED = (kinds.Int, kinds.Struct, kinds.Union, kinds.Enum, kinds.Enum64, kinds.Float, kinds.DataSec)


class Types(Protocol):
    """Where records come from: a `Btf`, or a pool that keeps those of one."""

    @property
    def pointer_size(self) -> int:
        """The machine's, in bytes."""

    def type(self, type_id: int) -> Record:
        """The record of an id."""


def too_deep(type_id: int) -> BtfError:
    """The error for types that refer to each other without an end."""
    return BtfError(f"type {type_id}: more than {MAX_DEPTH} types refer one to another, or types contain themselves")


def strip(types: Types, type_id: int) -> int:
    """The id behind typedefs, qualifiers and type tags."""
    at = type_id
    for _ in range(MAX_DEPTH):
        record = types.type(at)
        if not isinstance(record, _TRANSPARENT):
            return at
        at = record.type_id
    raise too_deep(type_id)


def size_of(types: Types, type_id: int) -> int:
    """The size in bytes."""
    at, count = type_id, 1
    for _ in range(MAX_DEPTH):
        record = types.type(at)
        if isinstance(record, _SIZED):
            return count * record.size
        if isinstance(record, kinds.Ptr):
            return count * types.pointer_size
        if isinstance(record, kinds.Array):
            count *= record.count
            at = record.type_id
        elif isinstance(record, (*_TRANSPARENT, kinds.Var)):
            at = record.type_id
        else:
            raise BtfError(f"type {type_id} has no size: it is {described(types, at)}")
    raise too_deep(type_id)


def described(types: Types, type_id: int) -> str:
    """A type in an error's text: its kind, and its name if it has one."""
    record = types.type(type_id)
    word = "of an unknown kind" if isinstance(record, kinds.Other) else record.kind.name
    name = getattr(record, "name", "")
    return f"{word} {name}" if name else word


def alignment_of(types: Types, type_id: int, known: dict[int, int], depth: int = 0) -> int:
    """The alignment in bytes; `known` is filled with those of structs and unions."""
    at = type_id
    for _ in range(depth, MAX_DEPTH):
        if at in known:
            return known[at]
        record = types.type(at)
        match record:
            case kinds.Int() | kinds.Enum() | kinds.Enum64() | kinds.Float():
                return _of_scalar(types, record)
            case kinds.Ptr():
                return types.pointer_size
            case kinds.Struct() | kinds.Union():
                known[at] = _of_composite(types, record, known, depth + 1)
            case kinds.Array() | kinds.Var():
                at = record.type_id
            case _ if isinstance(record, _TRANSPARENT):
                at = record.type_id
            case _:
                raise BtfError(f"type {type_id} has no alignment: it is {described(types, at)}")
    raise too_deep(type_id)


def _of_scalar(types: Types, record: kinds.Int | kinds.Enum | kinds.Enum64 | kinds.Float) -> int:
    # 64-bit machines align __int128 to its size. In a struct on i386, 8-byte numbers are aligned to 4.
    return max(1, min(record.size, 16 if types.pointer_size == 8 else 4))


def _of_composite(types: Types, record: kinds.Struct | kinds.Union, known: dict[int, int], depth: int) -> int:
    """The greatest alignment of the members, or 1 where offsets or size tell that the struct is packed."""
    greatest = 1
    for member in record.members:
        alignment = alignment_of(types, member.type_id, known, depth)
        if member.bit_size is None and member.bit_offset % (8 * alignment):
            return 1
        greatest = max(greatest, alignment)
    return 1 if record.size % greatest else greatest
