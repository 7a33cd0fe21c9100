"""C declarations of types, as `bpftool btf dump format c` writes them (differences: docs/btf.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pybpfasm.btf import kinds
from pybpfasm.btf.declaration import Composite, Declarations
from pybpfasm.btf.order import DefinitionOrder
from pybpfasm.btf.pool import Pool
from pybpfasm.btf.sizes import MAX_DEPTH, too_deep

if TYPE_CHECKING:
    from pybpfasm.btf.blob import Btf

# Integers that GCC has built in for Arm's vector types, and Clang has not.
_ARM_POLYNOMIALS = {
    "__Poly8_t": "unsigned char",
    "__Poly16_t": "unsigned short",
    "__Poly64_t": "unsigned long long",
    "__Poly128_t": "unsigned __int128",
}


def dump_c(btf: Btf, type_ids: Iterable[int]) -> str:
    """The declarations of these types and of what they need."""
    pool = Pool(btf)
    references = _References(pool, btf)
    order = DefinitionOrder(pool, references.has)
    dump = _Dump(pool)
    for type_id in type_ids:
        for each in order.of(type_id):
            dump.define(each)
    return "".join(f"{text};\n\n" for text in dump.texts)


class _References:
    """The ids that any record refers to; all types are read when the first is asked for."""

    def __init__(self, pool: Pool, btf: Btf) -> None:
        self._pool = pool
        self._btf = btf
        self._found: set[int] | None = None

    def has(self, type_id: int) -> bool:
        if self._found is None:
            ids = range(1, self._btf.first_id + len(self._btf))
            self._found = {each for number in ids for each in _referred(self._pool.type(number))}
        return type_id in self._found


def _referred(record: kinds.Record) -> Iterable[int]:
    """The ids that a record refers to."""
    match record:
        case kinds.Struct() | kinds.Union():
            return [each.type_id for each in record.members]
        case kinds.FuncProto():
            return [record.return_type_id, *(each.type_id for each in record.parameters)]
        case kinds.DataSec():
            return [each.type_id for each in record.variables]
        case kinds.Array():
            return record.type_id, record.index_type_id
        case kinds.Void() | kinds.Int() | kinds.Float() | kinds.Enum() | kinds.Enum64() | kinds.Fwd() | kinds.Other():
            return ()
    return (record.type_id,)


class _Dump:
    """The declarations written so far."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._declarations = Declarations(pool)
        self._defined: set[int] = {0}
        self._open: set[int] = set()
        self._declared: set[int] = set()
        self.texts: list[str] = []

    def define(self, type_id: int) -> None:
        """Write a type's definition, before it the forward declarations that it needs."""
        if type_id in self._defined:
            return
        record = self._pool.type(type_id)
        match record:
            case kinds.Struct() | kinds.Union():
                self._open.add(type_id)
                self._require_each([each.type_id for each in record.members], type_id, 0)
                self.texts.append(self._declarations.body(type_id, record))
                self._open.discard(type_id)
                self._defined.add(type_id)
            case kinds.Enum() | kinds.Enum64():
                self.texts.append(self._declarations.enum(type_id, record))
                self._defined.add(type_id)
            case _:
                self._require(type_id, 0, 0)

    def _require_each(self, type_ids: Iterable[int], container: int, depth: int) -> None:
        for each in type_ids:
            self._require(each, container, depth)

    def _require(self, type_id: int, container: int, depth: int) -> None:
        """Write what has to stand before a use of the type within the definition of `container`."""
        if type_id in self._defined:
            return
        if depth > MAX_DEPTH:
            raise too_deep(type_id)
        record = self._pool.type(type_id)
        match record:
            case kinds.Ptr() | kinds.Const() | kinds.Volatile() | kinds.Restrict() | kinds.TypeTag() | kinds.Array():
                self._require(record.type_id, container, depth + 1)
            case kinds.FuncProto():
                parts = [record.return_type_id, *(each.type_id for each in record.parameters)]
                self._require_each(parts, container, depth + 1)
            case kinds.Struct() | kinds.Union():
                self._require_composite(type_id, record, container, depth)
            case kinds.Typedef():
                self._require_typedef(type_id, record, depth)
            case kinds.Fwd():
                self.texts.append(self._declarations.tag(type_id, record))
                self._defined.add(type_id)
            case kinds.Int():
                if record.name in _ARM_POLYNOMIALS:
                    self.texts.append(f"typedef {_ARM_POLYNOMIALS[record.name]} {record.name}")
                self._defined.add(type_id)

    def _require_composite(self, type_id: int, record: Composite, container: int, depth: int) -> None:
        if type_id == container:
            return
        if record.name:
            if type_id not in self._declared:
                self._declared.add(type_id)
                self.texts.append(self._declarations.tag(type_id, record))
        elif type_id not in self._open:
            self._open.add(type_id)
            self._require_each([each.type_id for each in record.members], container, depth + 1)
            self._open.discard(type_id)

    def _require_typedef(self, type_id: int, record: kinds.Typedef, depth: int) -> None:
        if type_id in self._declared:
            return
        if type_id not in self._open:
            self._open.add(type_id)
            self._require(record.type_id, type_id, depth + 1)
            self._open.discard(type_id)
            self._defined.add(type_id)
            if type_id in self._declared:  # it was needed, and written, on the way
                return
        self._declared.add(type_id)
        if record.name != "__builtin_va_list":  # the compiler has it
            self.texts.append(self._declarations.typedef(type_id, record))
