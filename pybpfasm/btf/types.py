"""Types as BTF describes them (Documentation/bpf/btf.rst). Sizes and offsets are in bytes."""

import attrs


@attrs.frozen
class Int:
    """An integer."""

    name: str
    size: int
    signed: bool = False


@attrs.frozen
class Typedef:
    """Another name for a type."""

    name: str
    type: "Type"

    @property
    def size(self) -> int:
        """Size of the type it names."""
        return self.type.size


@attrs.frozen
class Array:
    """`count` elements of one type."""

    type: "Type"
    count: int

    @property
    def size(self) -> int:
        """Size of all elements."""
        return self.type.size * self.count


@attrs.frozen
class Member:
    """A field of a struct, `offset` bytes from its start."""

    name: str
    type: "Type"
    offset: int


@attrs.frozen
class Struct:
    """A struct with its members in order of their offsets."""

    name: str
    size: int
    members: tuple[Member, ...] = ()


@attrs.frozen
class Pointer:
    """A pointer: 8 bytes."""

    type: "Type"
    size: int = 8


Type = Int | Typedef | Array | Struct | Pointer


@attrs.frozen
class Parameter:
    """A function's parameter."""

    name: str
    type: Type


@attrs.frozen
class Function:
    """A function with its prototype; static, as the kernel wants the functions of one program."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: Type
