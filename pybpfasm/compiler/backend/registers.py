"""Registers for values: linear scan over intervals with holes.

What is needed across a call gets one of r6 to r9, which calls keep. Where there are too few registers, a value that is
seldom read and long needed is moved to the stack (`spill.py`), and the scan starts again: no register is set aside.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybpfasm.compiler.backend.intervals import Interval, Liveness, Range
from pybpfasm.compiler.backend.spill import spill
from pybpfasm.ir.function import Block, Function
from pybpfasm.ir.operations import Value
from pybpfasm.records import frozen

_LOST = (1, 2, 3, 4, 5, 0)
_KEPT = (6, 7, 8, 9)
_ALL = _LOST + _KEPT


@frozen
class Allocation:
    """The register of each value. Also of one that is never read: it has to be written somewhere."""

    registers: dict[Value, int]
    liveness: Liveness

    def busy_behind(self, block: Block) -> set[int]:
        """The registers in use at the end of a block."""
        return {self.registers[value] for value in self.liveness.needed_behind(block)}


def allocate(function: Function, order: Sequence[Block]) -> Allocation:
    """Give out registers; the function is changed where values are moved to the stack."""
    made: set[Value] = set()
    while True:
        liveness = Liveness(function, order)
        scan = _Scan(liveness, made)
        if not scan.too_many:
            return Allocation(scan.registers, liveness)
        made |= spill(function, order, scan.too_many)


class _Scan:
    """One scan. `too_many` are the values for which there was no register; `made` those that spilling made."""

    def __init__(self, liveness: Liveness, made: set[Value]) -> None:
        self.registers: dict[Value, int] = {}
        self.too_many: list[Value] = []
        self._made = made
        self._taken: dict[int, list[tuple[Range, Interval]]] = {number: [] for number in _ALL}
        self._liveness = liveness
        for interval in liveness.intervals:
            self._place(interval)

    def _place(self, interval: Interval) -> None:
        start = interval.start
        for number, taken in self._taken.items():
            self._taken[number] = [each for each in taken if each[0][1] > start]
        for number in self._candidates(interval):
            if not interval.forbidden >> number & 1 and self._is_free(number, interval):
                self._give(number, interval)
                return
        self._make_room(interval)

    def _candidates(self, interval: Interval) -> list[int]:
        near: list[int] = []
        wishes = list(interval.wishes)
        for value in interval.near:
            if value in self.registers:
                near.append(self.registers[value])
            else:
                other = self._liveness.of(value)
                wishes += [number for number in (*other.wishes, *self._room_for(other)) if number not in wishes]
        return [*near, *wishes, *_ALL]

    def _room_for(self, other: Interval) -> list[int]:
        """Registers that a value which comes later can have, where it cannot have all."""
        if not other.forbidden:
            return []
        return [number for number in _ALL if not other.forbidden >> number & 1 and self._is_free(number, other)]

    def _is_free(self, number: int, interval: Interval) -> bool:
        taken = self._taken[number]
        return not any(
            begin < other_end and other_begin < end
            for (other_begin, other_end), _ in taken
            for begin, end in interval.ranges
        )

    def _give(self, number: int, interval: Interval) -> None:
        self.registers[interval.value] = number
        self._taken[number] += [(each, interval) for each in interval.ranges]

    def _make_room(self, interval: Interval) -> None:
        """Of those that stand in the way and this one, the one that costs least goes to the stack."""
        best, best_number = interval, -1
        for number in _ALL:
            if interval.forbidden >> number & 1:
                continue
            against = self._against(number, interval)
            if len(against) == 1 and _cost(against[0], self._made) < _cost(best, self._made):
                best, best_number = against[0], number
        self.too_many.append(best.value)
        if best_number >= 0:
            self._taken[best_number] = [each for each in self._taken[best_number] if each[1] is not best]
            del self.registers[best.value]
            self._give(best_number, interval)

    def _against(self, number: int, interval: Interval) -> list[Interval]:
        found: list[Interval] = []
        for (begin, end), other in self._taken[number]:
            if other not in found and any(begin < until and since < end for since, until in interval.ranges):
                found.append(other)
        return found


def _cost(interval: Interval, made: set[Value]) -> float:
    if interval.value in made:
        return float("inf")
    return interval.uses / (interval.end - interval.start)
