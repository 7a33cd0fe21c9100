"""From Python values to the bytes of keys and values, and back.

What a key or a value is, is said by the types of `pybpfasm.lang`: `u32`, `be16`, a `Struct` class; by `bytes` and
`int`, of the map's size; by the address classes of `ipaddress`; or by a BTF type.
"""

import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from operator import attrgetter
from typing import Any, SupportsIndex

from pybpfasm import btf
from pybpfasm.kernel.maps.btf_values import btf_pack, btf_unpack
from pybpfasm.kernel.maps.calls import Data
from pybpfasm.kernel.maps.cpus import possible_cpus
from pybpfasm.lang.types import IntType, LayoutError, Struct, pack, unpack, value_type
from pybpfasm.records import evolve, frozen

# Types of a single integer, by size in bytes, as the struct module calls them.
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


@frozen
class Codec:
    """Packs one kind of value into `size` bytes, and unpacks it; many at once, one behind the other, too.

    `pack` raises `LayoutError` for a value that does not fit.
    """

    size: int
    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]
    pack_all: Callable[[Sequence[Any]], bytes]
    unpack_all: Callable[[bytes], Sequence[Any]]

    def naming(self, what: str) -> "Codec":
        """The same codec, whose errors say of what the value was to be: `key of map stats: 'x' does not fit u32`."""
        return evolve(self, pack=_naming(self.pack, what), pack_all=_naming(self.pack_all, what))


def _naming(packing: Callable[[Any], bytes], what: str) -> Callable[[Any], bytes]:
    def named(value: Any) -> bytes:
        try:
            return packing(value)
        except LayoutError as error:
            raise LayoutError(f"{what}: {error}") from None

    return named


def codec_of(annotation: Any, size: int) -> Codec:
    """The codec for what `annotation` says, in a map whose keys or values have `size` bytes.

    Raises `LayoutError` for an annotation without a layout, or with one of another size.
    """
    made = _codec(annotation, size)
    if made.size != size:
        name = getattr(annotation, "__name__", annotation)
        raise LayoutError(f"{name} has {made.size} bytes, and the map {size}")
    return made


def references(size: int, *, signed: bool = False) -> Codec:
    """Values that are descriptors when written and ids or cookies when read.

    Written is a number, or what has a `fileno()`: a program, a map, a socket. It has 4 bytes, in values of 8 zeros
    follow.
    """
    number = _integers("i" if signed else _UNSIGNED[size], size)
    return evolve(number, pack=lambda value: number.pack(_descriptor(value)), pack_all=_joined(_packing(number)))


def per_cpu(codec: Codec) -> Codec:
    """Lists of values, one a CPU, each at a multiple of 8 bytes."""
    stride = -(-codec.size // 8) * 8

    def pack_list(values: Sequence[Any]) -> bytes:
        if not isinstance(values, list | tuple) or len(values) != possible_cpus():
            raise LayoutError(f"{values!r} is no list of a value for each of {possible_cpus()} CPUs")
        return b"".join(codec.pack(value).ljust(stride, b"\0") for value in values)

    def unpack_list(data: bytes) -> list[Any]:
        return [codec.unpack(data[at : at + codec.size]) for at in range(0, len(data), stride)]

    return _codec_from(stride, pack_list, unpack_list)


def _codec(annotation: Any, size: int) -> Codec:
    if annotation is bytes:
        return _bytes(size)
    if annotation is int:
        if size not in _UNSIGNED:
            raise LayoutError(f"no integer has {size} bytes: name the type")
        return _integers(_UNSIGNED[size], size)
    if isinstance(annotation, type) and annotation in _ADDRESSES:
        return _ADDRESSES[annotation]
    if isinstance(annotation, btf.Type):
        return _btf(annotation)
    return _declared(annotation)


def _codec_from(size: int, packing: Callable[[Any], bytes], unpacking: Callable[[bytes], Any]) -> Codec:
    def unpack_all(data: bytes) -> list[Any]:
        return [unpacking(piece) for (piece,) in struct.iter_unpack(f"{size}s", data)]

    return Codec(size, packing, unpacking, _joined(packing), unpack_all)


def _joined(packing: Callable[[Any], bytes]) -> Callable[[Iterable[Any]], bytes]:
    return lambda values: b"".join(map(packing, values))


# --- bytes and integers -----------------------------------------------------------------------------------------------


def _bytes(size: int) -> Codec:
    def check(value: Any) -> bytes:
        if not isinstance(value, Data) or memoryview(value).nbytes != size:
            raise LayoutError(f"{value!r} is no {size} bytes")
        return bytes(value)

    return _codec_from(size, check, bytes)


def _integers(code: str, size: int) -> Codec:
    one = struct.Struct(f"={code}")
    kind = IntType(size * 8, code.islower())

    def packing(value: SupportsIndex) -> bytes:
        try:
            return one.pack(value)
        except struct.error:
            raise LayoutError(f"{value!r} does not fit {kind}") from None

    def packing_all(values: Sequence[SupportsIndex]) -> bytes:
        try:
            return struct.pack(f"={len(values)}{code}", *values)
        except struct.error:
            return b"".join(map(packing, values))  # which says what does not fit

    def unpacking(data: bytes) -> int:
        number: int = one.unpack(data)[0]
        return number

    def unpacking_all(data: bytes) -> Sequence[int]:
        return struct.unpack(f"={len(data) // size}{code}", data)

    return Codec(size, packing, unpacking, packing_all, unpacking_all)


def _descriptor(value: Any) -> int:
    try:
        found: int = value.fileno()
    except AttributeError:
        return value  # type: ignore[no-any-return]  # packing it says what is wrong with it
    return found


def _packing(number: Codec) -> Callable[[Any], bytes]:
    return lambda value: number.pack(_descriptor(value))


# --- addresses --------------------------------------------------------------------------------------------------------


def _address(kind: type[IPv4Address] | type[IPv6Address], size: int) -> Codec:
    def packing(value: Any) -> bytes:
        if not isinstance(value, kind):
            raise LayoutError(f"{value!r} is no {kind.__name__}")
        return value.packed

    return _codec_from(size, packing, kind)


def _prefix(
    kind: type[IPv4Network] | type[IPv6Network], address: type[IPv4Address] | type[IPv6Address], size: int
) -> Codec:
    """Keys of a prefix trie: struct bpf_lpm_trie_key. An address is a prefix of all its bits."""

    def packing(value: Any) -> bytes:
        if isinstance(value, address):
            return struct.pack("=I", size * 8) + value.packed
        if not isinstance(value, kind):
            raise LayoutError(f"{value!r} is no {kind.__name__} and no {address.__name__}")
        return struct.pack("=I", value.prefixlen) + value.network_address.packed

    def unpacking(data: bytes) -> Any:
        (bits,) = struct.unpack_from("=I", data)
        return kind((data[4:], bits), strict=False)

    return _codec_from(4 + size, packing, unpacking)


_ADDRESSES: dict[type, Codec] = {
    IPv4Address: _address(IPv4Address, 4),
    IPv6Address: _address(IPv6Address, 16),
    IPv4Network: _prefix(IPv4Network, IPv4Address, 4),
    IPv6Network: _prefix(IPv6Network, IPv6Address, 16),
}


# --- the language's types ---------------------------------------------------------------------------------------------


def _declared(annotation: Any) -> Codec:
    type_ = value_type(annotation)
    if isinstance(type_, IntType) and type_.size in _UNSIGNED and sys.byteorder == "little":
        code = _UNSIGNED[type_.size]
        return _integers(code.lower() if type_.signed else code, type_.size)
    if isinstance(annotation, type) and issubclass(annotation, Struct) and _is_plain(annotation):
        return _struct(annotation)
    return _codec_from(type_.size, lambda value: pack(annotation, value), lambda data: unpack(annotation, data))


def _is_plain(declared: type[Struct]) -> bool:
    """Whether one format can say it all."""
    return declared.__init__ is Struct.__init__ and all(field.bits is None for field in declared.__layout__.fields)


def _struct(declared: type[Struct]) -> Codec:
    """A struct by one format for all its fields; fields that are no plain integers have a codec of their own.

    What is odd about a value is left to `pack`, which says it in words.
    """
    layout = declared.__layout__
    names = [field.name for field in layout.fields]
    code, inner = _format(declared)
    whole = struct.Struct(code)
    fields_of = attrgetter(*names) if len(names) > 1 else None

    def packing(value: Any) -> bytes:
        if type(value) is not declared:
            return pack(declared, value)
        try:
            fields = list(fields_of(value)) if fields_of else [getattr(value, name) for name in names]
            for index, codec in inner:
                fields[index] = codec.pack(fields[index])
            return whole.pack(*fields)
        except (struct.error, LayoutError, TypeError):
            return pack(declared, value)

    def unpacking(data: bytes) -> Struct:
        fields = list(whole.unpack(data))
        for index, codec in inner:
            fields[index] = codec.unpack(fields[index])
        made = object.__new__(declared)
        for name, field in zip(names, fields, strict=True):
            setattr(made, name, field)
        return made

    return _codec_from(layout.size, packing, unpacking)


def _format(declared: type[Struct]) -> tuple[str, list[tuple[int, Codec]]]:
    """The struct module's format of a struct, and the codecs of the fields that it hands over as bytes."""
    from typing import get_type_hints  # annotations of nested classes, as the struct itself reads them

    hints = get_type_hints(declared, include_extras=True)
    code, at, inner = "<", 0, []
    for index, field in enumerate(declared.__layout__.fields):
        size = field.type.size
        code += "x" * (field.offset - at)
        if isinstance(field.type, IntType) and size in _UNSIGNED:
            letter = _UNSIGNED[size]
            code += letter.lower() if field.type.signed else letter
        else:
            code += f"{size}s"
            inner.append((index, _declared(hints[field.name])))
        at = field.offset + size
    return code + "x" * (declared.__layout__.size - at), inner


def _btf(type_: btf.Type) -> Codec:
    stripped = type_
    while isinstance(stripped, btf.Typedef):
        stripped = stripped.type
    if isinstance(stripped, btf.Int) and stripped.size in _UNSIGNED and not stripped.boolean:
        code = _UNSIGNED[stripped.size]
        return _integers(code.lower() if stripped.signed else code, stripped.size)
    return _codec_from(type_.size, lambda value: btf_pack(type_, value), lambda data: btf_unpack(type_, data))
