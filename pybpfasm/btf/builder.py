"""From types to the bytes of a blob."""

from __future__ import annotations

import sys
from array import array

from pybpfasm.btf import kinds, types
from pybpfasm.btf.blob import Btf
from pybpfasm.btf.error import BtfError
from pybpfasm.btf.header import ByteOrder, encode_header
from pybpfasm.btf.kinds import Record
from pybpfasm.btf.types import Function, Type
from pybpfasm.btf.words import encode


class BtfBuilder:
    """Collects types and strings; what is added gets the number that refers to it.

    With `base` the blob is a split one, which continues its ids and string offsets.
    """

    def __init__(self, base: Btf | None = None) -> None:
        self._strings = bytearray(b"" if base is not None else b"\0")
        self._string_base = base._section.string_end if base is not None else 0
        self._offsets: dict[str, int] = {"": 0}
        self._words = array("I")
        self._next_id = base.first_id + len(base) if base is not None else 1
        self._ids: dict[Type, int] = {types.Void(): 0}

    def string_offset(self, text: str) -> int:
        """Offset of `text` in the string section; equal strings are stored once. Raises `BtfError` for a zero in it."""
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = self._string_base + len(self._strings)
            self._strings += _encoded(text) + b"\0"
        return offset

    def add(self, record: Record) -> int:
        """Add a record; its id. It may refer to ids added later. Raises `BtfError` for what has no encoding."""
        words = encode(record, self.string_offset)
        try:
            self._words += array("I", words)
        except (OverflowError, TypeError):
            raise BtfError(f"{record!r}: a number in it is no unsigned number of 32 bits") from None
        self._next_id += 1
        return self._next_id - 1

    def type_id(self, type_: Type) -> int:
        """The number of a type by value, which is added with all it refers to; equal types are stored once."""
        if type_ not in self._ids:
            self._ids[type_] = self.add(self._record(type_))
        return self._ids[type_]

    def function_id(self, function: Function) -> int:
        """Add a function and its prototype; the function's number."""
        parameters = [kinds.Parameter(each.name, self.type_id(each.type)) for each in function.parameters]
        prototype = self.add(kinds.FuncProto(self.type_id(function.returns), tuple(parameters)))
        return self.add(kinds.Func(function.name, prototype))

    def encode(self, byteorder: ByteOrder = "little") -> bytes:
        """The whole blob."""
        words = self._words[:]
        if byteorder != sys.byteorder:
            words.byteswap()
        return encode_header(byteorder, len(words) * 4, len(self._strings)) + words.tobytes() + bytes(self._strings)

    def _record(self, type_: Type) -> Record:
        """The record of a type by value, with what it refers to added."""
        match type_:
            case types.Void():
                raise BtfError("void is id 0 and has no record")
            case types.Int():
                return kinds.Int(type_.name, type_.size, type_.size * 8, type_.signed, boolean=type_.boolean)
            case types.Float():
                return kinds.Float(type_.name, type_.size)
            case types.Enum():
                return _enum(type_)
            case types.Typedef():
                return kinds.Typedef(type_.name, self.type_id(type_.type))
            case types.Pointer():
                pointee = self.type_id(type_.type)
                return kinds.Ptr(self.add(kinds.TypeTag(type_.tag, pointee)) if type_.tag else pointee)
            case types.Array():
                element = self.type_id(type_.type)
                return kinds.Array(element, self.type_id(types.Int("__ARRAY_SIZE_TYPE__", 4)), type_.count)
            case types.Forward():
                return kinds.Fwd(type_.name, type_.union)
            case types.Struct():
                return kinds.Struct(type_.name, type_.size, self._members(type_), _has_bit_fields(type_))
            case types.Union():
                return kinds.Union(type_.name, type_.size, self._members(type_), _has_bit_fields(type_))

    def _members(self, type_: types.Struct | types.Union) -> tuple[kinds.Member, ...]:
        return tuple(
            [
                kinds.Member(each.name, self.type_id(each.type), each.offset * 8 + each.bit_offset, each.bit_size)
                for each in type_.members
            ]
        )


def _has_bit_fields(type_: types.Struct | types.Union) -> bool:
    return any(each.bit_size is not None for each in type_.members)


def _enum(type_: types.Enum) -> kinds.Enum | kinds.Enum64:
    """Enums of up to 4 bytes have a kind that older kernels know too."""
    values = tuple([kinds.Enumerator(each.name, each.value) for each in type_.enumerators])
    made = kinds.Enum64 if type_.size > 4 else kinds.Enum
    return made(type_.name, type_.size, values, type_.signed)


def _encoded(text: str) -> bytes:
    try:
        encoded = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise BtfError(f"{text!r} is no text: it has half of a character") from None
    if 0 in encoded:
        raise BtfError(f"{text!r} has a zero character, which ends a string")
    return encoded


# The name by which `pybpfasm.kernel` knows the builder.
Encoder = BtfBuilder
