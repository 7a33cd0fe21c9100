"""The types of values: integers by width, integers in network byte order, structs.

They serve three readers alike: the type checker, the compiler, and Python code that packs and unpacks map entries.
"""

import operator
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Self,
    dataclass_transform,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from pybpfasm.lang.layout import (
    ArrayType,
    Bits,
    Declared,
    Field,
    IntType,
    KptrType,
    LayoutError,
    Length,
    NetworkType,
    StructType,
    TextType,
    ValueType,
    btf_type,
    lay_out,
)

if TYPE_CHECKING:
    from ipaddress import IPv4Address

__all__ = [
    "ArrayType",
    "Bits",
    "Field",
    "IntType",
    "KptrType",
    "LayoutError",
    "Length",
    "NetworkType",
    "Record",
    "Struct",
    "StructType",
    "TextType",
    "Union",
    "ValueType",
    "be16",
    "be32",
    "be64",
    "btf_type",
    "htonl",
    "htonll",
    "htons",
    "i8",
    "i16",
    "i32",
    "i64",
    "ip4",
    "is_record",
    "limits_of",
    "ntohl",
    "ntohll",
    "ntohs",
    "pack",
    "u8",
    "u16",
    "u32",
    "u64",
    "unpack",
    "value_type",
]


u8 = Annotated[int, IntType(8)]
u16 = Annotated[int, IntType(16)]
u32 = Annotated[int, IntType(32)]
u64 = Annotated[int, IntType(64)]
i8 = Annotated[int, IntType(8, signed=True)]
i16 = Annotated[int, IntType(16, signed=True)]
i32 = Annotated[int, IntType(32, signed=True)]
i64 = Annotated[int, IntType(64, signed=True)]


class _NetworkInteger:
    """Bytes in network order. It has no arithmetic, and it equals only its own kind."""

    __slots__ = ("packed",)
    bits: ClassVar[int]

    def __init__(self, packed: bytes) -> None:
        if len(packed) * 8 != self.bits:
            raise LayoutError(f"{type(self).__name__} takes {self.bits // 8} bytes, not {len(packed)}")
        self.packed = packed

    # Hidden from the type checker: with an __eq__ of its own it would let a comparison with an int pass.
    if not TYPE_CHECKING:

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self) and other.packed == self.packed

        def __hash__(self) -> int:
            return hash(self.packed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.packed!r})"


@final
class be16(_NetworkInteger):  # noqa: N801 - named as the kernel names it
    """A 16-bit integer in network byte order, such as a port; see `htons` and `ntohs`."""

    __slots__ = ()
    bits = 16


@final
class be32(_NetworkInteger):  # noqa: N801 - named as the kernel names it
    """A 32-bit integer in network byte order, such as an IPv4 address; see `htonl`, `ntohl` and `ip4`."""

    __slots__ = ()
    bits = 32


@final
class be64(_NetworkInteger):  # noqa: N801 - likewise
    """A 64-bit integer in network byte order; see `htonll` and `ntohll`."""

    __slots__ = ()
    bits = 64


def htons(value: int) -> be16:
    """A 16-bit integer to network byte order."""
    return be16((value & 0xFFFF).to_bytes(2, "big"))


def ntohs(value: be16) -> int:
    """A 16-bit integer from network byte order."""
    return int.from_bytes(value.packed, "big")


def htonl(value: int) -> be32:
    """A 32-bit integer to network byte order."""
    return be32((value & 0xFFFFFFFF).to_bytes(4, "big"))


def ntohl(value: be32) -> int:
    """A 32-bit integer from network byte order."""
    return int.from_bytes(value.packed, "big")


def htonll(value: int) -> be64:
    """A 64-bit integer to network byte order."""
    return be64((value & (1 << 64) - 1).to_bytes(8, "big"))


def ntohll(value: be64) -> int:
    """A 64-bit integer from network byte order."""
    return int.from_bytes(value.packed, "big")


def ip4(address: "str | IPv4Address") -> be32:
    """An IPv4 address in network byte order. In a program its argument is a constant."""
    from ipaddress import IPv4Address

    return be32(IPv4Address(address).packed)


def value_type(annotation: Any) -> ValueType:
    """What an annotation says: a number, a number in network order, text, an array, a struct or a union.

    Raises `LayoutError` for an annotation without a layout.
    """
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, IntType):
            return extra
        if hasattr(extra, "__metadata__"):
            return value_type(extra)
        if isinstance(extra, Length):
            return _sequence_type(annotation.__origin__, extra.count)
    if isinstance(annotation, type) and issubclass(annotation, _NetworkInteger):
        return NetworkType(annotation.bits)
    if is_record(annotation):
        return annotation.__layout__  # type: ignore[no-any-return]  # what records have
    layout_of = getattr(get_origin(annotation), "__layout_of__", None)
    if layout_of is not None:
        return layout_of(annotation)  # type: ignore[no-any-return]  # what such classes have
    raise LayoutError(f"{annotation!r} has no layout{_hint(annotation)}")


def _sequence_type(annotation: Any, count: int) -> ValueType:
    if annotation is bytes:
        return TextType(count)
    if get_origin(annotation) is list:
        return ArrayType(value_type(get_args(annotation)[0]), count)
    raise LayoutError(f"Length goes with bytes and list[…], not with {annotation!r}")


def _hint(annotation: Any) -> str:
    if annotation is int:
        return ": write u8, u16, u32 or u64"
    if isinstance(annotation, type) and issubclass(annotation, int):
        return f": say how wide it is, Annotated[{annotation.__name__}, u32]"
    if annotation is bytes or get_origin(annotation) is list:
        return ": say how long it is, Annotated[…, Length(16)]"
    return ""


def is_record(annotation: Any) -> bool:
    """Whether an object is a struct's or a union's class."""
    return isinstance(annotation, type) and issubclass(annotation, Record) and "__layout__" in vars(annotation)


class Record:
    """What structs and unions have in common: a layout, packing and unpacking."""

    __layout__: ClassVar[StructType]

    def __init__(self, **values: Any) -> None:
        raise LayoutError(f"{type(self).__name__} is no struct: derive from Struct or Union")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The struct that `data` holds; raises `LayoutError` if the length is another."""
        layout = cls.__layout__
        if len(data) != layout.size:
            raise LayoutError(f"{layout.name} takes {layout.size} bytes, not {len(data)}")
        return cls._from_fields({field.name: _unpack_field(field, data) for field in layout.fields}, data)

    @classmethod
    def _from_fields(cls, values: dict[str, Any], data: bytes) -> Self:
        del data
        return cls(**values)

    def __bytes__(self) -> bytes:
        packed = 0
        for field in self.__layout__.fields:
            packed |= _pack_field(field, getattr(self, field.name))
        return packed.to_bytes(self.__layout__.size, "little")

    if not TYPE_CHECKING:

        def __eq__(self, other: object) -> bool:
            if type(other) is not type(self):
                return False
            # Equal fields give equal bytes, and are quicker to compare.
            return other is self or vars(other) == vars(self) or bytes(other) == bytes(self)

        def __hash__(self) -> int:
            return hash(bytes(self))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in self.__layout__.fields)
        return f"{type(self).__name__}({fields})"


@dataclass_transform(kw_only_default=True)
class Struct(Record):
    """Base of structs: `class Stat(Struct): connects: u64`.

    The annotations give the layout. An instance is made with keywords, all of them but those with a default;
    `bytes(x)` packs it and `from_bytes` unpacks it, host byte order except for be16, be32 and be64. With `packed=True`
    there is no padding, with `align=64` an address is a multiple of that; `name` is what the kernel calls it.
    """

    def __init_subclass__(cls, *, packed: bool = False, align: int | None = None, name: str | None = None) -> None:
        cls.__layout__ = lay_out(name or cls.__name__, _declared(cls), packed=packed, align=align)

    def __init__(self, **values: Any) -> None:
        for field in self.__layout__.fields:
            if field.name not in values and field.required:
                raise LayoutError(f"{type(self).__name__} lacks {field.name}")
            setattr(self, field.name, values.pop(field.name, field.default))
        if values:
            raise LayoutError(f"{type(self).__name__} has no {', '.join(sorted(values))}")


class Union(Record):
    """Base of unions: `class Address(Union): ip4: be32; words: Annotated[list[u32], Length(4)]`.

    The fields share their bytes. An instance is made with one of them, by its name; the rest of the bytes is zero.
    """

    def __init_subclass__(cls) -> None:
        cls.__layout__ = lay_out(cls.__name__, _declared(cls), union=True)

    def __init__(self, **values: Any) -> None:
        if len(values) != 1:
            raise LayoutError(f"{type(self).__name__} is made with exactly one of its fields")
        for name, value in values.items():
            setattr(self, name, value)

    @classmethod
    def _from_fields(cls, values: dict[str, Any], data: bytes) -> Self:
        made = cls.__new__(cls)
        made.__dict__.update(values, _data=data)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        field = self.__layout__.field(name)
        if field is None:
            raise LayoutError(f"{type(self).__name__} has no {name}")
        kept = int.from_bytes(self.__dict__.get("_data", b""), "little") & ~(_mask(field) << field.offset * 8)
        data = (kept | _pack_field(field, value)).to_bytes(self.__layout__.size, "little")
        self.__dict__.update({each.name: _unpack_field(each, data) for each in self.__layout__.fields}, _data=data)

    def __bytes__(self) -> bytes:
        return bytes(self.__dict__["_data"])


def _declared(cls: type[Record]) -> list[Declared]:
    """The fields of a class, in their order."""
    found: list[Declared] = []
    for name, annotation in _annotations(cls).items():
        if get_origin(annotation) is ClassVar:
            continue
        try:
            type_ = value_type(annotation)
        except LayoutError as error:
            raise LayoutError(f"{cls.__name__}.{name}: {error}") from None
        bits = next((each.count for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Bits)), None)
        found.append(Declared(name, type_, bits, getattr(cls, name, None), annotation))
    return found


def _annotations(cls: type) -> dict[str, Any]:
    """Those of a class and its bases; typing's way, which costs ten times as much, is for those that are text."""
    found: dict[str, Any] = {}
    for each in reversed(cls.__mro__):
        found.update(each.__dict__.get("__annotations__", {}))  # noqa: RUF063 - inspect is slow to import
    if any(isinstance(annotation, str) for annotation in found.values()):
        return get_type_hints(cls, include_extras=True)
    return found


def _mask(field: Field) -> int:
    """The bits of a field, counted from the lowest of the byte at its offset."""
    return (1 << field.type.size * 8) - 1 if field.bits is None else ((1 << field.bits) - 1) << field.shift


def _pack_field(field: Field, value: Any) -> int:
    """The field's bits, where the whole struct is one number."""
    if field.bits is None:
        return int.from_bytes(pack(field.annotation, value), "little") << field.offset * 8
    assert isinstance(field.type, IntType)  # noqa: S101 - lay_out has seen to it
    lowest, highest = limits_of(field.bits, signed=field.type.signed)
    number = operator.index(value)
    if not lowest <= number <= highest:
        raise LayoutError(f"{number} does not fit {field.bits} bits of {field.type}")
    return (number & (1 << field.bits) - 1) << field.offset * 8 + field.shift


def _unpack_field(field: Field, data: bytes) -> Any:
    if field.bits is None:
        return unpack(field.annotation, data[field.offset : field.offset + field.type.size])
    assert isinstance(field.type, IntType)  # noqa: S101 - likewise
    number = int.from_bytes(data, "little") >> field.offset * 8 + field.shift & (1 << field.bits) - 1
    return number - (1 << field.bits) if field.type.signed and number >> field.bits - 1 else number


def limits_of(bits: int, *, signed: bool) -> tuple[int, int]:
    """The lowest and the highest number of so many bits."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def pack(annotation: Any, value: Any) -> bytes:
    """A value as bytes, laid out as the annotation says; raises `LayoutError` if it does not fit."""
    type_ = value_type(annotation)
    match type_:
        case IntType():
            try:
                return operator.index(value).to_bytes(type_.size, "little", signed=type_.signed)
            except (OverflowError, TypeError):
                raise LayoutError(f"{value!r} does not fit {type_}") from None
        case TextType():
            if not isinstance(value, bytes) or len(value) > type_.size:
                raise LayoutError(f"{value!r} does not fit {type_}")
            return value.ljust(type_.size, b"\0")
        case NetworkType():
            if not isinstance(value, _NetworkInteger) or value.bits != type_.bits:
                raise LayoutError(f"{value!r} is no {type_}")
            return value.packed
        case ArrayType(count=count):
            if not isinstance(value, list | tuple) or len(value) != count:
                raise LayoutError(f"{value!r} is no list of {count}")
            element = get_args(annotation.__origin__)[0]
            return b"".join(pack(element, each) for each in value)
        case KptrType():
            if value not in (0, None) and not hasattr(type(value), "__layout_of__"):
                raise LayoutError(f"{value!r} is no {type_}: it is empty until a program has put a pointer there")
            return bytes(8)
        case StructType():
            if not isinstance(value, Record) or value.__layout__ != type_:
                raise LayoutError(f"{value!r} is no {type_.name}")
            return bytes(value)


def unpack(annotation: Any, data: bytes) -> Any:
    """The value that `data` holds; the inverse of `pack`."""
    type_ = value_type(annotation)
    match type_:
        case IntType():
            return int.from_bytes(data, "little", signed=type_.signed)
        case TextType():
            return data.rstrip(b"\0")
        case NetworkType():
            return {16: be16, 32: be32, 64: be64}[type_.bits](data)
        case ArrayType(element=element):
            inner = get_args(annotation.__origin__)[0]
            return [unpack(inner, data[at : at + element.size]) for at in range(0, len(data), element.size)]
        case KptrType():
            return int.from_bytes(data, "little")
        case StructType():
            return annotation.from_bytes(data)
