"""A chain of comparisons of one value with constants, halved.

In: a function. Out: the same, where a value that is compared with four constants or more is first compared with one in
their middle, so that no outcome takes many tests. Limits: equality only, in blocks that have nothing but the test.

    if jeq %1, 3 goto block2 else block3     if jgt %1, 4 goto block7 else block8
    block3:                                  block8:
        if jeq %1, 4 goto … else block4          if jeq %1, 3 goto block2 else block9
    block4:                                  block9:
        if jeq %1, 5 goto … else block5          if jeq %1, 4 goto … else …
    …                                        …
"""

from __future__ import annotations

from collections.abc import Sequence

from pybpfasm.ir.function import Block, Function, predecessors, reverse_postorder
from pybpfasm.ir.operations import Branch, Location, Value
from pybpfasm.isa import Jump
from pybpfasm.records import define, frozen

# With fewer a test more on each way is not won back.
_FEWEST = 4


def halve_chains(function: Function) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    leading = predecessors(order)
    within: set[Block] = set()
    for block in order:
        if block not in within and _test(block) is not None:
            chain, otherwise = _chain(block, leading)
            if len(chain) >= _FEWEST:
                within |= {each.block for each in chain}
                _Halving(function, block, otherwise).write(chain)


@frozen
class _Case:
    """A test at the end of a block: where equal leads."""

    block: Block
    value: Value
    number: int
    bits: int
    goal: Block
    otherwise: Block
    location: Location


def _test(block: Block) -> _Case | None:
    end = block.operations[-1]
    if not isinstance(end, Branch) or not isinstance(end.left, Value) or not isinstance(end.right, int):
        return None
    number = end.right & (1 << end.bits) - 1
    if end.code is Jump.JEQ:
        return _Case(block, end.left, number, end.bits, end.yes, end.no, end.location)
    if end.code is Jump.JNE:
        return _Case(block, end.left, number, end.bits, end.no, end.yes, end.location)
    return None


def _chain(block: Block, leading: dict[Block, list[Block]]) -> tuple[list[_Case], Block]:
    """The cases from a block on, and where what equals none goes."""
    cases: list[_Case] = []
    case = _test(block)
    while case is not None:
        if cases and (case.value is not cases[0].value or case.bits != cases[0].bits):
            break
        if any(case.number == each.number for each in cases):
            break
        cases.append(case)
        block = case.otherwise
        if len(block.operations) != 1 or len(leading[block]) != 1 or block.parameters:
            break
        case = _test(block)
    return cases, block


@define
class _Halving:
    """Writes the tests anew, from the first block on."""

    function: Function
    first: Block
    otherwise: Block

    def write(self, cases: Sequence[_Case]) -> None:
        """The whole chain; the first block keeps what it does before its test."""
        self.first.operations.pop()
        self._search(self.first, cases)

    def _search(self, block: Block, cases: Sequence[_Case]) -> None:
        if len(cases) < _FEWEST:
            self._in_turn(block, cases)
            return
        by_number = sorted(cases, key=lambda each: each.number)
        middle = len(cases) // 2
        last = by_number[middle - 1]
        low, high = self.function.block(), self.function.block()
        block.operations.append(Branch(Jump.JGT, last.value, last.number, last.bits, high, low, last.location))
        for half, some in ((low, by_number[:middle]), (high, by_number[middle:])):
            self._search(half, [case for case in cases if case in some])

    def _in_turn(self, block: Block, cases: Sequence[_Case]) -> None:
        """The tests in the order of the source."""
        for case in cases:
            following = self.otherwise if case is cases[-1] else self.function.block()
            block.operations.append(
                Branch(Jump.JEQ, case.value, case.number, case.bits, case.goal, following, case.location)
            )
            block = following
