"""In which order types have to be defined in C, so that each is complete where its size is needed.

What a struct embeds comes before it. What it only points to may come later, a forward declaration does; unless that is
anonymous, since an anonymous struct is written out in place and what it embeds has to be complete there. Where C leaves
a choice, the order is that of libbpf's btf_dump.c (commit 04312c5dfca4), so that dumps can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pybpfasm.btf import kinds
from pybpfasm.btf.error import BtfError
from pybpfasm.btf.pool import Pool
from pybpfasm.btf.sizes import MAX_DEPTH, too_deep


class DefinitionOrder:
    """What has been ordered so far. `is_referenced` says whether any other type refers to one."""

    def __init__(self, pool: Pool, is_referenced: Callable[[int], bool]) -> None:
        self._pool = pool
        self._is_referenced = is_referenced
        self._done: set[int] = {0}
        self._open: set[int] = set()
        self._order: list[int] = []

    def of(self, type_id: int) -> list[int]:
        """The types to define for this one, itself last if it has a definition; those of earlier calls are left out."""
        self._order = []
        self._visit(type_id, behind_pointer=False, depth=0)
        return self._order

    def _visit(self, type_id: int, *, behind_pointer: bool, depth: int) -> bool:
        """Order what the type needs. Whether it has to be defined before the type that asks."""
        if type_id in self._done:
            return True
        record = self._pool.type(type_id)
        if type_id in self._open:
            if behind_pointer and isinstance(record, kinds.Struct | kinds.Union) and record.name:
                return False
            raise BtfError(f"type {type_id} contains itself")
        if depth > MAX_DEPTH:
            raise too_deep(type_id)
        match record:
            case kinds.Ptr():
                needed = self._visit(record.type_id, behind_pointer=True, depth=depth + 1)
                self._done.add(type_id)
                return needed
            case kinds.Array():
                return self._visit(record.type_id, behind_pointer=False, depth=depth + 1)
            case kinds.Const() | kinds.Volatile() | kinds.Restrict() | kinds.TypeTag():
                return self._visit(record.type_id, behind_pointer=behind_pointer, depth=depth + 1)
            case kinds.FuncProto():
                parts = [record.return_type_id, *(each.type_id for each in record.parameters)]
                return self._visit_each(parts, behind_pointer=behind_pointer, depth=depth + 1)
            case kinds.Struct() | kinds.Union():
                return self._visit_composite(type_id, record, behind_pointer=behind_pointer, depth=depth)
            case kinds.Typedef():
                return self._visit_typedef(type_id, record, behind_pointer=behind_pointer, depth=depth)
            case kinds.Enum() | kinds.Enum64() | kinds.Fwd():
                # An anonymous enum that a member uses is written out there; one that nobody uses declares constants.
                if record.name or not (depth or self._is_referenced(type_id)):
                    self._order.append(type_id)
                self._done.add(type_id)
                return True
        self._done.add(type_id)
        return False

    def _visit_each(self, type_ids: Iterable[int], *, behind_pointer: bool, depth: int) -> bool:
        needed = [self._visit(each, behind_pointer=behind_pointer, depth=depth) for each in type_ids]
        return any(needed)

    def _visit_composite(
        self, type_id: int, record: kinds.Struct | kinds.Union, *, behind_pointer: bool, depth: int
    ) -> bool:
        if behind_pointer and record.name:
            return False
        self._open.add(type_id)
        self._visit_each((each.type_id for each in record.members), behind_pointer=False, depth=depth + 1)
        self._open.discard(type_id)
        return self._define(type_id, named=bool(record.name))

    def _visit_typedef(self, type_id: int, record: kinds.Typedef, *, behind_pointer: bool, depth: int) -> bool:
        needed = self._visit(record.type_id, behind_pointer=behind_pointer, depth=depth + 1)
        if behind_pointer and not needed:
            return False
        return self._define(type_id, named=True)

    def _define(self, type_id: int, *, named: bool) -> bool:
        if named:
            self._order.append(type_id)
        self._done.add(type_id)
        return True
