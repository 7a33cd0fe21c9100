"""Values by their BTF types as plain Python values.

| BTF | Python |
|---|---|
| integer, pointer | int; bool for C's bool |
| float | float |
| enum | the enumerator's name, or an int for a number without one |
| array of `char` | str, without the zeros at its end; bytes that are no UTF-8 as surrogate escapes |
| array of other bytes | bytes |
| other arrays | list |
| struct | dict; members of members without a name stand beside the others |
| union | dict with all members; to pack one, members that agree, one is enough |

Missing members are zeros, and padding always is. In place of a struct, a union or an array its bytes are taken, too.
Byte order is the machine's.
"""

import struct
import sys
from typing import Any

from pybpfasm import btf
from pybpfasm.lang.types import LayoutError

_FLOATS = {2: "e", 4: "f", 8: "d"}


def btf_unpack(type_: btf.Type, data: bytes) -> Any:
    """The value of a type that `data`, of its size, holds. Raises `LayoutError` for a type that has no values."""
    match type_:
        case btf.Typedef():
            return btf_unpack(type_.type, data)
        case btf.Int(boolean=True):
            return any(data)
        case btf.Int():
            return int.from_bytes(data, sys.byteorder, signed=type_.signed)
        case btf.Pointer():
            return int.from_bytes(data, sys.byteorder)
        case btf.Float() if type_.size in _FLOATS:
            return struct.unpack(f"={_FLOATS[type_.size]}", data)[0]
        case btf.Enum():
            number = int.from_bytes(data, sys.byteorder, signed=type_.signed)
            return next((each.name for each in type_.enumerators if each.value == number), number)
        case btf.Array():
            return _unpack_array(type_, data)
        case btf.Struct() | btf.Union():
            return _unpack_members(type_, data)
    raise LayoutError(f"{_name(type_)} has no values")


def btf_pack(type_: btf.Type, value: Any) -> bytes:
    """A value of a type as bytes. Raises `LayoutError` if it does not fit."""
    match type_:
        case btf.Typedef():
            return btf_pack(type_.type, value)
        case btf.Enum() if isinstance(value, str):
            found = next((each.value for each in type_.enumerators if each.name == value), None)
            if found is None:
                raise LayoutError(f"{_name(type_)} has no enumerator {value!r}")
            return _pack_int(type_, found, type_.signed)
        case btf.Int() | btf.Enum():
            return _pack_int(type_, value, type_.signed)
        case btf.Pointer():
            return _pack_int(type_, value, signed=False)
        case btf.Float() if type_.size in _FLOATS:
            try:
                return struct.pack(f"={_FLOATS[type_.size]}", value)
            except (struct.error, OverflowError):
                raise LayoutError(f"{value!r} does not fit {_name(type_)}") from None
        case btf.Array():
            return _pack_array(type_, value)
        case btf.Struct() | btf.Union():
            return _pack_members(type_, value)
    raise LayoutError(f"{_name(type_)} has no values")


# --- integers and arrays ----------------------------------------------------------------------------------------------


def _pack_int(type_: btf.Type, value: Any, signed: bool) -> bytes:
    try:
        return int(value.__index__()).to_bytes(type_.size, sys.byteorder, signed=signed)
    except (AttributeError, OverflowError):
        raise LayoutError(f"{value!r} does not fit {_name(type_)} of {type_.size} bytes") from None


def _unpack_array(type_: btf.Array, data: bytes) -> Any:
    element = _stripped(type_.type)
    if isinstance(element, btf.Int) and element.size == 1 and not element.boolean:
        return data.rstrip(b"\0").decode(errors="surrogateescape") if element.name == "char" else data
    size = type_.type.size
    return [btf_unpack(type_.type, data[at * size : (at + 1) * size]) for at in range(type_.count)]


def _pack_array(type_: btf.Array, value: Any) -> bytes:
    element = _stripped(type_.type)
    if isinstance(element, btf.Int) and element.size == 1 and element.name == "char" and isinstance(value, str):
        value = value.encode(errors="surrogateescape").ljust(type_.size, b"\0")
    if isinstance(value, bytes):
        return _whole(type_, value)
    if not isinstance(value, list | tuple) or len(value) != type_.count:
        raise LayoutError(f"{value!r} is no list of {type_.count} for {_name(type_)}")
    return b"".join(btf_pack(type_.type, each) for each in value)


def _whole(type_: btf.Type, value: bytes) -> bytes:
    if len(value) != type_.size:
        raise LayoutError(f"{_name(type_)} takes {type_.size} bytes, not {len(value)}")
    return value


# --- structs and unions -----------------------------------------------------------------------------------------------


def _unpack_members(type_: btf.Struct | btf.Union, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for member in type_.members:
        if member.bit_size is not None:
            value: Any = _unpack_bits(member, data)
        else:
            value = btf_unpack(member.type, data[member.offset : member.offset + member.type.size])
        if member.name:
            found[member.name] = value
        elif isinstance(value, dict):
            found.update(value)
    return found


def _pack_members(type_: btf.Struct | btf.Union, value: Any) -> bytes:
    if isinstance(value, bytes):
        return _whole(type_, value)
    if not isinstance(value, dict):
        raise LayoutError(f"{value!r} is no dict for {_name(type_)}")
    if unknown := value.keys() - _member_names(type_):
        raise LayoutError(f"{_name(type_)} has no member {', '.join(sorted(map(str, unknown)))}")
    packed, written = bytearray(type_.size), bytearray(type_.size)
    for member in type_.members:
        given = _given(member, value)
        if given is None:
            continue
        if member.bit_size is not None:
            _pack_bits(member, given, packed)
            continue
        data = btf_pack(member.type, given)
        place = slice(member.offset, member.offset + len(data))
        if any(old != new for old, new, set_ in zip(packed[place], data, written[place], strict=True) if set_):
            raise LayoutError(f"members of {_name(type_)} that share their bytes do not agree: give one of them")
        packed[place], written[place] = data, b"\1" * len(data)
    return bytes(packed)


def _given(member: btf.Member, value: dict[str, Any]) -> Any:
    """What a dict has for a member; None if nothing. For a member without a name: what it has for its members."""
    if member.name:
        return value.get(member.name)
    inner = _stripped(member.type)
    if not isinstance(inner, btf.Struct | btf.Union):
        return None
    names = _member_names(inner)
    return {name: each for name, each in value.items() if name in names} or None


def _member_names(type_: btf.Struct | btf.Union) -> set[str]:
    names: set[str] = set()
    for member in type_.members:
        inner = _stripped(member.type)
        if member.name:
            names.add(member.name)
        elif isinstance(inner, btf.Struct | btf.Union):
            names |= _member_names(inner)
    return names


def _unpack_bits(member: btf.Member, data: bytes) -> int:
    shift, bits, place = _bit_place(member)
    number = int.from_bytes(data[place], sys.byteorder) >> shift & (1 << bits) - 1
    stripped = _stripped(member.type)
    signed = isinstance(stripped, btf.Int | btf.Enum) and stripped.signed
    return number - (1 << bits) if signed and number >> bits - 1 else number


def _pack_bits(member: btf.Member, value: Any, packed: bytearray) -> None:
    shift, bits, place = _bit_place(member)
    if not isinstance(value, int) or not -(1 << bits - 1) <= value < 1 << bits:
        raise LayoutError(f"{value!r} does not fit {member.name}, a bit field of {bits} bits")
    room = len(packed[place])
    number = int.from_bytes(packed[place], sys.byteorder) & ~((1 << bits) - 1 << shift)
    packed[place] = (number | (value & (1 << bits) - 1) << shift).to_bytes(room, sys.byteorder)


def _bit_place(member: btf.Member) -> tuple[int, int, slice]:
    """How far a bit field is shifted in the bytes that it lies in, its size, and these bytes."""
    bits = member.bit_size or 0
    room = (member.bit_offset + bits + 7) // 8
    # Its first bit is the lowest on little-endian machines, the highest on others.
    shift = member.bit_offset if sys.byteorder == "little" else room * 8 - member.bit_offset - bits
    return shift, bits, slice(member.offset, member.offset + room)


def _stripped(type_: btf.Type) -> btf.Type:
    while isinstance(type_, btf.Typedef):
        type_ = type_.type
    return type_


def _name(type_: btf.Type) -> str:
    return getattr(type_, "name", "") or f"a type of {type_.size} bytes"
