"""Operations of the intermediate form, and what they work on.

Every value is defined once (SSA): by the operation of which it is the result, as a parameter of a block, or as a
parameter of its function. Numbers are 64 bits wide; a narrower result leaves the upper bits zero, or, where it says
signed, copies of the sign. Constants are plain integers, -2**63 to 2**64 - 1, equal modulo 2**64.

Addresses that cost nothing to make again (of the stack, of a map, of a map's only value, of a function) are operands
of their own and never kept in values, but by `Copy` where one has to be computed with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pybpfasm.ir.types import SCALAR, Type
from pybpfasm.isa import Alu, Atomic, Instruction, Jump
from pybpfasm.records import define, field, frozen

if TYPE_CHECKING:
    from pybpfasm.ir.function import Block, Function
    from pybpfasm.spec import MapSpec


@frozen
class Location:
    """A place in a source file; line and column count from 1, `end` is the column behind it on the same line, or 0."""

    file: str
    line: int
    column: int
    text: str
    end: int = field(default=0, eq=False)


@define(eq=False, repr=False)
class Value:
    """A value, by number within its function; `name` is what the program calls it, where it has a name."""

    number: int
    type: Type = SCALAR
    name: str | None = None

    def __str__(self) -> str:
        return f"%{self.number}"

    __repr__ = __str__


@define(eq=False, repr=False)
class Slot:
    """A piece of the stack frame: `size` bytes, aligned to 8 in the frame, undefined until written.

    `name` is what the program calls it. Slots whose lives do not overlap may share their bytes.
    """

    number: int
    size: int
    name: str | None = None

    def __str__(self) -> str:
        return f"slot{self.number}"

    __repr__ = __str__


@frozen
class StackAddress:
    """The address `offset` bytes into a slot."""

    slot: Slot
    offset: int = 0

    def __str__(self) -> str:
        return f"&{self.slot}{self.offset:+d}" if self.offset else f"&{self.slot}"


@frozen
class MapReference:
    """A map, to hand to a helper."""

    map: MapSpec

    def __str__(self) -> str:
        return f"map[{self.map.name}]"


@frozen
class MapValueAddress:
    """The address `offset` bytes into the value of a map of one entry: a global variable (BPF_PSEUDO_MAP_VALUE)."""

    map: MapSpec
    offset: int = 0

    def __str__(self) -> str:
        return f"value[{self.map.name}]{self.offset:+d}" if self.offset else f"value[{self.map.name}]"


@frozen
class FunctionReference:
    """A function of the program, to hand to a helper that calls it back (BPF_PSEUDO_FUNC)."""

    function: Function

    def __str__(self) -> str:
        return f"func[{self.function.name}]"


Number = Value | int
Base = Value | StackAddress | MapValueAddress
Argument = Value | int | StackAddress | MapReference | MapValueAddress | FunctionReference


@define(eq=False)
class Copy:
    """result = an operand as it is."""

    result: Value
    source: Argument
    location: Location


@define(eq=False)
class Binary:
    """result = left code right, modulo 2**bits. `signed` is for DIV and MOD only, which then cut towards zero.

    Division by 0 gives 0, the rest by 0 is `left`; shifts count modulo `bits`. Never NEG, MOV or END.
    """

    code: Alu
    result: Value
    left: Number
    right: Number
    location: Location
    bits: int = 64
    signed: bool = False


@define(eq=False)
class Extend:
    """result = the low `bits` (8, 16, 32) of source, zero-extended or, if `signed`, sign-extended to 64."""

    result: Value
    source: Number
    bits: int
    signed: bool
    location: Location


@define(eq=False)
class Swap:
    """result = the low `bits` (16, 32, 64) of source with its bytes reversed; the rest zero."""

    result: Value
    source: Number
    bits: int
    location: Location


@define(eq=False)
class Load:
    """result = `size` bytes at base + offset, zero-extended or, if `signed`, sign-extended.

    `volatile` keeps it as it is: never joined, repeated or taken away. `narrow` allows to load less of it, which all
    memory does but some fields of contexts.
    """

    result: Value
    base: Base
    offset: int
    size: int
    location: Location
    signed: bool = False
    volatile: bool = False
    narrow: bool = True


@define(eq=False)
class Store:
    """`size` bytes at base + offset = the low bytes of source."""

    base: Base
    offset: int
    size: int
    source: Number
    location: Location
    volatile: bool = False


@define(eq=False)
class AtomicUpdate:
    """`size` (4, 8) bytes at base + offset = they code source, at once; `result` has them as they were, if it is there.

    With Atomic.XCHG they become source; with CMPXCHG only if they equal `expected`.
    """

    code: Atomic
    result: Value | None
    base: Base
    offset: int
    size: int
    source: Number
    location: Location
    expected: Number | None = None


@define(eq=False)
class Call:
    """result = a helper's answer. Reads and writes through its arguments; r1 to r5 die."""

    result: Value | None
    helper: int
    arguments: tuple[Argument, ...]
    location: Location


@define(eq=False)
class CallKernel:
    """result = what a kfunc answers; `name` is its name in the kernel's BTF.

    With `acquires` the result has to be given back, with `releases` the first argument is.
    """

    result: Value | None
    name: str
    arguments: tuple[Argument, ...]
    location: Location
    acquires: bool = False
    releases: bool = False


@define(eq=False)
class CallFunction:
    """result = what a function of the program answers."""

    result: Value | None
    function: Function
    arguments: tuple[Argument, ...]
    location: Location


@define(eq=False)
class Assembly:
    """Instructions as they are: `inputs` arrive in r1 and the following, the result is in r0, r0 to r5 die."""

    result: Value | None
    instructions: tuple[Instruction, ...]
    inputs: tuple[Argument, ...]
    location: Location


@define(eq=False)
class Goto:
    """Go on at another block, whose parameters become the arguments."""

    block: Block
    location: Location
    arguments: list[Argument] = field(factory=list)


@define(eq=False)
class Branch:
    """Go on at `yes` if left code right, at `no` otherwise; compares `bits` bits (32 or 64).

    The blocks of a branch have no parameters: where one is needed a block with a Goto lies between.
    """

    code: Jump
    left: Number
    right: Number
    bits: int
    yes: Block
    no: Block
    location: Location


@define(eq=False)
class MayGoto:
    """Go on at `again` as long as the kernel lets the program run, else at `end` (BPF_JCOND, Linux 6.9)."""

    again: Block
    end: Block
    location: Location


@define(eq=False)
class Return:
    """End the function with a value."""

    value: Number
    location: Location


Operation = (
    Copy
    | Binary
    | Extend
    | Swap
    | Load
    | Store
    | AtomicUpdate
    | Call
    | CallKernel
    | CallFunction
    | Assembly
    | Goto
    | Branch
    | MayGoto
    | Return
)
Terminator = Goto | Branch | MayGoto | Return
ENDS = (Goto, Branch, MayGoto, Return)


def result_of(operation: Operation) -> Value | None:
    """The value that an operation defines."""
    return getattr(operation, "result", None)


# The attributes of each operation that hold operands, one or a sequence of them.
_SINGLE: dict[type[Any], tuple[str, ...]] = {
    Copy: ("source",),
    Binary: ("left", "right"),
    Extend: ("source",),
    Swap: ("source",),
    Load: ("base",),
    Store: ("base", "source"),
    AtomicUpdate: ("base", "source", "expected"),
    Branch: ("left", "right"),
    MayGoto: (),
    Return: ("value",),
}
_MANY: dict[type[Any], str] = {
    Call: "arguments",
    CallKernel: "arguments",
    CallFunction: "arguments",
    Assembly: "inputs",
    Goto: "arguments",
}


def operands_of(operation: Operation) -> Sequence[Any]:
    """The operands that an operation reads: values, numbers, addresses."""
    return _OPERANDS[type(operation)](operation)


def values_of(operation: Operation) -> list[Value]:
    """The values that an operation reads."""
    # By type and not by isinstance(): the passes ask for nothing so often.
    return [each for each in _OPERANDS[type(operation)](operation) if type(each) is Value]


def replace_operands(operation: Operation, instead: dict[Value, Any]) -> None:
    """Put other operands in the place of values."""
    kind = type(operation)
    if kind not in _MANY:
        for name in _SINGLE[kind]:
            operand = getattr(operation, name)
            if type(operand) is Value and operand in instead:
                setattr(operation, name, instead[operand])
        return
    name = _MANY[kind]
    before = getattr(operation, name)
    if any(type(each) is Value and each in instead for each in before):
        after = [instead.get(each, each) if type(each) is Value else each for each in before]
        setattr(operation, name, type(before)(after))


def _reader(names: tuple[str, ...]) -> Callable[[Any], Sequence[Any]]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    if not names:
        return lambda _: ()
    get = operator.attrgetter(*names)
    return lambda operation: (get(operation),)


_OPERANDS: dict[type[Any], Callable[[Any], Sequence[Any]]] = {
    **{kind: _reader(names) for kind, names in _SINGLE.items()},
    **{kind: operator.attrgetter(name) for kind, name in _MANY.items()},
}
