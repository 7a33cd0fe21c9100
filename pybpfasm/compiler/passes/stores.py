"""Stores to the stack, fewer and wider.

In: a function, and how many bits its values have. Out: the same bytes written. Constants of one piece of the stack are
written first, as wide as they go, also over bytes that values get afterwards; a value whose upper bits are zero is
stored over the zeros behind it; two loads and stores that copy neighbours are one.

    store32 [&slot0], %1                     store64 [&slot0+8], 0
    store64 [&slot0+8], 0                    store64 [&slot0], %1        (%1 has 32 bits)
    store16 [&slot0+8], %2                   store16 [&slot0+8], %2
    store32 [&slot0+4], 0

Limits: within a block, between two moments at which somebody else may look at the piece.
"""

from __future__ import annotations

from pybpfasm.compiler.passes.arithmetic import signed
from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import (
    Assembly,
    AtomicUpdate,
    Call,
    CallFunction,
    CallKernel,
    Copy,
    Goto,
    Load,
    Operation,
    Slot,
    StackAddress,
    Store,
    Value,
    operands_of,
    values_of,
)
from pybpfasm.records import define, field

_CALLS = (Call, CallKernel, CallFunction, Assembly)


def merge_stores(function: Function, bits: dict[Value, int]) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    escaped = _escaped(order)
    uses = _uses(order)
    for block in order:
        _Merging(block, escaped, bits, uses).run()


def _escaped(order: list[Block]) -> set[Slot]:
    """Pieces of the stack whose address is kept, so that any call may look at them."""
    found: set[Slot] = set()
    for block in order:
        for operation in block.operations:
            if isinstance(operation, Copy | Goto | CallFunction):
                found.update(each.slot for each in operands_of(operation) if isinstance(each, StackAddress))
    return found


def _uses(order: list[Block]) -> dict[Value, int]:
    found: dict[Value, int] = {}
    for block in order:
        for operation in block.operations:
            for value in values_of(operation):
                found[value] = found.get(value, 0) + 1
    return found


@define(eq=False)
class _Merging:
    """One block. `open` has the stores to each piece since somebody else may have looked at it, by position."""

    block: Block
    escaped: set[Slot]
    bits: dict[Value, int]
    uses: dict[Value, int]
    open: dict[Slot, list[int]] = field(factory=dict)
    removed: set[int] = field(factory=set)
    added: dict[int, list[Operation]] = field(factory=dict)

    def run(self) -> None:
        """Collect, merge, and write the block anew."""
        for at, operation in enumerate(self.block.operations):
            self._note(at, operation)
        for slot in list(self.open):
            self._close(slot)
        if self.removed or self.added:
            written: list[Operation] = []
            for at, operation in enumerate(self.block.operations):
                written += self.added.get(at, ())
                if at not in self.removed:
                    written.append(operation)
            self.block.operations = written

    def _note(self, at: int, operation: Operation) -> None:
        if isinstance(operation, Store) and isinstance(operation.base, StackAddress):
            if operation.volatile:
                self._close(operation.base.slot)
            else:
                self.open.setdefault(operation.base.slot, []).append(at)
            return
        if not self.open:
            return
        if isinstance(operation, _CALLS):
            for slot in [each for each in self.open if each in self.escaped]:
                self._close(slot)
        if isinstance(operation, Load | Store | AtomicUpdate) and isinstance(operation.base, Value):
            for slot in [each for each in self.open if each in self.escaped]:
                self._close(slot)
        for operand in operands_of(operation):
            if isinstance(operand, StackAddress):
                self._close(operand.slot)

    def _close(self, slot: Slot) -> None:
        group = self.open.pop(slot, [])
        if len(group) > 1:
            self._merge(slot, group)

    def _merge(self, slot: Slot, group: list[int]) -> None:
        owner: dict[int, int] = {}
        for at in group:
            store = self._store(at)
            start = _start(store)
            for byte in range(start, start + store.size):
                owner[byte] = at
        held: dict[int, int] = {}
        for at in owner.values():
            held[at] = held.get(at, 0) + 1
        values = [at for at in group if isinstance(self._store(at).source, Value)]
        if any(0 < held.get(at, 0) < self._store(at).size for at in values):
            return  # a part of a value is written over: leave it as the author has it
        self.removed.update(at for at in values if at not in held)
        values = [at for at in values if at in held]
        constants = {byte: self._byte(at, byte) for byte, at in owner.items() if at not in values}
        values = self._join_copies(values)
        taken = {byte for at in values for byte in _bytes(self._store(at))}
        self._widen(slot, values, constants, taken)
        self.removed.update(at for at in group if isinstance(self._store(at).source, int))
        first = self._store(group[0])
        stores = [
            Store(StackAddress(slot), start, size, number, first.location)
            for start, size, number in _cover_all(constants, taken, slot.size)
        ]
        if stores:
            self.added.setdefault(group[0], []).extend(stores)

    def _store(self, at: int) -> Store:
        store = self.block.operations[at]
        assert isinstance(store, Store)  # noqa: S101 - only stores are collected
        return store

    def _byte(self, at: int, byte: int) -> int:
        store = self._store(at)
        assert isinstance(store.source, int)  # noqa: S101 - asked of constants only
        return store.source >> 8 * (byte - _start(store)) & 0xFF

    def _join_copies(self, values: list[int]) -> list[int]:
        """Two neighbours that are copied from two neighbours are copied at once."""
        by_start = {_start(self._store(at)): at for at in values}
        joined = True
        while joined:
            joined = False
            for start in sorted(by_start):
                at = by_start.get(start)
                if at is None:
                    continue
                size = self._store(at).size
                other = by_start.get(start + size)
                if other is not None and size <= 4 and start % (2 * size) == 0 and self._copies_on(at, other, size):
                    self._copy_both(at, other, size)
                    del by_start[start + size]
                    joined = True
        return [at for at in values if at not in self.removed]

    def _copies_on(self, at: int, other: int, size: int) -> bool:
        one, two = self._loaded(at), self._loaded(other)
        if one is None or two is None or self._store(other).size != size:
            return False
        first, second = self.block.operations[one], self.block.operations[two]
        assert isinstance(first, Load) and isinstance(second, Load)  # noqa: S101, PT018 - as _loaded finds them
        neighbours = first.base is second.base and first.size == second.size == size
        if not neighbours or second.offset != first.offset + size or first.offset % (2 * size):
            return False
        between = self.block.operations[min(one, two) + 1 : max(one, two)]
        return one < at and not any(_may_change(each) for each in between)

    def _loaded(self, at: int) -> int | None:
        """Where the value that a store writes is loaded, for nothing else."""
        source = self._store(at).source
        if not isinstance(source, Value) or self.uses.get(source) != 1:
            return None
        for position in range(at - 1, -1, -1):
            operation = self.block.operations[position]
            if getattr(operation, "result", None) is source:
                whole = isinstance(operation, Load) and not operation.volatile and isinstance(operation.base, Value)
                kind = operation.base.type.kind.value if whole else ""  # type: ignore[union-attr]
                return position if kind in ("map_value", "memory") and position not in self.removed else None
        return None

    def _copy_both(self, at: int, other: int, size: int) -> None:
        one, two = self._loaded(at), self._loaded(other)
        assert one is not None and two is not None  # noqa: S101, PT018 - both were found
        load = self.block.operations[one]
        assert isinstance(load, Load)  # noqa: S101 - likewise
        load.size = self._store(at).size = 2 * size
        load.signed = False
        self.bits.pop(load.result, None)
        self.removed.update((two, other))

    def _widen(self, slot: Slot, values: list[int], constants: dict[int, int], taken: set[int]) -> None:
        for at in values:
            store = self._store(at)
            start = _start(store)
            for size in (8, 4, 2):
                behind = range(start + store.size, start + size)
                fits = size > store.size and start % size == 0 and start + size <= slot.size
                if not fits or self.bits.get(store.source, 64) > store.size * 8:  # type: ignore[arg-type]  # a value
                    continue
                if any(constants.get(byte) != 0 for byte in behind):
                    continue
                fewer = {byte: number for byte, number in constants.items() if byte not in behind}
                before = len(_cover_all(constants, taken, slot.size))
                if len(_cover_all(fewer, taken | set(behind), slot.size)) < before:
                    store.size = size
                    taken.update(behind)
                    for byte in behind:
                        del constants[byte]
                    break


def _start(store: Store) -> int:
    assert isinstance(store.base, StackAddress)  # noqa: S101 - only such are collected
    return store.base.offset + store.offset


def _bytes(store: Store) -> range:
    return range(_start(store), _start(store) + store.size)


def _may_change(operation: Operation) -> bool:
    if isinstance(operation, Store):
        return not isinstance(operation.base, StackAddress)
    return isinstance(operation, AtomicUpdate | Call | CallKernel | CallFunction | Assembly)


Piece = tuple[int, int, int]


def _cover_all(constants: dict[int, int], taken: set[int], size: int) -> list[Piece]:
    """The fewest stores of constants: start, size and number of each."""
    pieces: list[Piece] = []
    for word in sorted({byte & ~7 for byte in constants}):
        pieces += _cover(word, 8, constants, taken, size)
    return pieces


def _cover(start: int, width: int, constants: dict[int, int], taken: set[int], size: int) -> list[Piece]:
    wanted = [byte for byte in range(start, start + width) if byte in constants]
    if not wanted:
        return []
    if start + width <= size and all(byte in constants or byte in taken for byte in range(start, start + width)):
        number = _as_one(start, width, constants)
        if number is not None:
            return [(start, width, number)]
    if width == 1:
        return [(start, 1, constants[start])]
    half = width // 2
    return _cover(start, half, constants, taken, size) + _cover(start + half, half, constants, taken, size)


def _as_one(start: int, width: int, constants: dict[int, int]) -> int | None:
    """The number whose bytes these are, if a store can have it as its immediate; what is missing may be anything."""
    number = sum(constants.get(start + index, 0) << 8 * index for index in range(width))
    if width < 8:
        return number
    number = signed(number)
    return number if -(1 << 31) <= number < 1 << 31 else None
