"""Values to the stack and back.

In: a function, and values for which there are too few registers. Out: the same, where each of these is stored where it
is defined, whole and aligned (what the verifier knows of a narrower one is lost before Linux 5.16, 354e8f1970f8), and
loaded again where it is read. A load is used again for some operations that follow, up to the next call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pybpfasm.compiler.backend.intervals import CALLS
from pybpfasm.ir.function import Block, Function
from pybpfasm.ir.operations import (
    Load,
    Location,
    Operation,
    Slot,
    StackAddress,
    Store,
    Value,
    replace_operands,
    result_of,
    values_of,
)

# For how many operations a load is used again; more, and these loads would themselves be too many.
_REUSED = 6


def spill(function: Function, order: Sequence[Block], values: Iterable[Value]) -> set[Value]:
    """Move the values; the new ones that take their place, which must not be moved again."""
    slots = {value: function.slot(8, value.name) for value in values}
    made: set[Value] = set()
    for block in order:
        first = block.operations[0].location
        written: list[Operation] = []
        if block is order[0]:
            written += _stores(function.parameters, slots, function.location)
        written += _stores(block.parameters, slots, first)
        again: dict[Value, Value] = {}
        since = 0
        for operation in block.operations:
            since += 1
            if since > _REUSED:
                again.clear()
                since = 0
            _reload(function, operation, slots, again, written, made)
            written.append(operation)
            if isinstance(operation, CALLS):
                again.clear()
            result = result_of(operation)
            if result is not None and result in slots:
                written += _stores([result], slots, operation.location)
        block.operations = written
    return made | set(slots)


def _stores(values: Iterable[Value], slots: dict[Value, Slot], location: Location) -> list[Operation]:
    return [Store(StackAddress(slots[value]), 0, 8, value, location) for value in values if value in slots]


def _reload(
    function: Function,
    operation: Operation,
    slots: dict[Value, Slot],
    again: dict[Value, Value],
    written: list[Operation],
    made: set[Value],
) -> None:
    wanted = [value for value in values_of(operation) if value in slots]
    if not wanted:
        return
    for value in wanted:
        if value not in again:
            loaded = function.value(value.type, value.name)
            written.append(Load(loaded, StackAddress(slots[value]), 0, 8, operation.location))
            again[value] = loaded
            made.add(loaded)
    replace_operands(operation, dict(again))
