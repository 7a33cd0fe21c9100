"""What section .BTF.ext says of a function: its type, its source lines, its relocations against the kernel's types."""

from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from pybpfasm.btf import Btf, CoreRelocation, Ext, FuncInfo, Kind, LineInfo
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import SLOT_BYTES, Function
from pybpfasm.spec import SourceLine


class _Record(Protocol):
    @property
    def instruction_offset(self) -> int: ...


_RecordT = TypeVar("_RecordT", bound=_Record)
_RecordT_co = TypeVar("_RecordT_co", bound=_Record, covariant=True)


class _Section(Protocol[_RecordT_co]):
    @property
    def name_offset(self) -> int: ...

    @property
    def records(self) -> tuple[_RecordT_co, ...]: ...


class DebugInfo:
    """The three tables, asked for by function. Methods may raise `BtfError`."""

    def __init__(self, btf: Btf | None, ext: Ext | None) -> None:
        self._btf = btf
        self._ext = ext or Ext()

    @cached_property
    def _functions(self) -> "_Table[FuncInfo]":
        return _Table(self._btf, self._ext.func_info)

    @cached_property
    def _lines(self) -> "_Table[LineInfo]":
        return _Table(self._btf, self._ext.line_info)

    @cached_property
    def _relocations(self) -> "_Table[CoreRelocation]":
        return _Table(self._btf, self._ext.core_relocations)

    def type_id(self, function: Function) -> int | None:
        """The id of the function's FUNC; None if nothing is known of it."""
        for record in self._functions.within(function):
            if record.instruction_offset == function.offset and self._btf is not None:
                if self._btf.kind(record.type_id) is not Kind.FUNC:
                    raise ElfError(f"section '.BTF.ext': type {record.type_id} of {function} is no function")
                return record.type_id
        return None

    def lines(self, function: Function) -> list[SourceLine]:
        """The function's lines, slots counted from its start; the first is at 0, as the kernel wants it."""
        found = self._lines.within(function)
        if self._btf is None or not found or found[0].instruction_offset != function.offset:
            return []
        string = self._btf.string
        return [
            SourceLine(
                (record.instruction_offset - function.offset) // SLOT_BYTES,
                string(record.file_name_offset),
                record.line,
                record.column,
                string(record.line_text_offset),
            )
            for record in found
        ]

    def relocations(self, function: Function) -> list[CoreRelocation]:
        """The function's relocations; their offsets count from the section's start."""
        return self._relocations.within(function)


class _Table(Generic[_RecordT]):
    """Records by section and offset."""

    def __init__(self, btf: Btf | None, sections: Iterable[_Section[_RecordT]]) -> None:
        self._by_section: dict[str, list[_RecordT]] = {}
        for section in sections if btf is not None else ():
            name = btf.string(section.name_offset) if btf is not None else ""
            self._by_section.setdefault(name, []).extend(section.records)
        for records in self._by_section.values():
            records.sort(key=_offset)

    def within(self, function: Function) -> list[_RecordT]:
        """The records of a function's instructions."""
        records = self._by_section.get(function.section, [])
        first = bisect_left(records, function.offset, key=_offset)
        return records[first : bisect_left(records, function.offset + function.size, key=_offset)]


def _offset(record: _Record) -> int:
    return record.instruction_offset
