"""What an expression can be while a program is compiled: a constant, a number, an address, a place in memory."""

import sys
from collections.abc import Sized
from typing import Any

from pybpfasm.ir.operations import Base, Number
from pybpfasm.ir.types import Kind
from pybpfasm.lang.contexts import Context
from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.types import IntType, NetworkType, StructType, ValueType, be16, be32, be64
from pybpfasm.records import field, frozen

# The two kinds of integer that expressions compute with: 64 bits, unsigned or signed. Narrower ones live in memory.
UNSIGNED = IntType(64)
SIGNED = IntType(64, signed=True)


# So many bits a message shows in digits.
_LONGEST_SHOWN = 128


@frozen
class BoolType:
    """True or False, as 1 or 0."""

    def __str__(self) -> str:
        return "bool"


BOOL = BoolType()

ScalarType = IntType | NetworkType | BoolType


@frozen
class KernelType:
    """A struct of the kernel, as the program declares it."""

    declared: type[KernelStruct]

    @property
    def name(self) -> str:
        """What the kernel calls it."""
        return self.declared.kernel_name


@frozen
class MapTarget:
    """A map that was found in a map; `declaration` is one like it."""

    declaration: Any

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self.declaration).__name__


PointerTarget = StructType | type[Context] | KernelType | MapTarget


@frozen
class Constant:
    """A Python object known at compile time: a number, a map, a function, a module…"""

    value: Any


@frozen
class Scalar:
    """A number. A network-order number has its bytes in memory order, the upper bits are zero.

    `limit` is the highest that an unsigned one can be, where that is known; `seen`: the verifier finds it, too.
    """

    operand: Number
    type: ScalarType
    limit: int | None = field(default=None, eq=False)
    seen: bool = field(default=True, eq=False)


@frozen
class Pointer:
    """An address of a context, a socket or a struct, or 0, which is None. Nullable until compared with None."""

    operand: Number
    target: PointerTarget
    nullable: bool = False
    kind: Kind = Kind.MEMORY

    @property
    def is_struct(self) -> bool:
        """Whether it points to a struct, and not to a context."""
        return isinstance(self.target, StructType)


@frozen
class KernelPlace:
    """A struct that lies in another one of the kernel's, `offset` bytes behind a pointer."""

    pointer: Pointer
    offset: int
    target: KernelType


@frozen
class BitField:
    """Some bits of a number: `count` of them, `shift` above the lowest of `unit` bytes."""

    count: int
    shift: int
    unit: int


@frozen
class Place:
    """A struct, an array, a text, or a field or an element of one, in memory: on the stack or behind a pointer.

    `base` is a multiple of `alignment`, as far as that matters, which is on the stack only. A bit field has its `bits`.
    """

    base: Base
    offset: int
    type: ValueType
    alignment: int = 8
    bits: BitField | None = None


@frozen
class Listed:
    """`[a, b]`: values that an array can be given."""

    items: "tuple[Value, ...]"


@frozen
class Elements:
    """An array of equal fields in a context, to be indexed by a constant; `name` is what messages call it.

    `refused` is why they cannot be assigned, if they cannot.
    """

    base: Base
    offset: int
    width: int
    count: int
    type: IntType | NetworkType
    name: str
    refused: str | None


@frozen
class BoundMethod:
    """A method of a map or of a context, about to be called."""

    owner: Any
    name: str


Value = Constant | Scalar | Pointer | Place | KernelPlace | Listed | Elements | BoundMethod


def target_name(target: PointerTarget) -> str:
    """A pointer's target as messages name it."""
    return target.__name__ if isinstance(target, type) else target.name


def describe(value: Value) -> str:
    """A value's type as messages name it."""
    match value:
        case Constant(value=None):
            return "None"
        case Constant(value=bool()):
            return "bool"
        case Constant(value=int()):
            return "int"
        case Constant(value=be16() | be32() | be64() as constant):
            return type(constant).__name__
        case Constant(value=constant):
            return getattr(constant, "__name__", None) or type(constant).__name__
        case Scalar(type=IntType()):
            return "int"
        case Scalar(type=type_):
            return str(type_)
        case Pointer(target=target, nullable=nullable):
            return f"{target_name(target)} | None" if nullable else target_name(target)
        case Place(type=type_):
            return str(type_)
        case KernelPlace(target=target):
            return target_name(target)
        case Elements() | Listed():
            return "an array"
        case BoundMethod(name=name):
            return f"method {name}"


def shown(number: int) -> str:
    """A number as messages show it; of one that is very long how long it is."""
    return str(number) if number.bit_length() <= _LONGEST_SHOWN else f"a number of {number.bit_length()} bits"


def count_of(constant: Sized) -> int:
    """How many elements a constant has; of a range that Python cannot count, more than anybody asks for."""
    try:
        return len(constant)
    except OverflowError:
        return sys.maxsize


def is_struct(value: Value) -> bool:
    """Whether a value is a struct, or an address of one."""
    return isinstance(value.type if isinstance(value, Place) else getattr(value, "target", None), StructType)


def network_operand(value: be16 | be32 | be64) -> int:
    """A network-order constant as a register holds it: its bytes in memory order, on a little-endian machine."""
    return int.from_bytes(value.packed, "little")


def known_operand(value: Value) -> Number | None:
    """The operand for a number, or None if the value is none."""
    match value:
        case Scalar(operand=operand):
            return operand
        case Constant(value=bool() | int() as number):
            return int(number)
        case Constant(value=be16() | be32() | be64() as number):
            return network_operand(number)
        case _:
            return None
