"""Which blocks come before which on every way (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm)."""

from __future__ import annotations

from collections.abc import Sequence

from pybpfasm.ir.function import Block, predecessors


class Dominators:
    """The dominator tree of blocks in reverse postorder, the first of which is the entry."""

    def __init__(self, order: Sequence[Block]) -> None:
        self._number = {block: index for index, block in enumerate(order)}
        self._above = self._find(order)
        self._first: dict[Block, int] = {}
        self._last: dict[Block, int] = {}
        self._walk(order)

    def dominates(self, one: Block, other: Block) -> bool:
        """Whether every way from the entry to `other` leads through `one`; a block dominates itself."""
        return self._first[one] <= self._first[other] and self._last[other] <= self._last[one]

    def above(self, block: Block) -> Block:
        """The nearest other block that dominates this one; the entry for the entry."""
        return self._above[block]

    def common(self, one: Block, other: Block) -> Block:
        """The nearest block that dominates both."""
        while one is not other:
            if self._number[one] > self._number[other]:
                one = self._above[one]
            else:
                other = self._above[other]
        return one

    def _find(self, order: Sequence[Block]) -> dict[Block, Block]:
        leading = predecessors(list(order))
        self._above = above = {order[0]: order[0]}
        changed = True
        while changed:
            changed = False
            for block in order[1:]:
                known = [each for each in leading[block] if each in above]
                found = known[0]
                for each in known[1:]:
                    found = self.common(found, each)
                if above.get(block) is not found:
                    above[block] = found
                    changed = True
        return above

    def _walk(self, order: Sequence[Block]) -> None:
        below: dict[Block, list[Block]] = {block: [] for block in order}
        for block in order[1:]:
            below[self._above[block]].append(block)
        at = 0
        pending: list[tuple[Block, bool]] = [(order[0], False)]
        while pending:
            block, done = pending.pop()
            if done:
                self._last[block] = at
            else:
                self._first[block] = at
                pending.append((block, True))
                pending += [(each, False) for each in below[block]]
            at += 1
