"""The compiler's intermediate form: blocks of operations on virtual registers, each 64 bits wide.

A register may be written in several places, but blocks only ever lead forward: loops are unrolled before. Every
operation carries the place in the source that it comes from.
"""

import attrs

from pybpfasm.isa import Alu, Jump
from pybpfasm.spec import MapSpec


@attrs.frozen
class Location:
    """A place in a source file; line and column count from 1."""

    file: str
    line: int
    column: int
    text: str


@attrs.frozen
class Register:
    """A virtual register, by number."""

    number: int

    def __str__(self) -> str:
        return f"%{self.number}"


@attrs.frozen
class Slot:
    """A piece of the stack frame: `size` bytes, a multiple of 8."""

    number: int
    size: int

    def __str__(self) -> str:
        return f"slot{self.number}"


@attrs.frozen
class SlotAddress:
    """The address `offset` bytes into a slot."""

    slot: Slot
    offset: int = 0

    def __str__(self) -> str:
        return f"&{self.slot}{self.offset:+d}" if self.offset else f"&{self.slot}"


@attrs.frozen
class MapAddress:
    """A reference to a map."""

    map: MapSpec

    def __str__(self) -> str:
        return f"map[{self.map.name}]"


Operand = Register | int
Base = Register | Slot
Argument = Register | int | SlotAddress | MapAddress


@attrs.frozen
class Move:
    """target = source."""

    target: Register
    source: Operand
    location: Location


@attrs.frozen
class Binary:
    """target = left code right, modulo 2**64."""

    code: Alu
    target: Register
    left: Operand
    right: Operand
    location: Location


@attrs.frozen
class Swap:
    """target = the low `bits` bits of source, bytes reversed; the rest zero."""

    target: Register
    source: Register
    bits: int
    location: Location


@attrs.frozen
class Load:
    """target = `size` bytes at base + offset, zero-extended."""

    target: Register
    base: Base
    offset: int
    size: int
    location: Location


@attrs.frozen
class Store:
    """`size` bytes at base + offset = the low bytes of source."""

    base: Base
    offset: int
    size: int
    source: Operand
    location: Location


@attrs.frozen
class Call:
    """target = helper(arguments)."""

    target: Register | None
    helper: int
    arguments: tuple[Argument, ...]
    location: Location


@attrs.frozen
class Goto:
    """Go on at another block."""

    block: "Block"
    location: Location


@attrs.frozen
class Branch:
    """Go on at `yes` if left code right, at `no` otherwise; compares `bits` bits (32 or 64)."""

    code: Jump
    left: Register
    right: Operand
    bits: int
    yes: "Block"
    no: "Block"
    location: Location


@attrs.frozen
class Return:
    """End the program with a value."""

    value: Operand
    location: Location


Operation = Move | Binary | Swap | Load | Store | Call | Goto | Branch | Return


@attrs.define(eq=False)
class Block:
    """Operations in order; the last one, and no other, is a Goto, a Branch or a Return."""

    number: int
    operations: list[Operation] = attrs.field(factory=list, repr=False)

    @property
    def ended(self) -> bool:
        """Whether the block has its last operation."""
        return bool(self.operations) and isinstance(self.operations[-1], Goto | Branch | Return)

    def successors(self) -> tuple["Block", ...]:
        """Where control may go from here."""
        match self.operations[-1]:
            case Goto(block=block):
                return (block,)
            case Branch(yes=yes, no=no):
                return (yes, no)
            case _:
                return ()

    def __str__(self) -> str:
        return f"block{self.number}"


@attrs.define
class Function:
    """A whole program before registers are given out; `context` holds the context on entry."""

    name: str
    entry: Block
    context: Register


def target_of(operation: Operation) -> Register | None:
    """The register that an operation writes."""
    match operation:
        case Move() | Binary() | Swap() | Load() | Call():
            return operation.target
        case _:
            return None


def sources_of(operation: Operation) -> list[Register]:
    """The registers that an operation reads."""
    match operation:
        case Move() | Swap():
            read: tuple[object, ...] = (operation.source,)
        case Binary():
            read = (operation.left, operation.right)
        case Load():
            read = (operation.base,)
        case Store():
            read = (operation.base, operation.source)
        case Call():
            read = operation.arguments
        case Branch():
            read = (operation.left, operation.right)
        case Return():
            read = (operation.value,)
        case Goto():
            read = ()
    return [each for each in read if isinstance(each, Register)]


def blocks_in_order(entry: Block) -> list[Block]:
    """The blocks that can be reached, each after all that lead to it; the `yes` side of a branch comes first."""
    finished: list[Block] = []
    seen: set[Block] = {entry}
    stack = [(entry, list(entry.successors()))]
    while stack:
        block, waiting = stack[-1]
        following = waiting.pop() if waiting else None
        if following is None:
            finished.append(block)
            stack.pop()
        elif following not in seen:
            seen.add(following)
            stack.append((following, list(following.successors())))
    return finished[::-1]


def format_function(function: Function) -> str:
    """The function as text, for tests and for people."""
    lines = [f"{function.name}({function.context}):"]
    for block in blocks_in_order(function.entry):
        lines.append(f"{block}:")
        lines += [f"    {format_operation(operation)}" for operation in block.operations]
    return "\n".join(lines)


def format_operation(operation: Operation) -> str:
    """One operation as text."""
    match operation:
        case Move(target=target, source=source):
            return f"{target} = {source}"
        case Binary(code=code, target=target, left=left, right=right):
            return f"{target} = {code.name.lower()} {left}, {right}"
        case Swap(target=target, source=source, bits=bits):
            return f"{target} = swap{bits} {source}"
        case Load(target=target, base=base, offset=offset, size=size):
            return f"{target} = load{size * 8} [{base}{offset:+d}]"
        case Store(base=base, offset=offset, size=size, source=source):
            return f"store{size * 8} [{base}{offset:+d}], {source}"
        case Call(target=target, helper=helper, arguments=arguments):
            result = f"{target} = " if target else ""
            return f"{result}call {helper}({', '.join(map(str, arguments))})"
        case Goto(block=block):
            return f"goto {block}"
        case Branch(code=code, left=left, right=right, bits=bits, yes=yes, no=no):
            return f"if {code.name.lower()}{bits} {left}, {right} goto {yes} else {no}"
        case Return(value=value):
            return f"return {value}"
