"""Constants that are stored side by side in the value of a map are stored at once.

In: a function. Out: the same bytes written. Limits: stores that follow each other, of an even number of pieces of one
size, where the wider store is aligned (values of maps are, to 8 bytes) and its number is one of 32 bits.

    store32 [%1+48], 0                       store64 [%1+48], 0
    store32 [%1+52], 0
"""

from __future__ import annotations

import itertools
from typing import Any

from pybpfasm.compiler.passes.arithmetic import signed
from pybpfasm.ir.function import Function, reverse_postorder
from pybpfasm.ir.operations import Operation, Store, Value
from pybpfasm.ir.types import Kind


def join_neighbours(function: Function) -> None:
    """Run the pass."""
    for block in reverse_postorder(function.entry):
        if sum(map(_is_candidate, block.operations)) > 1:
            block.operations = _joined(block.operations)


def _is_candidate(operation: Operation) -> bool:
    return (
        isinstance(operation, Store)
        and not operation.volatile
        and isinstance(operation.source, int)
        and isinstance(operation.base, Value)
        and operation.base.type.kind is Kind.MAP_VALUE
    )


def _joined(operations: list[Operation]) -> list[Operation]:
    written: list[Operation] = []
    run: list[Any] = []
    for operation in operations:
        if run and not (_is_candidate(operation) and operation.base is run[0].base):  # type: ignore[union-attr]
            written += _join(run)
            run = []
        if _is_candidate(operation):
            run.append(operation)
        else:
            written.append(operation)
    return written


def _join(run: list[Store]) -> list[Store]:
    spans = sorted((store.offset, store.offset + store.size) for store in run)
    if any(start < end for (_, end), (start, _) in itertools.pairwise(spans)):
        return run  # one writes over another: their order counts
    by_offset = {store.offset: store for store in run}
    joined = True
    while joined:
        joined = False
        for offset in sorted(by_offset):
            store = by_offset.get(offset)
            other = by_offset.get(offset + store.size) if store is not None else None
            if store is not None and other is not None and _fit(store, other):
                store.source = _number(store, other)
                store.size *= 2
                del by_offset[other.offset]
                joined = True
    return [store for store in run if by_offset.get(store.offset) is store]


def _fit(store: Store, other: Store) -> bool:
    if store.size != other.size or store.size == 8 or store.offset % (2 * store.size):
        return False
    return store.size < 4 or -(1 << 31) <= signed(_number(store, other)) < 1 << 31


def _number(low: Store, high: Store) -> int:
    assert isinstance(low.source, int) and isinstance(high.source, int)  # noqa: S101, PT018 - as candidates are chosen
    mask = (1 << 8 * low.size) - 1
    return low.source & mask | (high.source & mask) << 8 * low.size
