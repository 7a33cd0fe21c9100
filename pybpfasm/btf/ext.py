"""What ties instructions to types and source lines: the section .BTF.ext of an ELF object (Documentation/bpf/btf.rst).

    byte 0       2        3       4               8                 16                24
    +------------+--------+-------+---------------+-----------------+-----------------+-----------------+
    | magic      | version| flags | header's size | func_info:      | line_info:      | core_relo:      |
    | 0xeB9F     | 1      | 0     | 24, 32 or more| offset, size    | offset, size    | offset, size    |
    +------------+--------+-------+---------------+-----------------+-----------------+-----------------+

Offsets count from the header's end. A table starts with the size of its records (4 bytes); what follows comes once for
each ELF section with instructions:

    +-------------------+----------+-------------------------------+
    | section's name    | number   | records                       |
    | (string offset)   | of them  |                               |
    +-------------------+----------+-------------------------------+

    record of      words of 4 bytes
    func_info      instruction offset, type (a FUNC)
    line_info      instruction offset, file's name (string), the line's text (string), line (31-10) and column (9-0)
    core_relo      instruction offset, type, access (string), kind

Strings are offsets into the strings of .BTF, ids are .BTF's. Instruction offsets are in bytes from the section's start.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from pybpfasm.btf.error import BtfError
from pybpfasm.btf.header import MAGIC, VERSION, ByteOrder, magic_byteorder, struct_prefix
from pybpfasm.btf.value import Value
from pybpfasm.uapi.core_relocations import CoreRelocationKind

_SECTION = "BTF.ext"
_SIZE = 24
_SIZE_WITH_RELOCATIONS = 32
_MAX_COLUMN = (1 << 10) - 1
_MAX_LINE = (1 << 22) - 1


class FuncInfo(Value):
    """A function starts at an instruction (struct bpf_func_info)."""

    instruction_offset: int
    type_id: int


class LineInfo(Value):
    """Instructions from here on come from a source line (struct bpf_line_info); lines and columns count from 1."""

    instruction_offset: int
    file_name_offset: int
    line_text_offset: int
    line: int
    column: int


class CoreRelocation(Value):
    """An instruction whose immediate or offset depends on the running kernel's types (struct bpf_core_relo).

    `access_offset` is that of a string such as `0:1:2`: the path of member numbers, of an enumerator's number.
    """

    instruction_offset: int
    type_id: int
    access_offset: int
    kind: CoreRelocationKind


class SectionFuncInfo(Value):
    """The functions of one ELF section."""

    name_offset: int
    records: tuple[FuncInfo, ...]


class SectionLineInfo(Value):
    """The source lines of one ELF section."""

    name_offset: int
    records: tuple[LineInfo, ...]


class SectionRelocations(Value):
    """The relocations of one ELF section."""

    name_offset: int
    records: tuple[CoreRelocation, ...]


class Ext(Value):
    """The three tables; a section may come more than once in each."""

    func_info: tuple[SectionFuncInfo, ...] = ()
    line_info: tuple[SectionLineInfo, ...] = ()
    core_relocations: tuple[SectionRelocations, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Ext:
        """Read the section, of either byte order. Raises `BtfError`.

        Records may be longer than this library knows: what is behind their known part is left out.
        """
        held = bytes(data)
        tables = _Tables(held)
        return cls(
            tuple([SectionFuncInfo(name, records) for name, records in tables.read(8, 2, _func_info)]),
            tuple([SectionLineInfo(name, records) for name, records in tables.read(16, 4, _line_info)]),
            tuple([SectionRelocations(name, records) for name, records in tables.read(24, 4, tables.relocation)]),
        )

    def encode(self, byteorder: ByteOrder = "little") -> bytes:
        """The section's bytes. Raises `BtfError` for a number that does not fit."""
        tables = [
            _table(2, [(each.name_offset, [_func_words(one) for one in each.records]) for each in self.func_info]),
            _table(4, [(each.name_offset, [_line_words(one) for one in each.records]) for each in self.line_info]),
            _table(
                4, [(each.name_offset, [_relocation_words(r) for r in each.records]) for each in self.core_relocations]
            ),
        ]
        words: list[int] = []
        places: list[int] = []
        for table in tables:
            places += [len(words) * 4, len(table) * 4]
            words += table
        layout = f"{struct_prefix(byteorder)}HBBI6I{len(words)}I"
        try:
            return struct.pack(layout, MAGIC, VERSION, 0, _SIZE_WITH_RELOCATIONS, *places, *words)
        except struct.error:
            raise BtfError("an offset or id is no unsigned number of 32 bits", section=_SECTION) from None


_RecordT = TypeVar("_RecordT")
_Words = tuple[int, ...]


class _Tables:
    """Reads the tables of a section."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._prefix = struct_prefix(magic_byteorder(data, _SECTION))
        if len(data) < _SIZE:
            raise self.error(len(data), f"the section ends here, its header has {_SIZE} bytes")
        _, version, flags, size = struct.unpack_from(self._prefix + "HBBI", data)
        if (version, flags) != (VERSION, 0):
            raise self.error(2, f"version {version} with flags {flags:#x} is not known, only version 1 without flags")
        if not _SIZE <= size <= len(data):
            raise self.error(4, f"a header of {size} bytes, in a section of {len(data)}: it has {_SIZE} or more")
        self._header_size = size

    def error(self, offset: int, text: str) -> BtfError:
        return BtfError(text, offset, section=_SECTION)

    def read(
        self, place: int, width: int, made: Callable[[_Words, int], _RecordT]
    ) -> list[tuple[int, tuple[_RecordT, ...]]]:
        """The table whose offset and size stand at `place`: each ELF section's name, and records of `width` words."""
        at, end = self._bounds(place)
        if at == end:
            return []
        size = self._word(at, end)
        if size < width * 4 or size % 4:
            raise self.error(at, f"records of {size} bytes: they have {width * 4} or more, by fours")
        at += 4
        found: list[tuple[int, tuple[_RecordT, ...]]] = []
        while at < end:
            name, count = self._word(at, end), self._word(at + 4, end)
            at += 8
            if at + count * size > end:
                raise self.error(at - 4, f"{count} records of {size} bytes go past the table's end at byte {end}")
            found.append((name, self._records(range(at, at + count * size, size), width, made)))
            at += count * size
        return found

    def _bounds(self, place: int) -> tuple[int, int]:
        if place + 8 > self._header_size:
            return 0, 0
        offset, size = struct.unpack_from(self._prefix + "II", self._data, place)
        start = self._header_size + offset
        if start + size > len(self._data):
            raise self.error(place, f"the table is to end at byte {start + size}, the section has {len(self._data)}")
        return start, start + size

    def _word(self, at: int, end: int) -> int:
        if at + 4 > end:
            raise self.error(at, f"the table ends at byte {end}, within a number")
        return int(struct.unpack_from(self._prefix + "I", self._data, at)[0])

    def _records(self, places: range, width: int, made: Callable[[_Words, int], _RecordT]) -> tuple[_RecordT, ...]:
        layout = struct.Struct(f"{self._prefix}{width}I")
        return tuple([made(layout.unpack_from(self._data, at), at) for at in places])

    def relocation(self, words: _Words, at: int) -> CoreRelocation:
        if words[3] > max(CoreRelocationKind):
            raise self.error(at + 12, f"a relocation of kind {words[3]} is not known")
        return CoreRelocation(words[0], words[1], words[2], CoreRelocationKind(words[3]))


def _func_info(words: _Words, _: int) -> FuncInfo:
    return FuncInfo(*words)


def _line_info(words: _Words, _: int) -> LineInfo:
    return LineInfo(words[0], words[1], words[2], words[3] >> 10, words[3] & _MAX_COLUMN)


def _func_words(record: FuncInfo) -> _Words:
    return record.instruction_offset, record.type_id


def _line_words(record: LineInfo) -> _Words:
    if not (0 <= record.line <= _MAX_LINE and 0 <= record.column <= _MAX_COLUMN):
        text = f"line {record.line}, column {record.column}: lines go up to {_MAX_LINE}, columns up to {_MAX_COLUMN}"
        raise BtfError(text, section=_SECTION)
    place = record.line << 10 | record.column
    return record.instruction_offset, record.file_name_offset, record.line_text_offset, place


def _relocation_words(record: CoreRelocation) -> _Words:
    return record.instruction_offset, record.type_id, record.access_offset, record.kind


def _table(width: int, sections: Sequence[tuple[int, Sequence[_Words]]]) -> list[int]:
    """The words of a table with records of `width` words; none at all for no sections (libbpf refuses a size alone)."""
    words = [width * 4] if sections else []
    for name, records in sections:
        words += [name, len(records)]
        for record in records:
            words += record
    return words
