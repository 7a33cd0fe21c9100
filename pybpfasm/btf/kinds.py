"""The records of a blob, one class a kind. They refer to each other by id; void is id 0.

A record is a row of 32-bit words, in the blob's byte order (include/uapi/linux/btf.h):

    word 0: name    word 1: info                                word 2: size or type
    +-------------+ +-----------+---------------+-------------+ +-------------+
    | offset into | | kind_flag | kind          | count       | | bytes, or   | ... more words, as the kind says
    | the strings | | bit 31    | bits 30 to 24 | bits 23 to 0| | a type's id |
    +-------------+ +-----------+---------------+-------------+ +-------------+

    kind            word 2   count          more words
    INT             size     -              encoding (bits 27-24), bit offset (23-16), bits (7-0)
    PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
                    type     -              -
    ARRAY           0        -              element's type, index's type, number of elements
    STRUCT, UNION   size     members        a member: name, type, offset in bits; with kind_flag the offset word holds
                                            the bit field's size (31-24, 0: none) and the offset (23-0)
    ENUM            size     enumerators    an enumerator: name, value; signed with kind_flag
    ENUM64          size     enumerators    an enumerator: name, low half, high half; signed with kind_flag
    FWD             0        -              -; a union with kind_flag
    FUNC            type     the linkage    -
    FUNC_PROTO      returned parameters     a parameter: name, type; a last one of void means "..."
    VAR             type     -              linkage
    DATASEC         size     variables      a variable: type, offset, size
    FLOAT           size     -              -
    DECL_TAG        type     -              component, -1 for the whole

Before Linux 7.1 the kernel takes a count of 16 bits and a kind of 5; the other bits of the word have to be zero there.
"""

from __future__ import annotations

from enum import IntEnum

from pybpfasm.btf.value import Value


class Kind(IntEnum):
    """What a record describes."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


class Linkage(IntEnum):
    """Where a function or variable is visible: BTF_FUNC_* and BTF_VAR_*, which have the same numbers."""

    STATIC = 0
    GLOBAL = 1
    EXTERN = 2


class Void(Value):
    """No type: id 0, which has no record."""

    kind = Kind.VOID


class Int(Value):
    """An integer of `size` bytes, of which `bits` are used from bit `offset` on (less than all: an old bit field)."""

    name: str
    size: int
    bits: int
    signed: bool = False
    char: bool = False
    boolean: bool = False
    offset: int = 0
    kind = Kind.INT


class Ptr(Value):
    """A pointer."""

    type_id: int
    kind = Kind.PTR


class Array(Value):
    """`count` elements; `index_type_id` is an integer type and says nothing about the layout."""

    type_id: int
    index_type_id: int
    count: int
    kind = Kind.ARRAY


class Member(Value):
    """A field of a struct or union. Offset and size are in bits; `bit_size` is None unless it is a bit field."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int | None = None


class Struct(Value):
    """A struct of `size` bytes. Bit fields need `kind_flag`, which leaves 24 bits for offsets."""

    name: str
    size: int
    members: tuple[Member, ...] = ()
    kind_flag: bool = False
    kind = Kind.STRUCT


class Union(Value):
    """A union of `size` bytes; for the rest like `Struct`."""

    name: str
    size: int
    members: tuple[Member, ...] = ()
    kind_flag: bool = False
    kind = Kind.UNION


class Enumerator(Value):
    """A named number of an enum."""

    name: str
    value: int


class Enum(Value):
    """An enum of `size` bytes whose values have 32 bits. Before Linux 6.0 all values are given as unsigned."""

    name: str
    size: int
    enumerators: tuple[Enumerator, ...] = ()
    signed: bool = False
    kind = Kind.ENUM


class Enum64(Value):
    """An enum of `size` bytes whose values have 64 bits (Linux 6.0)."""

    name: str
    size: int
    enumerators: tuple[Enumerator, ...] = ()
    signed: bool = False
    kind = Kind.ENUM64


class Fwd(Value):
    """A struct or union of which only the name is known."""

    name: str
    union: bool = False
    kind = Kind.FWD


class Typedef(Value):
    """Another name for a type."""

    name: str
    type_id: int
    kind = Kind.TYPEDEF


class Volatile(Value):
    """`volatile`."""

    type_id: int
    kind = Kind.VOLATILE


class Const(Value):
    """`const`."""

    type_id: int
    kind = Kind.CONST


class Restrict(Value):
    """`restrict`."""

    type_id: int
    kind = Kind.RESTRICT


class Func(Value):
    """A function; `type_id` is its `FuncProto`."""

    name: str
    type_id: int
    linkage: Linkage = Linkage.STATIC
    kind = Kind.FUNC


class Parameter(Value):
    """A function's parameter; the last is of void where the function takes any number of further ones."""

    name: str
    type_id: int


class FuncProto(Value):
    """What a function takes and returns."""

    return_type_id: int
    parameters: tuple[Parameter, ...] = ()
    kind = Kind.FUNC_PROTO


class Var(Value):
    """A global variable."""

    name: str
    type_id: int
    linkage: Linkage = Linkage.STATIC
    kind = Kind.VAR


class SectionVariable(Value):
    """A variable's place in an ELF section: the id of its `Var`, offset and size in bytes."""

    type_id: int
    offset: int
    size: int


class DataSec(Value):
    """An ELF section of `size` bytes and its variables."""

    name: str
    size: int
    variables: tuple[SectionVariable, ...] = ()
    kind = Kind.DATASEC


class Float(Value):
    """A floating-point number of `size` bytes."""

    name: str
    size: int
    kind = Kind.FLOAT


class DeclTag(Value):
    """`btf_decl_tag("name")` at a declaration: of its `component`-th member or parameter, or of the whole (-1).

    With `attribute` the name is any attribute of the compiler (Linux 6.15).
    """

    name: str
    type_id: int
    component: int = -1
    attribute: bool = False
    kind = Kind.DECL_TAG


class TypeTag(Value):
    """`btf_type_tag("name")` at a type; with `attribute` the name is any attribute of the compiler (Linux 6.15)."""

    name: str
    type_id: int
    attribute: bool = False
    kind = Kind.TYPE_TAG


class Other(Value):
    """A kind newer than this library: its words as they are. The blob's layout section told their number."""

    number: int
    name: str
    size_or_type: int
    count: int
    kind_flag: bool
    words: tuple[int, ...]
    kind = None


Record = (
    Void
    | Int
    | Ptr
    | Array
    | Struct
    | Union
    | Enum
    | Fwd
    | Typedef
    | Volatile
    | Const
    | Restrict
    | Func
    | FuncProto
    | Var
    | DataSec
    | Float
    | DeclTag
    | TypeTag
    | Enum64
    | Other
)
