"""From records that refer to each other by id to the trees of `types.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybpfasm.btf import kinds, types
from pybpfasm.btf.error import BtfError
from pybpfasm.btf.fields import integer_bits
from pybpfasm.btf.sizes import MAX_DEPTH, described, too_deep
from pybpfasm.btf.types import Type

if TYPE_CHECKING:
    from pybpfasm.btf.blob import Btf


def value_type(btf: Btf, type_id: int) -> Type:
    """The tree of a type."""
    return _Trees(btf).tree(type_id, behind_pointer=False, depth=0)


class _Trees:
    """The trees made so far, each made once: a type may be met in many places."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._made: dict[tuple[int, bool], Type] = {}

    def tree(self, type_id: int, *, behind_pointer: bool, depth: int) -> Type:
        if depth > MAX_DEPTH:
            raise too_deep(type_id)
        key = (type_id, behind_pointer)
        if key not in self._made:
            self._made[key] = self._make(type_id, behind_pointer, depth + 1)
        return self._made[key]

    def _make(self, type_id: int, behind_pointer: bool, depth: int) -> Type:
        record = self._btf.type(type_id)
        match record:
            case kinds.Int():
                return types.Int(record.name, record.size, record.signed, record.boolean)
            case kinds.Float():
                return types.Float(record.name, record.size)
            case kinds.Enum() | kinds.Enum64():
                values = [types.Enumerator(each.name, each.value) for each in record.enumerators]
                return types.Enum(record.name, record.size, tuple(values), record.signed)
            case kinds.Ptr():
                return types.Pointer(
                    self.tree(record.type_id, behind_pointer=True, depth=depth), self._btf.pointer_size
                )
            case kinds.Typedef():
                target = self.tree(record.type_id, behind_pointer=behind_pointer, depth=depth)
                return types.Typedef(record.name, target)
            case kinds.Array():
                element = self.tree(record.type_id, behind_pointer=behind_pointer, depth=depth)
                return types.Array(element, record.count)
            case kinds.Const() | kinds.Volatile() | kinds.Restrict() | kinds.TypeTag():
                return self.tree(record.type_id, behind_pointer=behind_pointer, depth=depth)
            case kinds.Struct() | kinds.Union() if not behind_pointer:
                made = types.Struct if isinstance(record, kinds.Struct) else types.Union
                return made(record.name, record.size, self._members(record, depth))
        return self._opaque(type_id, record, behind_pointer)

    def _opaque(self, type_id: int, record: kinds.Record, behind_pointer: bool) -> Type:
        """What has no layout: only a pointer may stand before it."""
        match record:
            case _ if not behind_pointer:
                raise BtfError(f"type {type_id} is no data: it is {described(self._btf, type_id)}")
            case kinds.Struct() if record.name:
                return types.Forward(record.name)
            case kinds.Union() if record.name:
                return types.Forward(record.name, union=True)
            case kinds.Fwd():
                return types.Forward(record.name, record.union)
        return types.Void()

    def _members(self, record: kinds.Struct | kinds.Union, depth: int) -> tuple[types.Member, ...]:
        return tuple([self._member(member, depth) for member in record.members])

    def _member(self, member: kinds.Member, depth: int) -> types.Member:
        type_ = self.tree(member.type_id, behind_pointer=False, depth=depth)
        start, size = 0, None
        if member.bit_size is None and isinstance(type_, types.Int):
            start, size = integer_bits(self._btf, member.type_id)
        byte, bit = divmod(member.bit_offset + start, 8)
        return types.Member(member.name, type_, byte, bit, member.bit_size if size is None else size)
