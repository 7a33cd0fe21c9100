"""What calls would overwrite is moved to a register that they keep as late as can be.

In: a function. Out: the same, where a parameter of the function, or what a call gave, stays in the register in which it
came until a call follows that it has to outlive; it is copied there. Ways that end before need no copy, and a call that
takes the value as its argument finds it in its place.

    %1 = load32 [%0+36]                      %1 = load32 [%0+36]
    if jne %1, 6 goto block9 else block2     if jne %1, 6 goto block9 else block2
    block2:                                  block2:
        %2 = call 122(%0)                        %8 = copy %0
        %3 = load32 [%0+8]                       %2 = call 122(%0)
                                                 %3 = load32 [%8+8]

What such values meet in is as good as they. Limits: at most some copies of one value, none of them in a loop that the
value comes into from outside; a value that is needed where ways with and without a copy meet is left as it is. Where
both do the same to what it points to, the copy is made above both, so that they can share the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pybpfasm.compiler.backend.intervals import CALLS
from pybpfasm.ir.dominators import Dominators
from pybpfasm.ir.function import Block, Function, predecessors
from pybpfasm.ir.operations import Copy, Goto, Store, Value, replace_operands, result_of, values_of
from pybpfasm.records import define

# More than so many copies take more room than is worth their way.
_MOST_COPIES = 6

_Uses = dict[Block, list[int]]


def move_late(function: Function, order: Sequence[Block]) -> None:
    """Run the pass."""
    homes = _homes(function, order)
    calls = {block: [at for at, each in enumerate(block.operations) if isinstance(each, CALLS)] for block in order}
    if not any(calls.values()):
        return
    uses = _uses(order, homes)
    tree = _Tree(order)
    inserted: dict[tuple[Block, int], list[Value]] = {}
    for value, (home, start) in homes.items():
        if uses[value]:
            points = _Way(value, home, start, uses[value], calls, tree).points()
            for point in points:
                inserted.setdefault(point, []).append(value)
    _insert(function, order, inserted, tree)


def _homes(function: Function, order: Sequence[Block]) -> dict[Value, tuple[Block, int]]:
    """The values that come in a register which calls overwrite, and where."""
    found = dict.fromkeys(function.parameters, (order[0], -1))
    for block in order:
        for at, operation in enumerate(block.operations):
            if isinstance(operation, CALLS):
                result = result_of(operation)
                if result is not None:
                    found[result] = (block, at)
    _add_meetings(order, found)
    return found


def _add_meetings(order: Sequence[Block], found: dict[Value, tuple[Block, int]]) -> None:
    """Parameters of blocks that get nothing but such values."""
    given: dict[Value, list[Any]] = {}
    homes: dict[Value, tuple[Block, int]] = {}
    for block in order:
        homes.update(dict.fromkeys(block.parameters, (block, -1)))
        end = block.operations[-1]
        if isinstance(end, Goto):
            for parameter, argument in zip(end.block.parameters, end.arguments, strict=True):
                given.setdefault(parameter, []).append(argument)
    for parameter, arguments in given.items():
        if all(argument in found for argument in arguments):
            found[parameter] = homes[parameter]


def _uses(order: Sequence[Block], homes: Iterable[Value]) -> dict[Value, _Uses]:
    found: dict[Value, _Uses] = {value: {} for value in homes}
    for block in order:
        for at, operation in enumerate(block.operations):
            for value in values_of(operation):
                if value in found:
                    found[value].setdefault(block, []).append(at)
    return found


class _Tree:
    """The blocks' dominator tree, and the loops around each block, by the blocks that these begin with."""

    def __init__(self, order: Sequence[Block]) -> None:
        self.leading = predecessors(list(order))
        self.dominators = Dominators(order)
        self.below: dict[Block, list[Block]] = {block: [] for block in order}
        for block in order[1:]:
            self.below[self.dominators.above(block)].append(block)
        self.loops: dict[Block, set[Block]] = {block: set() for block in order}
        for block in order:
            for following in block.successors():
                if self.dominators.dominates(following, block):
                    self._note_loop(following, block)

    def covers(self, point: tuple[Block, int], block: Block, at: int) -> bool:
        """Whether an operation is behind a point on every way to it."""
        if block is point[0]:
            return at > point[1]
        return self.dominators.dominates(point[0], block)

    def _note_loop(self, head: Block, end: Block) -> None:
        self.loops[head].add(head)
        pending = [end]
        while pending:
            block = pending.pop()
            if head not in self.loops[block]:
                self.loops[block].add(head)
                pending += self.leading[block]


@define
class _Way:
    """One value, from where it is defined to the calls that it outlives."""

    value: Value
    home: Block
    start: int
    uses: _Uses
    calls: dict[Block, list[int]]
    tree: _Tree

    def points(self) -> list[tuple[Block, int]]:
        """Where to copy it: a block, and the position of the operation behind the copy. Empty: nowhere."""
        outlived = self._outlived(self.uses)
        if not outlived or (self.home in outlived and not self._is_argument(outlived[self.home])):
            return []
        above: set[Block] = set()
        for block in outlived:
            while block not in above:
                above.add(block)
                if block is self.home:
                    break
                block = self.tree.dominators.above(block)
        points = self._descend(self.home, outlived, above)
        if len(points) > _MOST_COPIES:
            return []
        left = {
            block: kept
            for block, positions in self.uses.items()
            if (kept := [at for at in positions if not any(self.tree.covers(point, block, at) for point in points)])
        }
        return [] if self._outlived(left) else points

    def _is_argument(self, at: int) -> bool:
        return at in self.uses.get(self.home, ())

    def _outlived(self, uses: _Uses) -> dict[Block, int]:
        """The first call in each block that the value has to outlive."""
        behind = self._needed_behind(uses)
        found: dict[Block, int] = {}
        for block in {*uses, *behind}:
            first = self.start if block is self.home else -1
            for at in self.calls[block]:
                if at > first and (block in behind or at < uses[block][-1]):
                    found[block] = at
                    break
        return found

    def _needed_behind(self, uses: _Uses) -> set[Block]:
        found: set[Block] = set()
        pending = [above for block in uses if block is not self.home for above in self.tree.leading[block]]
        if self.home in uses and uses[self.home][0] <= self.start:
            pending += self.tree.leading[self.home]
        while pending:
            block = pending.pop()
            if block not in found:
                found.add(block)
                if block is not self.home:
                    pending += self.tree.leading[block]
        return found

    def _descend(self, block: Block, outlived: dict[Block, int], above: set[Block]) -> list[tuple[Block, int]]:
        if block in outlived:
            return [(block, outlived[block])]
        needy = [each for each in self.tree.below[block] if each in above]
        if self._same_is_done(block, above):
            return [(block, len(block.operations) - 1)]
        if any(not self.tree.loops[each] <= self.tree.loops[block] for each in needy):
            return [(block, len(block.operations) - 1)]
        return [point for each in needy for point in self._descend(each, outlived, above)]

    def _same_is_done(self, block: Block, above: set[Block]) -> bool:
        """Whether a way on that needs no copy stores what one that needs it stores, too."""
        others = [each for each in block.successors() if each not in above]
        stored = {key for other in others for key in self._stored(other)}
        return bool(stored) and any(
            key in stored
            for each in self.uses
            if each not in others and each is not block and self.tree.dominators.dominates(block, each)
            for key in self._stored(each)
        )

    def _stored(self, block: Block) -> set[tuple[int, int, int]]:
        operations = [block.operations[at] for at in self.uses.get(block, ())]
        return {
            (each.offset, each.size, each.source)
            for each in operations
            if isinstance(each, Store) and each.base is self.value and isinstance(each.source, int)
        }


def _insert(
    function: Function, order: Sequence[Block], inserted: dict[tuple[Block, int], list[Value]], tree: _Tree
) -> None:
    """Copy the values at these points, and name the copies where they are there."""
    copies = {
        point: {value: function.value(value.type, value.name) for value in values} for point, values in inserted.items()
    }
    if not copies:
        return
    for block in order:
        reaching = [each for each in copies if tree.dominators.dominates(each[0], block)]
        for at, operation in enumerate(block.operations):
            instead = {
                value: copy
                for point in reaching
                if tree.covers(point, block, at)
                for value, copy in copies[point].items()
            }
            if instead:
                replace_operands(operation, instead)
    for (block, at), made in sorted(copies.items(), key=lambda each: -each[0][1]):
        location = block.operations[at].location
        block.operations[at:at] = [Copy(copy, value, location) for value, copy in made.items()]
