"""Between records and the 32-bit words that `kinds.py` draws: a pair of functions for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pybpfasm.btf import kinds
from pybpfasm.btf.error import BtfError
from pybpfasm.btf.kinds import Kind, Linkage, Record
from pybpfasm.btf.section import HEADER_WORDS, TypeSection

StringOffset = Callable[[str], int]


class _Reader:
    """The words of one record."""

    __slots__ = ("_section", "at", "count", "kind_flag", "number", "size_or_type", "words")

    def __init__(self, section: TypeSection, at: int) -> None:
        info = section.words[at + 1]
        self._section = section
        self.at = at
        self.words = section.words
        self.kind_flag = bool(info >> 31)
        self.number = info >> 24 & 0x7F
        self.count = info & 0xFFFFFF
        self.size_or_type = section.words[at + 2]

    @property
    def name(self) -> str:
        return self._section.name_at(self.at)

    def elements(self, width: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Each counted element: the word where it starts, and its words."""
        start = self.at + HEADER_WORDS
        for at in range(start, start + self.count * width, width):
            yield at, self.words[at : at + width]

    def name_at(self, at: int) -> str:
        return self._section.name_at(at)

    def word(self, index: int) -> int:
        """A word behind the first three."""
        return self.words[self.at + HEADER_WORDS + index]

    def rest(self) -> Sequence[int]:
        """All words behind the first three."""
        return self.words[self.at + HEADER_WORDS : self.at + self._section.length_at(self.at)]

    def error(self, text: str, at: int | None = None) -> BtfError:
        return self._section.error(self.at if at is None else at, text)

    def refuse(self, *, name: bool = False, count: bool = False, kind_flag: bool = False, size: bool = False) -> None:
        """Refuse what a kind has no use for, as the kernel does (its btf_kind_operations)."""
        for unused, value, what in (
            (name, self.words[self.at], "a name"),
            (count, self.count, "a count"),
            (kind_flag, self.kind_flag, "a kind flag"),
            (size, self.size_or_type, "a size"),
        ):
            if unused and value:
                raise self.error(f"{what} at a {Kind(self.number).name}, which has none")

    def linkage(self, number: int) -> Linkage:
        if number > Linkage.EXTERN:
            raise self.error(f"linkage {number} is not known")
        return Linkage(number)


def decode(section: TypeSection, at: int) -> Record:
    """The record that starts at a word. Raises `BtfError` for what the kernel would refuse as well."""
    reader = _Reader(section, at)
    return _DECODERS.get(reader.number, _decode_other)(reader)


def encode(record: Record, string_offset: StringOffset) -> list[int]:
    """The words of a record; `string_offset` gives the offset of a name. Raises `BtfError` if it has none."""
    encoder = _ENCODERS.get(type(record))
    if encoder is None:
        raise BtfError(f"{record!r} is no record: void is id 0 and needs none")
    return encoder(record, string_offset)


def _head(kind: int, name: int, size_or_type: int, count: int = 0, kind_flag: bool = False) -> list[int]:
    if not 0 <= count <= 0xFFFFFF:
        raise BtfError(f"{count} elements in one type: 16777215 are possible")
    return [name, kind_flag << 31 | kind << 24 | count, size_or_type]


def _decode_int(reader: _Reader) -> Record:
    reader.refuse(count=True, kind_flag=True)
    encoding = reader.word(0)
    if encoding & ~0x7FF00FF:
        raise reader.error(f"integer encoding {encoding:#010x} has bits that are not known", reader.at + HEADER_WORDS)
    return kinds.Int(
        reader.name,
        reader.size_or_type,
        encoding & 0xFF,
        bool(encoding & _SIGNED),
        bool(encoding & _CHAR),
        bool(encoding & _BOOL),
        encoding >> 16 & 0xFF,
    )


_SIGNED, _CHAR, _BOOL = 1 << 24, 1 << 25, 1 << 26


def _encode_int(record: kinds.Int, offset: StringOffset) -> list[int]:
    if not (0 <= record.bits <= 0xFF and 0 <= record.offset <= 0xFF):
        raise BtfError(f"{record!r}: bits and offset go up to 255")
    flags = record.signed * _SIGNED | record.char * _CHAR | record.boolean * _BOOL
    return [*_head(Kind.INT, offset(record.name), record.size), flags | record.offset << 16 | record.bits]


def _decode_ptr(reader: _Reader) -> Record:
    reader.refuse(name=True, count=True, kind_flag=True)
    return kinds.Ptr(reader.size_or_type)


def _decode_volatile(reader: _Reader) -> Record:
    reader.refuse(name=True, count=True, kind_flag=True)
    return kinds.Volatile(reader.size_or_type)


def _decode_const(reader: _Reader) -> Record:
    reader.refuse(name=True, count=True, kind_flag=True)
    return kinds.Const(reader.size_or_type)


def _decode_restrict(reader: _Reader) -> Record:
    reader.refuse(name=True, count=True, kind_flag=True)
    return kinds.Restrict(reader.size_or_type)


def _encode_reference(record: kinds.Ptr | kinds.Volatile | kinds.Const | kinds.Restrict, _: StringOffset) -> list[int]:
    return _head(record.kind, 0, record.type_id)


def _decode_array(reader: _Reader) -> Record:
    reader.refuse(name=True, count=True, kind_flag=True, size=True)
    return kinds.Array(reader.word(0), reader.word(1), reader.word(2))


def _encode_array(record: kinds.Array, _: StringOffset) -> list[int]:
    return [*_head(Kind.ARRAY, 0, 0), record.type_id, record.index_type_id, record.count]


def _decode_struct(reader: _Reader) -> Record:
    return kinds.Struct(reader.name, reader.size_or_type, _decode_members(reader), reader.kind_flag)


def _decode_union(reader: _Reader) -> Record:
    return kinds.Union(reader.name, reader.size_or_type, _decode_members(reader), reader.kind_flag)


def _decode_members(reader: _Reader) -> tuple[kinds.Member, ...]:
    if not reader.kind_flag:
        return tuple([kinds.Member(reader.name_at(at), type_id, bit) for at, (_, type_id, bit) in reader.elements(3)])
    return tuple(
        [
            kinds.Member(reader.name_at(at), type_id, word & 0xFFFFFF, word >> 24 or None)
            for at, (_, type_id, word) in reader.elements(3)
        ]
    )


def _encode_composite(record: kinds.Struct | kinds.Union, offset: StringOffset) -> list[int]:
    words = _head(record.kind, offset(record.name), record.size, len(record.members), record.kind_flag)
    for member in record.members:
        words += offset(member.name), member.type_id, _place(record, member)
    return words


def _place(record: kinds.Struct | kinds.Union, member: kinds.Member) -> int:
    if not record.kind_flag:
        if member.bit_size is not None:
            raise BtfError(f"{record.name}.{member.name} is a bit field: the record needs kind_flag")
        return member.bit_offset
    size = member.bit_size or 0
    if not (0 <= member.bit_offset <= 0xFFFFFF and 0 <= size <= 0xFF):
        raise BtfError(f"{record.name}.{member.name} does not fit: with kind_flag offsets have 24 bits, sizes 8")
    return size << 24 | member.bit_offset


def _decode_enum(reader: _Reader) -> Record:
    sign = 1 << 31 if reader.kind_flag else 0
    values = [kinds.Enumerator(reader.name_at(at), (v ^ sign) - sign) for at, (_, v) in reader.elements(2)]
    return kinds.Enum(reader.name, reader.size_or_type, tuple(values), reader.kind_flag)


def _encode_enum(record: kinds.Enum, offset: StringOffset) -> list[int]:
    words = _head(Kind.ENUM, offset(record.name), record.size, len(record.enumerators), record.signed)
    for each in record.enumerators:
        words += offset(each.name), _two_complement(record, each, 32)
    return words


def _decode_enum64(reader: _Reader) -> Record:
    sign = 1 << 63 if reader.kind_flag else 0
    values = [
        kinds.Enumerator(reader.name_at(at), ((high << 32 | low) ^ sign) - sign)
        for at, (_, low, high) in reader.elements(3)
    ]
    return kinds.Enum64(reader.name, reader.size_or_type, tuple(values), reader.kind_flag)


def _encode_enum64(record: kinds.Enum64, offset: StringOffset) -> list[int]:
    words = _head(Kind.ENUM64, offset(record.name), record.size, len(record.enumerators), record.signed)
    for each in record.enumerators:
        value = _two_complement(record, each, 64)
        words += offset(each.name), value & 0xFFFFFFFF, value >> 32
    return words


def _two_complement(record: kinds.Enum | kinds.Enum64, enumerator: kinds.Enumerator, bits: int) -> int:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if record.signed else (0, (1 << bits) - 1)
    if not low <= enumerator.value <= high:
        sign = "signed" if record.signed else "unsigned"
        raise BtfError(f"enum {record.name}: {enumerator.name} = {enumerator.value} is no {sign} number of {bits} bits")
    return enumerator.value & (1 << bits) - 1


def _decode_fwd(reader: _Reader) -> Record:
    reader.refuse(count=True, size=True)
    return kinds.Fwd(reader.name, reader.kind_flag)


def _encode_fwd(record: kinds.Fwd, offset: StringOffset) -> list[int]:
    return _head(Kind.FWD, offset(record.name), 0, 0, record.union)


def _decode_typedef(reader: _Reader) -> Record:
    reader.refuse(count=True, kind_flag=True)
    return kinds.Typedef(reader.name, reader.size_or_type)


def _encode_typedef(record: kinds.Typedef, offset: StringOffset) -> list[int]:
    return _head(Kind.TYPEDEF, offset(record.name), record.type_id)


def _decode_func(reader: _Reader) -> Record:
    reader.refuse(kind_flag=True)
    return kinds.Func(reader.name, reader.size_or_type, reader.linkage(reader.count))


def _encode_func(record: kinds.Func, offset: StringOffset) -> list[int]:
    return _head(Kind.FUNC, offset(record.name), record.type_id, record.linkage)


def _decode_func_proto(reader: _Reader) -> Record:
    reader.refuse(name=True, kind_flag=True)
    parameters = [kinds.Parameter(reader.name_at(at), type_id) for at, (_, type_id) in reader.elements(2)]
    return kinds.FuncProto(reader.size_or_type, tuple(parameters))


def _encode_func_proto(record: kinds.FuncProto, offset: StringOffset) -> list[int]:
    words = _head(Kind.FUNC_PROTO, 0, record.return_type_id, len(record.parameters))
    for parameter in record.parameters:
        words += offset(parameter.name), parameter.type_id
    return words


def _decode_var(reader: _Reader) -> Record:
    reader.refuse(count=True, kind_flag=True)
    return kinds.Var(reader.name, reader.size_or_type, reader.linkage(reader.word(0)))


def _encode_var(record: kinds.Var, offset: StringOffset) -> list[int]:
    return [*_head(Kind.VAR, offset(record.name), record.type_id), record.linkage]


def _decode_datasec(reader: _Reader) -> Record:
    reader.refuse(kind_flag=True)
    variables = [kinds.SectionVariable(*words) for _, words in reader.elements(3)]
    return kinds.DataSec(reader.name, reader.size_or_type, tuple(variables))


def _encode_datasec(record: kinds.DataSec, offset: StringOffset) -> list[int]:
    words = _head(Kind.DATASEC, offset(record.name), record.size, len(record.variables))
    for variable in record.variables:
        words += variable.type_id, variable.offset, variable.size
    return words


def _decode_float(reader: _Reader) -> Record:
    reader.refuse(count=True, kind_flag=True)
    return kinds.Float(reader.name, reader.size_or_type)


def _encode_float(record: kinds.Float, offset: StringOffset) -> list[int]:
    return _head(Kind.FLOAT, offset(record.name), record.size)


def _decode_decl_tag(reader: _Reader) -> Record:
    reader.refuse(count=True)
    component = (reader.word(0) ^ 1 << 31) - (1 << 31)
    if component < -1:
        raise reader.error(f"component {component} of a declaration: it is -1 or a number from 0")
    return kinds.DeclTag(reader.name, reader.size_or_type, component, reader.kind_flag)


def _encode_decl_tag(record: kinds.DeclTag, offset: StringOffset) -> list[int]:
    if not -1 <= record.component <= 0x7FFFFFFF:
        raise BtfError(f"{record!r}: component is -1 or a number from 0")
    head = _head(Kind.DECL_TAG, offset(record.name), record.type_id, 0, record.attribute)
    return [*head, record.component & 0xFFFFFFFF]


def _decode_type_tag(reader: _Reader) -> Record:
    reader.refuse(count=True)
    return kinds.TypeTag(reader.name, reader.size_or_type, reader.kind_flag)


def _encode_type_tag(record: kinds.TypeTag, offset: StringOffset) -> list[int]:
    return _head(Kind.TYPE_TAG, offset(record.name), record.type_id, 0, record.attribute)


def _decode_other(reader: _Reader) -> Record:
    words = tuple(reader.rest())
    return kinds.Other(reader.number, reader.name, reader.size_or_type, reader.count, reader.kind_flag, words)


def _encode_other(record: kinds.Other, offset: StringOffset) -> list[int]:
    head = _head(record.number, offset(record.name), record.size_or_type, record.count, record.kind_flag)
    return [*head, *record.words]


_DECODERS: dict[int, Callable[[_Reader], Record]] = {
    Kind.INT: _decode_int,
    Kind.PTR: _decode_ptr,
    Kind.ARRAY: _decode_array,
    Kind.STRUCT: _decode_struct,
    Kind.UNION: _decode_union,
    Kind.ENUM: _decode_enum,
    Kind.FWD: _decode_fwd,
    Kind.TYPEDEF: _decode_typedef,
    Kind.VOLATILE: _decode_volatile,
    Kind.CONST: _decode_const,
    Kind.RESTRICT: _decode_restrict,
    Kind.FUNC: _decode_func,
    Kind.FUNC_PROTO: _decode_func_proto,
    Kind.VAR: _decode_var,
    Kind.DATASEC: _decode_datasec,
    Kind.FLOAT: _decode_float,
    Kind.DECL_TAG: _decode_decl_tag,
    Kind.TYPE_TAG: _decode_type_tag,
    Kind.ENUM64: _decode_enum64,
}

_ENCODERS: dict[type[Record], Callable[[Any, StringOffset], list[int]]] = {
    kinds.Int: _encode_int,
    kinds.Ptr: _encode_reference,
    kinds.Array: _encode_array,
    kinds.Struct: _encode_composite,
    kinds.Union: _encode_composite,
    kinds.Enum: _encode_enum,
    kinds.Fwd: _encode_fwd,
    kinds.Typedef: _encode_typedef,
    kinds.Volatile: _encode_reference,
    kinds.Const: _encode_reference,
    kinds.Restrict: _encode_reference,
    kinds.Func: _encode_func,
    kinds.FuncProto: _encode_func_proto,
    kinds.Var: _encode_var,
    kinds.DataSec: _encode_datasec,
    kinds.Float: _encode_float,
    kinds.DeclTag: _encode_decl_tag,
    kinds.TypeTag: _encode_type_tag,
    kinds.Enum64: _encode_enum64,
    kinds.Other: _encode_other,
}
