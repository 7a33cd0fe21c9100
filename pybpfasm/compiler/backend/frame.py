"""Where the pieces of a function's stack frame lie. Pieces that are not needed at the same time share their bytes.

A piece is needed from its first access to its last, in the order of the blocks, and all around a loop that it is
accessed in: whether a write comes before each read is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybpfasm.ir.function import Block
from pybpfasm.ir.operations import Copy, Goto, Operation, Slot, StackAddress, operands_of
from pybpfasm.records import define

FRAME_POINTER = 10

_UPPER_HALF = 4


@define
class _Need:
    """The positions of the first and the last operation that needs a piece."""

    slot: Slot
    first: int
    last: int


class Frame:
    """Offsets below the frame pointer; `size` is how many bytes are used. Pieces begin at multiples of 8.

    One of four bytes or fewer, such as a map's key, lies in the upper half of eight: of a constant that is stored at a
    multiple of 8 the verifier keeps the value (save_register_state), and goes through what follows once a value.
    """

    def __init__(self, order: Sequence[Block]) -> None:
        self.size = 0
        self._offsets: dict[Slot, int] = {}
        self._scratch = 0
        self._place(_needs(order))

    def offset(self, slot: Slot) -> int:
        """Where a piece lies."""
        return self._offsets[slot]

    def scratch(self) -> int:
        """Eight bytes that nothing else uses."""
        if self._scratch == 0:
            self._scratch = self._take(8)
        return self._scratch

    def _place(self, needs: list[_Need]) -> None:
        """Each piece where one of its size lay that is needed no more, or below all others."""
        ended: dict[int, list[tuple[int, int]]] = {}
        for need in needs:
            size = -(-need.slot.size // 8) * 8
            again = ended.setdefault(size, [])
            found = next((each for each in again if each[0] < need.first), None)
            if found is not None:
                again.remove(found)
            offset = self._take(size) if found is None else found[1]
            self._offsets[need.slot] = offset + (_UPPER_HALF if need.slot.size <= _UPPER_HALF else 0)
            again.append((need.last, offset))

    def _take(self, size: int) -> int:
        self.size += size
        return -self.size


def _needs(order: Sequence[Block]) -> list[_Need]:
    found: dict[Slot, _Need] = {}
    starts: dict[Block, int] = {}
    loops: list[tuple[int, int]] = []
    kept: set[Slot] = set()
    at = 0
    for block in order:
        starts[block] = at
        for operation in block.operations:
            for slot in _slots_of(operation):
                need = found.setdefault(slot, _Need(slot, at, at))
                need.last = at
                if isinstance(operation, Copy | Goto):
                    kept.add(slot)
            at += 1
        loops += [(starts[each], at) for each in block.successors() if each in starts]
    for slot in kept:
        found[slot].first, found[slot].last = -1, at
    if loops:
        for need in found.values():
            _around_loops(need, loops)
    return sorted(found.values(), key=lambda each: (each.first, each.slot.number))


def _slots_of(operation: Operation) -> list[Slot]:
    return [each.slot for each in operands_of(operation) if isinstance(each, StackAddress)]


def _around_loops(need: _Need, loops: list[tuple[int, int]]) -> None:
    changed = True
    while changed:
        changed = False
        for start, end in loops:
            if need.first <= end and start <= need.last and (start < need.first or need.last < end):
                need.first, need.last = min(start, need.first), max(end, need.last)
                changed = True
