"""Functions of the intermediate form: blocks, and the orders in which to walk them."""

from __future__ import annotations

import itertools
from typing import Any

from pybpfasm.ir.operations import ENDS, Branch, Goto, Location, MayGoto, Operation, Slot, Terminator, Value
from pybpfasm.ir.types import SCALAR, Type
from pybpfasm.records import define, field


@define(eq=False, repr=False)
class Block:
    """Operations in order; the last one, and no other, ends the block. Parameters get their values from each Goto."""

    number: int
    parameters: list[Value] = field(factory=list)
    operations: list[Operation] = field(factory=list)
    _walk: int = 0  # the last walk that has come by, see reverse_postorder

    @property
    def ended(self) -> bool:
        """Whether the block has its last operation."""
        return bool(self.operations) and isinstance(self.operations[-1], ENDS)

    @property
    def end(self) -> Terminator:
        """The last operation."""
        last = self.operations[-1]
        assert isinstance(last, ENDS)  # noqa: S101 - asked of ended blocks only
        return last

    def successors(self) -> tuple[Block, ...]:
        """Where control may go from here."""
        # By type and not by `match`: nothing else is asked so often.
        end: Any = self.operations[-1]
        kind = type(end)
        if kind is Goto:
            return (end.block,)
        if kind is Branch:
            return (end.yes, end.no)
        return (end.again, end.end) if kind is MayGoto else ()

    def __str__(self) -> str:
        return f"block{self.number}"

    __repr__ = __str__


@define(eq=False, repr=False)
class Function:
    """A program or a function that it calls. `parameters` arrive in r1 to r5; a program's only one is its context.

    `source` is the `def`. `exception` tells the verifier that it may not return, as callbacks of bpf_throw do.
    """

    name: str
    location: Location
    parameters: list[Value] = field(factory=list)
    entry: Block = field(init=False)
    slots: list[Slot] = field(factory=list)
    _values: int = 0
    _blocks: int = 0

    def __post_init__(self) -> None:
        self.entry = self.block()

    def value(self, type_: Type = SCALAR, name: str | None = None) -> Value:
        """A new value."""
        self._values += 1
        return Value(self._values - 1, type_, name)

    def parameter(self, type_: Type = SCALAR, name: str | None = None) -> Value:
        """A new parameter of the function."""
        value = self.value(type_, name)
        self.parameters.append(value)
        return value

    def block(self) -> Block:
        """A new block."""
        self._blocks += 1
        return Block(self._blocks - 1)

    def slot(self, size: int, name: str | None = None) -> Slot:
        """A new piece of the stack frame."""
        slot = Slot(len(self.slots), size, name)
        self.slots.append(slot)
        return slot

    def __str__(self) -> str:
        return f"func {self.name}"

    __repr__ = __str__


@define(eq=False)
class Unit:
    """A program and the functions that it calls or hands to helpers, in the order in which they are first named."""

    program: Function
    functions: list[Function] = field(factory=list)

    def all(self) -> list[Function]:
        """The program first."""
        return [self.program, *self.functions]


# Marks on the blocks in place of a set of them: the set of a long function costs as much as all else here.
_walks = itertools.count(1)


def reverse_postorder(entry: Block) -> list[Block]:
    """The blocks that can be reached; each after all that lead to it, but by the edges that close a loop."""
    # Written for speed: every pass begins with it. A block is on the list twice: to be entered, and to be finished.
    finished: list[Block] = []
    walk = next(_walks)
    pending: list[Block | None] = [entry]
    entered: list[Block] = []
    while pending:
        block = pending.pop()
        if block is None:
            finished.append(entered.pop())
        elif block._walk != walk:
            block._walk = walk
            entered.append(block)
            pending.append(None)
            end: Any = block.operations[-1]
            kind = type(end)
            if kind is Goto:
                pending.append(end.block)
            elif kind is Branch:
                pending.append(end.yes)
                pending.append(end.no)
            elif kind is MayGoto:
                pending.append(end.again)
                pending.append(end.end)
    finished.reverse()
    return finished


def predecessors(order: list[Block]) -> dict[Block, list[Block]]:
    """The blocks that lead to each block; one that branches to the same block on both sides is named twice."""
    found: dict[Block, list[Block]] = {block: [] for block in order}
    for block in order:
        for following in block.successors():
            found[following].append(block)
    return found
