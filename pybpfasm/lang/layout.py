"""How values lie in memory, as C lays them out on a little-endian machine: the types, and where each field goes."""

from collections.abc import Sequence
from typing import Any

from pybpfasm import btf
from pybpfasm.errors import BpfError
from pybpfasm.records import field, frozen


class LayoutError(BpfError, TypeError):
    """A struct or a map that is declared with something that has no layout, or a value that does not fit it."""


@frozen
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


@frozen
class NetworkType:
    """An integer of `bits` bits in network byte order."""

    bits: int

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.bits // 8

    def __str__(self) -> str:
        return f"be{self.bits}"


@frozen
class TextType:
    """`size` bytes of text, filled up with zero bytes."""

    size: int

    def __str__(self) -> str:
        return f"char[{self.size}]"


@frozen
class ArrayType:
    """`count` elements of one type, one behind the other."""

    element: "ValueType"
    count: int

    @property
    def size(self) -> int:
        """Size of all elements in bytes."""
        return self.element.size * self.count

    def __str__(self) -> str:
        return f"{self.element}[{self.count}]"


@frozen
class Length:
    """How long an array or a text is: `Annotated[list[u32], Length(4)]`, `Annotated[bytes, Length(16)]`."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise LayoutError(f"Length({self.count}): at least one element is wanted")


@frozen
class Bits:
    """A bit field of so many bits: `Annotated[u32, Bits(3)]`."""

    count: int


@frozen
class StructType:
    """A struct's or a union's layout; padding is always zero. The fields of a `union` share their bytes."""

    name: str
    size: int
    alignment: int
    fields: tuple["Field", ...] = field(repr=False)
    union: bool = False

    def field(self, name: str) -> "Field | None":
        """The field called `name`, if there is one."""
        return next((field for field in self.fields if field.name == name), None)

    def __str__(self) -> str:
        return self.name


@frozen
class Field:
    """A field, `offset` bytes from the start. Of a bit field these are the fewest bytes that can be loaded at once.

    `bits` is the width of a bit field, which begins `shift` bits above the lowest of the `unit` bytes at `offset`.
    """

    name: str
    type: "ValueType"
    offset: int
    default: Any = field(default=None, eq=False)
    required: bool = True
    bits: int | None = None
    shift: int = 0
    unit: int = 0
    annotation: Any = field(default=None, eq=False, repr=False)

    @property
    def size(self) -> int:
        """The bytes that hold it."""
        return self.type.size if self.bits is None else self.unit


@frozen
class KptrType:
    """A pointer to a struct of the kernel that a map holds; `declared` is the program's class for it."""

    struct: str
    declared: Any = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return 8

    def __str__(self) -> str:
        return f"Kptr[{self.struct}]"


ValueType = IntType | NetworkType | TextType | ArrayType | StructType | KptrType


@frozen
class Declared:
    """A field as it was declared."""

    name: str
    type: ValueType
    bits: int | None
    default: Any
    annotation: Any


def alignment_of(type_: ValueType) -> int:
    """What an address of the type is a multiple of."""
    match type_:
        case StructType(alignment=alignment):
            return alignment
        case ArrayType(element=element):
            return alignment_of(element)
        case TextType():
            return 1
        case _:
            return type_.size


def lay_out(
    name: str, declared: Sequence[Declared], *, union: bool = False, packed: bool = False, align: int | None = None
) -> StructType:
    """The layout of a struct or a union with these fields; raises `LayoutError` where there is none."""
    if align is not None and (align < 1 or align & (align - 1)):
        raise LayoutError(f"{name}: an alignment is a power of two, not {align}")
    fields: list[Field] = []
    position, alignment, end = 0, 1, 0
    for each in declared:
        if union:
            position = 0
        natural = 1 if packed else alignment_of(each.type)
        if each.bits is None:
            field, position = _whole(each, position, natural)
        else:
            field, position = _bit_field(name, each, position, packed=packed)
        fields.append(field)
        alignment, end = max(alignment, natural), max(end, position)
    alignment = max(alignment, align or 1)
    return StructType(name, aligned(-(-end // 8), alignment), alignment, tuple(fields), union)


def aligned(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` from `offset` on."""
    return -(-offset // alignment) * alignment


def _whole(declared: Declared, position: int, alignment: int) -> tuple[Field, int]:
    """A field of whole bytes; positions count bits."""
    offset = aligned(-(-position // 8), alignment)
    required = declared.default is None
    field = Field(
        declared.name, declared.type, offset, declared.default, required=required, annotation=declared.annotation
    )
    return field, (offset + declared.type.size) * 8


def _bit_field(name: str, declared: Declared, position: int, *, packed: bool) -> tuple[Field, int]:
    """A field of some bits, which lie in one unit of the declared type (System V ABI, "Bit-Fields")."""
    bits, type_ = declared.bits, declared.type
    if packed:
        raise LayoutError(f"{name}.{declared.name}: a packed struct has no bit fields here: mask and shift a number")
    if not isinstance(type_, IntType) or bits is None or not 1 <= bits <= type_.bits:
        raise LayoutError(f"{name}.{declared.name}: {type_} has no bit field of {bits} bits")
    if position // type_.bits != (position + bits - 1) // type_.bits:
        position = aligned(position, type_.bits)
    unit = next(size for size in (1, 2, 4, 8) if position // (8 * size) == (position + bits - 1) // (8 * size))
    offset, shift = position // (8 * unit) * unit, position % (8 * unit)
    field = Field(
        declared.name,
        type_,
        offset,
        declared.default,
        declared.default is None,
        bits,
        shift,
        unit,
        declared.annotation,
    )
    return field, position + bits


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
        case TextType():
            return btf.Array(btf.Int("char", 1, signed=True), type_.size)
        case ArrayType(element=element, count=count):
            return btf.Array(btf_type(element), count)
        case KptrType():
            return btf.Pointer(btf.Struct(type_.struct, 0), tag="kptr")
        case StructType():
            kind = btf.Union if type_.union else btf.Struct
            return kind(type_.name, type_.size, tuple(map(_member, type_.fields)))


def _member(field: Field) -> btf.Member:
    if field.bits is None:
        return btf.Member(field.name, btf_type(field.type), field.offset)
    place = field.offset * 8 + field.shift
    return btf.Member(field.name, btf_type(field.type), place // 8, place % 8, field.bits)
