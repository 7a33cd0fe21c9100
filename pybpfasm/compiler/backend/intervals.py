"""When each value is needed: ranges of positions, over blocks in a fixed order.

The operation with number i reads at position 2i and writes at 2i + 1; a range is half open. What is read last where
something else is first written can give its register to it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from pybpfasm.compiler.backend.legalize import COMMUTATIVE
from pybpfasm.ir.function import Block, Function, predecessors
from pybpfasm.ir.operations import (
    Assembly,
    AtomicUpdate,
    Binary,
    Call,
    CallFunction,
    CallKernel,
    Copy,
    Extend,
    Goto,
    Operation,
    Return,
    Swap,
    Value,
    result_of,
    values_of,
)
from pybpfasm.isa import Atomic
from pybpfasm.records import define, field

CALLS = (Call, CallKernel, CallFunction, Assembly)
CLOBBERED_BY_CALLS = 0b111111
_CLOBBERED_BY_EXCHANGE = 0b1

Range = tuple[int, int]


@define(eq=False)
class Interval:
    """When a value is needed, the registers (bits) that it cannot have, those that it would suit, and how it is used.

    `near` are values with which it would share a register: the other end of a copy, an argument of a parameter.
    """

    value: Value
    ranges: list[Range] = field(factory=list)
    forbidden: int = 0
    wishes: list[int] = field(factory=list)
    near: list[Value] = field(factory=list)
    uses: int = 0

    @property
    def start(self) -> int:
        """The first position."""
        return self.ranges[0][0]

    @property
    def end(self) -> int:
        """Behind the last position."""
        return self.ranges[-1][1]


class Liveness:
    """The intervals of a function's values, in the order of their starts."""

    def __init__(self, function: Function, order: Sequence[Block]) -> None:
        self.function = function
        self.order = order
        self._bounds: dict[Block, Range] = {}
        self._defined: dict[Value, tuple[Block, int]] = {}
        self._found: dict[Value, Interval] = {}
        self._clobbers: list[tuple[int, int]] = []
        self._number()
        self._leading = predecessors(list(order))
        self._extend_all()
        self.intervals = self._finished()

    def of(self, value: Value) -> Interval:
        """A value's interval."""
        return self._found[value]

    def needed_behind(self, block: Block) -> list[Value]:
        """The values that are needed at the end of a block."""
        last = self._bounds[block][1] - 1
        return [each.value for each in self.intervals if any(start <= last < end for start, end in each.ranges)]

    def _number(self) -> None:
        at = 0
        entry = self.order[0]
        for value in self.function.parameters:
            self._define(value, entry, -1)
        for block in self.order:
            first = at
            for parameter in block.parameters:
                self._define(parameter, block, 2 * first)
            for operation in block.operations:
                result = result_of(operation)
                if result is not None:
                    self._define(result, block, 2 * at + 1)
                self._note_clobbers(operation, at)
                at += 1
            self._bounds[block] = (2 * first, 2 * at)
        if entry.parameters:
            raise AssertionError(f"{self.function}: the first block has parameters")

    def _define(self, value: Value, block: Block, at: int) -> None:
        self._defined[value] = (block, at)
        self._found[value] = Interval(value, [(at, at + 1)])

    def _note_clobbers(self, operation: Operation, at: int) -> None:
        if isinstance(operation, CALLS):
            self._clobbers.append((at, CLOBBERED_BY_CALLS))
        elif isinstance(operation, AtomicUpdate) and operation.code is Atomic.CMPXCHG:
            self._clobbers.append((at, _CLOBBERED_BY_EXCHANGE))

    def _extend_all(self) -> None:
        reached: dict[Value, set[Block]] = {}
        at = 0
        for number, value in enumerate(self.function.parameters, start=1):
            self._found[value].wishes.append(number)
        for block in self.order:
            for operation in block.operations:
                late = _read_late(operation)
                for value in values_of(operation):
                    self._found[value].uses += 1
                    self._extend(value, block, 2 * at + (2 if value in late else 1), reached)
                self._wish(operation)
                at += 1

    def _extend(self, value: Value, block: Block, end: int, reached: dict[Value, set[Block]]) -> None:
        """Make the value live up to `end` in a block, and on all ways from where it is defined."""
        home, start = self._defined[value]
        ranges = self._found[value].ranges
        if home is block:
            ranges.append((start, end))
            return
        seen = reached.setdefault(value, set())
        ranges.append((self._bounds[block][0], end))
        pending = list(self._leading[block])
        while pending:
            above = pending.pop()
            first, behind = self._bounds[above]
            if above is home:
                ranges.append((start, behind))
            elif above not in seen:
                seen.add(above)
                ranges.append((first, behind))
                pending += self._leading[above]

    def _wish(self, operation: Operation) -> None:
        match operation:
            case Call() | CallKernel() | CallFunction():
                self._wish_arguments(operation.arguments, operation.result)
            case Assembly():
                self._wish_arguments(operation.inputs, operation.result)
            case Return(value=Value() as value):
                self._found[value].wishes.append(0)
            case Binary(left=Value() as left, right=right, result=result):
                self._bring_together(left, result)
                if operation.code in COMMUTATIVE and isinstance(right, Value):
                    self._bring_together(right, result)
            case Copy(source=Value() as source, result=result):
                self._bring_together(source, result)
            case Extend(source=Value() as source, result=result) | Swap(source=Value() as source, result=result):
                self._bring_together(source, result)
            case AtomicUpdate(result=Value() as result, source=Value() as source):
                self._bring_together(source, result)
            case Goto(block=block, arguments=arguments):
                for parameter, argument in zip(block.parameters, arguments, strict=True):
                    if isinstance(argument, Value):
                        self._bring_together(argument, parameter)

    def _wish_arguments(self, arguments: Sequence[Any], result: Value | None) -> None:
        for number, argument in enumerate(arguments, start=1):
            if isinstance(argument, Value):
                self._found[argument].wishes.append(number)
        if result is not None:
            self._found[result].wishes.append(0)

    def _bring_together(self, one: Value, other: Value) -> None:
        self._found[one].near.append(other)
        self._found[other].near.append(one)

    def _finished(self) -> list[Interval]:
        positions = [at for at, _ in self._clobbers]
        for interval in self._found.values():
            interval.ranges = _merged(interval.ranges)
            for start, end in interval.ranges:
                # What is needed before and behind the operation crosses it.
                index = bisect_left(positions, (start + 1) // 2)
                while index < len(positions) and 2 * positions[index] + 2 <= end:
                    interval.forbidden |= self._clobbers[index][1]
                    if interval.forbidden == CLOBBERED_BY_CALLS:
                        break
                    index += 1
        return sorted(self._found.values(), key=lambda each: (each.start, each.value.number))


def _read_late(operation: Operation) -> tuple[Any, ...]:
    """Values that are still read when the result is written already."""
    match operation:
        case Binary(code=code, left=left, right=Value() as right) if right is not left:
            return () if code in COMMUTATIVE and isinstance(left, Value) else (right,)
        case AtomicUpdate(code=Atomic.CMPXCHG, base=base, source=source):
            return (base, source)
        case AtomicUpdate(result=Value(), base=base):
            return (base,)
        case _:
            return ()


def _merged(ranges: list[Range]) -> list[Range]:
    ranges.sort()
    merged = [ranges[0]]
    for start, end in ranges[1:]:
        if start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
