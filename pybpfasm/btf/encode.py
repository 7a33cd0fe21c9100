"""From types to the bytes that BPF_BTF_LOAD takes (include/uapi/linux/btf.h, little endian).

    header | types, numbered from 1 | strings, each ended by a zero byte

A type starts with 12 bytes; what follows depends on its kind:

    name offset (4) | info (4): kind in bits 24-28, count in bits 0-15 | size or type id (4)
"""

import struct

from pybpfasm.btf.types import Array, Function, Int, Pointer, Struct, Type, Typedef

MAGIC = 0xEB9F

_KIND_INT = 1
_KIND_PTR = 2
_KIND_ARRAY = 3
_KIND_STRUCT = 4
_KIND_TYPEDEF = 8
_KIND_FUNC = 12
_KIND_FUNC_PROTO = 13

_INT_SIGNED = 1


class Encoder:
    """Collects types and strings; `type_id` and `string_offset` give the numbers that refer to them."""

    def __init__(self) -> None:
        self._strings = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}
        self._types: list[bytes] = []
        self._ids: dict[Type, int] = {}

    def string_offset(self, text: str) -> int:
        """Offset of `text` in the string section; equal strings are stored once."""
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._offsets[text]

    def type_id(self, type_: Type) -> int:
        """The number of a type, which is added with all it refers to; equal types are stored once."""
        if type_ not in self._ids:
            self._ids[type_] = self._append_type(type_)
        return self._ids[type_]

    def function_id(self, function: Function) -> int:
        """Add a function and its prototype; the function's number."""
        parameters = [
            struct.pack("<II", self.string_offset(parameter.name), self.type_id(parameter.type))
            for parameter in function.parameters
        ]
        returns = self.type_id(function.returns)
        prototype = self._append("", _KIND_FUNC_PROTO, len(parameters), returns, b"".join(parameters))
        return self._append(function.name, _KIND_FUNC, 0, prototype)

    def encode(self) -> bytes:
        """The whole blob."""
        types = b"".join(self._types)
        header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(self._strings))
        return header + types + bytes(self._strings)

    def _append_type(self, type_: Type) -> int:
        match type_:
            case Int():
                bits = (_INT_SIGNED if type_.signed else 0) << 24 | type_.size * 8
                return self._append(type_.name, _KIND_INT, 0, type_.size, struct.pack("<I", bits))
            case Typedef():
                return self._append(type_.name, _KIND_TYPEDEF, 0, self.type_id(type_.type))
            case Pointer():
                return self._append("", _KIND_PTR, 0, self.type_id(type_.type))
            case Array():
                index = self.type_id(Int("__ARRAY_SIZE_TYPE__", 4))
                tail = struct.pack("<III", self.type_id(type_.type), index, type_.count)
                return self._append("", _KIND_ARRAY, 0, 0, tail)
            case Struct():
                members = [
                    struct.pack("<III", self.string_offset(m.name), self.type_id(m.type), m.offset * 8)
                    for m in type_.members
                ]
                return self._append(type_.name, _KIND_STRUCT, len(members), type_.size, b"".join(members))

    def _append(self, name: str, kind: int, count: int, size_or_type: int, tail: bytes = b"") -> int:
        info = kind << 24 | count
        self._types.append(struct.pack("<III", self.string_offset(name), info, size_or_type) + tail)
        return len(self._types)
