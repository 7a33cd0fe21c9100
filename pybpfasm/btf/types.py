"""Types by value, as trees: what lies in memory, without ids (Documentation/bpf/btf.rst).

Sizes and offsets are in bytes. The records of a blob, which refer to each other by id, are in `kinds.py`.
"""

from __future__ import annotations

from pybpfasm.btf.value import Value


class Void(Value):
    """No type: what a `void *` points to."""

    @property
    def size(self) -> int:
        """Nothing: 0."""
        return 0


class Int(Value):
    """An integer; `boolean` marks C's bool."""

    name: str
    size: int
    signed: bool = False
    boolean: bool = False


class Float(Value):
    """A floating-point number."""

    name: str
    size: int


class Enumerator(Value):
    """A named number of an enum."""

    name: str
    value: int


class Enum(Value):
    """An enum: an integer whose values have names."""

    name: str
    size: int
    enumerators: tuple[Enumerator, ...]
    signed: bool = False


class Typedef(Value):
    """Another name for a type."""

    name: str
    type: Type

    @property
    def size(self) -> int:
        """Size of the type it names."""
        return self.type.size


class Array(Value):
    """`count` elements of one type."""

    type: Type
    count: int

    @property
    def size(self) -> int:
        """Size of all elements."""
        return self.type.size * self.count


class Member(Value):
    """A field of a struct or union, `offset` bytes from its start.

    A bit field has its size in `bit_size`; it starts `bit_offset` bits (less than 8) after that byte's first bit, which
    is the lowest on little-endian machines and the highest on big-endian ones.
    """

    name: str
    type: Type
    offset: int
    bit_offset: int = 0
    bit_size: int | None = None


class Struct(Value):
    """A struct with its members in order of their offsets."""

    name: str
    size: int
    members: tuple[Member, ...] = ()


class Union(Value):
    """A union: members that share their bytes."""

    name: str
    size: int
    members: tuple[Member, ...] = ()


class Forward(Value):
    """A struct or union of which only the name is known: what a pointer points to."""

    name: str
    union: bool = False

    @property
    def size(self) -> int:
        """Not known: 0."""
        return 0


class Pointer(Value):
    """A pointer: 8 bytes on 64-bit machines. `tag` is a type tag of what it points to."""

    type: Type
    size: int = 8
    tag: str = ""


Type = Void | Int | Float | Enum | Typedef | Array | Struct | Union | Forward | Pointer


class Parameter(Value):
    """A function's parameter."""

    name: str
    type: Type


class Function(Value):
    """A function with its prototype; static, as the kernel wants the functions of one program."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: Type
