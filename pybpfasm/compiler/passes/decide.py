"""Ways past a decision: a value that is tested where paths meet is known on some of them.

In: a function. Out: the same, where a path on which the outcome is known goes straight to the side that it would take.
The sides get parameters of their own for what they read of the block's. Limits: the block has nothing but the test.

    goto block3(0)                           goto block4
    …                                        …
    goto block3(%2)          (not 0)         goto block5(%2)
    block3(%4):
        if jeq %4, 0 goto block4 else block5
    block5:                                  block5(%6):
        %5 = load32 [%4]                         %5 = load32 [%6]
"""

from __future__ import annotations

from typing import Any

from pybpfasm.compiler.passes.blocks import outcome
from pybpfasm.ir.dominators import Dominators
from pybpfasm.ir.function import Block, Function, predecessors, reverse_postorder
from pybpfasm.ir.operations import Branch, Goto, Value, replace_operands, values_of
from pybpfasm.isa import Jump


def decide(function: Function) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    leading = predecessors(order)
    candidates = [
        block
        for block in order
        if block.parameters and len(block.operations) == 1 and isinstance(block.operations[0], Branch)
    ]
    if not candidates:
        return
    readers = _readers(order, {each for block in candidates for each in block.parameters})
    dominators = Dominators(order)
    for block in candidates:
        _Decision(function, block, leading, readers, dominators).run()


def _readers(order: list[Block], values: set[Value]) -> dict[Value, list[Block]]:
    """The blocks that read each of the values."""
    found: dict[Value, list[Block]] = {value: [] for value in values}
    for block in order:
        for operation in block.operations:
            for value in values_of(operation):
                if value in found and (not found[value] or found[value][-1] is not block):
                    found[value].append(block)
    return found


class _Decision:
    """One block with a test, and the paths to it."""

    def __init__(
        self,
        function: Function,
        block: Block,
        leading: dict[Block, list[Block]],
        readers: dict[Value, list[Block]],
        dominators: Dominators,
    ) -> None:
        self.function = function
        self.block = block
        self.leading = leading
        self.readers = readers
        self.dominators = dominators
        branch = block.operations[0]
        assert isinstance(branch, Branch)  # noqa: S101 - as candidates are chosen
        self.branch = branch

    def run(self) -> None:
        """Lead the decided paths past the block, if its sides can do without its parameters."""
        sides = (self.branch.yes, self.branch.no)
        if sides[0] is sides[1]:
            return
        decided = [(goto, taken) for goto, taken in map(self._decided, self._gotos()) if taken is not None]
        read = self._read_by_sides(sides)
        if not decided or read is None:
            return
        added = [self._give_parameters(side, values) for side, values in zip(sides, read, strict=True)]
        for goto, taken in decided:
            given = dict(zip(self.block.parameters, goto.arguments, strict=True))
            values = read[0] if taken else read[1]
            goto.block = sides[0] if taken else sides[1]
            goto.arguments = [given[value] for value in values]
        for side, values, name in zip(sides, read, ("yes", "no"), strict=True):
            if values:
                between = self.function.block()
                between.operations.append(Goto(side, self.branch.location, list(values)))
                setattr(self.branch, name, between)
        for side, instead in zip(sides, added, strict=True):
            self._replace_below(side, instead)

    def _gotos(self) -> list[Goto]:
        ends = [block.operations[-1] for block in self.leading[self.block]]
        return [end for end in ends if isinstance(end, Goto) and end.block is self.block]

    def _decided(self, goto: Goto) -> tuple[Goto, bool | None]:
        given: dict[Any, Any] = dict(zip(self.block.parameters, goto.arguments, strict=True))
        left, right = given.get(self.branch.left, self.branch.left), given.get(self.branch.right, self.branch.right)
        source = next(each for each in self.leading[self.block] if each.operations[-1] is goto)
        return goto, outcome(self.branch, left, right, source, self.leading)

    def _read_by_sides(self, sides: tuple[Block, Block]) -> tuple[list[Value], list[Value]] | None:
        """The parameters that each side, or what only it leads to, reads; None if something else reads one."""
        found: tuple[list[Value], list[Value]] = ([], [])
        own = [side for side in (0, 1) if self.leading[sides[side]] == [self.block]]
        for parameter in self.block.parameters:
            for reader in self.readers[parameter]:
                if reader is self.block:
                    continue
                below = [side for side in own if self.dominators.dominates(sides[side], reader)]
                if not below:
                    return None
                if parameter not in found[below[0]] and not self._is_zero(parameter, below[0]):
                    found[below[0]].append(parameter)
        return found

    def _is_zero(self, parameter: Value, side: int) -> bool:
        """Whether the test says that a parameter is 0 on this side."""
        branch = self.branch
        tested = branch.left is parameter and branch.right == 0 and branch.bits == 64
        return tested and branch.code is (Jump.JEQ if side == 0 else Jump.JNE)

    def _give_parameters(self, side: Block, values: list[Value]) -> dict[Value, Any]:
        instead: dict[Value, Any] = {}
        for value in values:
            parameter = self.function.value(value.type, value.name)
            side.parameters.append(parameter)
            instead[value] = parameter
        for value in self.block.parameters:
            instead.setdefault(value, 0)
        return instead

    def _replace_below(self, side: Block, instead: dict[Value, Any]) -> None:
        for value in self.block.parameters:
            for reader in self.readers[value]:
                if reader is not self.block and self.dominators.dominates(side, reader):
                    for operation in reader.operations:
                        replace_operands(operation, {value: instead[value]})
                    replaced = instead[value]
                    if isinstance(replaced, Value):
                        self.readers.setdefault(replaced, []).append(reader)
