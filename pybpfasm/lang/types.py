"""The types of values: integers by width, integers in network byte order, structs.

They serve three readers alike: the type checker, the compiler, and Python code that packs and unpacks map entries.
"""

import ipaddress
import operator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, dataclass_transform, final, get_type_hints

import attrs

from pybpfasm import btf
from pybpfasm.errors import BpfError


class LayoutError(BpfError, TypeError):
    """A struct or a map that is declared with something that has no layout, or a value that does not fit it."""


@attrs.frozen
class IntType:
    """An integer of `bits` bits in host byte order."""

    bits: int
    signed: bool = False

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.bits // 8

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"


@attrs.frozen
class CharsType:
    """`size` bytes of text, filled up with zero bytes."""

    size: int

    def __str__(self) -> str:
        return f"char[{self.size}]"


@attrs.frozen
class NetworkType:
    """An integer of `bits` bits in network byte order."""

    bits: int

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.bits // 8

    def __str__(self) -> str:
        return f"be{self.bits}"


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


def ip4(address: str | ipaddress.IPv4Address) -> be32:
    """An IPv4 address in network byte order. In a program its argument is a constant."""
    return be32(ipaddress.IPv4Address(address).packed)


@attrs.frozen
class StructType:
    """A struct's layout, as C lays it out: natural alignment, padding is always zero."""

    name: str
    size: int
    alignment: int
    fields: tuple["Field", ...] = attrs.field(repr=False)

    def field(self, name: str) -> "Field | None":
        """The field called `name`, if there is one."""
        return next((field for field in self.fields if field.name == name), None)

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Field:
    """A struct's field, `offset` bytes from its start."""

    name: str
    type: "ValueType"
    offset: int
    default: Any = None
    required: bool = True


ValueType = IntType | NetworkType | CharsType | StructType


def value_type(annotation: Any) -> ValueType:
    """What an annotation says: an integer, a network-order integer, text, or a struct.

    Raises `LayoutError` for an annotation without a layout.
    """
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, IntType | CharsType):
            return extra
    if isinstance(annotation, type) and issubclass(annotation, _NetworkInteger):
        return NetworkType(annotation.bits)
    if isinstance(annotation, type) and issubclass(annotation, Struct) and annotation is not Struct:
        return annotation.__layout__
    hint = ": write u8, u16, u32 or u64" if annotation is int else ""
    raise LayoutError(f"{annotation!r} has no layout{hint}")


def _alignment(type_: ValueType) -> int:
    if isinstance(type_, StructType):
        return type_.alignment
    return 1 if isinstance(type_, CharsType) else type_.size


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


@dataclass_transform(kw_only_default=True)
class Struct:
    """Base of structs: `class Stat(Struct): connects: u64`.

    The annotations give the layout. An instance is made with keywords, all of them but those with a default;
    `bytes(x)` packs it and `from_bytes` unpacks it, host byte order except for be16 and be32.
    """

    __layout__: ClassVar[StructType]

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls, include_extras=True)
        fields: list[Field] = []
        offset, alignment = 0, 1
        for name, annotation in hints.items():
            if name == "__layout__":
                continue
            try:
                type_ = value_type(annotation)
            except LayoutError as error:
                raise LayoutError(f"{cls.__name__}.{name}: {error}") from None
            offset = _aligned(offset, _alignment(type_))
            default = getattr(cls, name, None)
            fields.append(Field(name, type_, offset, default, required=default is None))
            offset += type_.size
            alignment = max(alignment, _alignment(type_))
        cls.__layout__ = StructType(cls.__name__, _aligned(offset, alignment), alignment, tuple(fields))

    def __init__(self, **values: Any) -> None:
        for field in self.__layout__.fields:
            if field.name not in values and field.required:
                raise LayoutError(f"{type(self).__name__} lacks {field.name}")
            setattr(self, field.name, values.pop(field.name, field.default))
        if values:
            raise LayoutError(f"{type(self).__name__} has no {', '.join(sorted(values))}")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The struct that `data` holds; raises `LayoutError` if the length is another."""
        layout = cls.__layout__
        if len(data) != layout.size:
            raise LayoutError(f"{layout.name} takes {layout.size} bytes, not {len(data)}")
        hints = get_type_hints(cls, include_extras=True)
        return cls(
            **{
                field.name: unpack(hints[field.name], data[field.offset : field.offset + field.type.size])
                for field in layout.fields
            }
        )

    def __bytes__(self) -> bytes:
        hints = get_type_hints(type(self), include_extras=True)
        packed = bytearray(self.__layout__.size)
        for field in self.__layout__.fields:
            data = pack(hints[field.name], getattr(self, field.name))
            packed[field.offset : field.offset + field.type.size] = data
        return bytes(packed)

    if not TYPE_CHECKING:

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self) and bytes(other) == bytes(self)

        def __hash__(self) -> int:
            return hash(bytes(self))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in self.__layout__.fields)
        return f"{type(self).__name__}({fields})"


def pack(annotation: Any, value: Any) -> bytes:
    """A value as bytes, laid out as the annotation says; raises `LayoutError` if it does not fit."""
    type_ = value_type(annotation)
    match type_:
        case IntType():
            try:
                return operator.index(value).to_bytes(type_.size, "little", signed=type_.signed)
            except (OverflowError, TypeError):
                raise LayoutError(f"{value!r} does not fit {type_}") from None
        case CharsType():
            if not isinstance(value, bytes) or len(value) > type_.size:
                raise LayoutError(f"{value!r} does not fit {type_}")
            return value.ljust(type_.size, b"\0")
        case NetworkType():
            if not isinstance(value, _NetworkInteger) or value.bits != type_.bits:
                raise LayoutError(f"{value!r} is no {type_}")
            return value.packed
        case StructType():
            if not isinstance(value, Struct) or value.__layout__ != type_:
                raise LayoutError(f"{value!r} is no {type_.name}")
            return bytes(value)


def unpack(annotation: Any, data: bytes) -> Any:
    """The value that `data` holds; the inverse of `pack`."""
    type_ = value_type(annotation)
    match type_:
        case IntType():
            return int.from_bytes(data, "little", signed=type_.signed)
        case CharsType():
            return data.rstrip(b"\0")
        case NetworkType():
            return {16: be16, 32: be32, 64: be64}[type_.bits](data)
        case StructType():
            return annotation.from_bytes(data)


def btf_type(type_: ValueType) -> btf.Type:
    """The same type as BTF describes it, with the kernel's names."""
    match type_:
        case IntType():
            names = {8: "unsigned char", 16: "unsigned short", 32: "unsigned int", 64: "unsigned long long"}
            name = names[type_.bits].removeprefix("unsigned ") if type_.signed else names[type_.bits]
            prefix = "__s" if type_.signed else "__u"
            return btf.Typedef(f"{prefix}{type_.bits}", btf.Int(name, type_.size, type_.signed))
        case NetworkType():
            return btf.Typedef(f"__be{type_.bits}", btf_type(IntType(type_.bits)))
        case CharsType():
            return btf.Array(btf.Int("char", 1, signed=True), type_.size)
        case StructType():
            members = tuple(btf.Member(field.name, btf_type(field.type), field.offset) for field in type_.fields)
            return btf.Struct(type_.name, type_.size, members)
