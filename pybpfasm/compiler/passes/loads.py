"""What was loaded or computed is not loaded or computed again.

In: a function. Out: the same, with later equal loads and sums replaced by earlier results. Limits: nothing is known
where a loop begins, and nothing behind a call: what lives across one needs a register that calls keep, and a load is
as short as a move.

    %1 = load32 [%0+8]                       %1 = load32 [%0+8]
    if jne %1, 0 goto …                      if jne %1, 0 goto …
    %2 = load32 [%0+8]                       (gone: %1)
"""

from __future__ import annotations

from typing import Any

from pybpfasm.ir.function import Block, Function, predecessors, reverse_postorder
from pybpfasm.ir.operations import (
    Assembly,
    AtomicUpdate,
    Base,
    Binary,
    Call,
    CallFunction,
    CallKernel,
    Copy,
    Extend,
    Load,
    MapValueAddress,
    Operation,
    StackAddress,
    Store,
    Swap,
    Value,
    replace_operands,
)
from pybpfasm.ir.types import Kind

# How much is remembered at a time; the oldest goes first.
_MOST = 48

_CALLS = (Call, CallKernel, CallFunction, Assembly)

# Kinds of memory that no other kind overlaps; all others are one class.
_CLASSES = {
    Kind.CONTEXT: "context",
    Kind.STACK: "stack",
    Kind.PACKET: "packet",
    Kind.PACKET_META: "packet",
    Kind.SOCKET: "socket",
    Kind.KERNEL: "kernel",
}

Table = dict[Any, Any]


def reuse_loads(function: Function) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    leading = predecessors(order)
    behind: dict[Block, Table] = {}
    instead: dict[Value, Any] = {}
    for block in order:
        known = _known_on_all(leading[block], behind)
        block.operations = [each for each in block.operations if not _repeats(each, known, instead)]
        behind[block] = known
    if instead:
        for block in order:
            for operation in block.operations:
                replace_operands(operation, instead)


def _known_on_all(above: list[Block], behind: dict[Block, Table]) -> Table:
    """What each way to a block knows, as long as no way closes a loop."""
    if not above or any(each not in behind for each in above):
        return {}
    first, *others = (behind[each] for each in above)
    if not others:
        return dict(first)
    return {key: value for key, value in first.items() if all(other.get(key) is value for other in others)}


def _repeats(operation: Operation, known: Table, instead: dict[Value, Any]) -> bool:
    """Whether the operation's result is known, or note what it tells."""
    if instead:
        replace_operands(operation, instead)
    if isinstance(operation, _CALLS):
        known.clear()
        return False
    if isinstance(operation, Store | AtomicUpdate):
        _forget(operation.base, operation.offset, operation.size, known)
        if isinstance(operation, Store):
            _note_stored(operation, known)
        return False
    key = _key(operation)
    if key is None:
        return False
    if key in known:
        instead[operation.result] = known[key]  # type: ignore[union-attr]  # what has a key has a result
        return True
    if len(known) >= _MOST:
        del known[next(iter(known))]
    known[key] = operation.result  # type: ignore[union-attr]
    return False


def _key(operation: Operation) -> Any:
    match operation:
        case Load(volatile=False):
            return (Load, operation.base, operation.offset, operation.size, operation.signed)
        case Binary():
            return (Binary, operation.code, operation.left, operation.right, operation.bits, operation.signed)
        case Swap() | Extend():
            return (type(operation), operation.source, operation.bits, getattr(operation, "signed", False))
        case Copy(source=MapValueAddress() as source):
            return (Copy, source)
        case _:
            return None


def _forget(base: Base, offset: int, size: int, known: Table) -> None:
    """Drop what a store may change."""
    class_ = _class(base)
    gone = [
        key
        for key in known
        if key[0] is Load and _class(key[1]) == class_ and not (_same(key[1], base) and _apart(key, base, offset, size))
    ]
    for key in gone:
        del known[key]


def _same(one: Base, other: Base) -> bool:
    """Whether two bases differ by a constant at most; pieces of the stack by their number, too."""
    if isinstance(one, StackAddress) and isinstance(other, StackAddress):
        return True
    return one is other or (isinstance(one, MapValueAddress) and isinstance(other, MapValueAddress) and one == other)


def _apart(key: Any, base: Base, offset: int, size: int) -> bool:
    _, other, other_offset, other_size, _ = key
    if isinstance(base, StackAddress):
        if other.slot is not base.slot:
            return True
        offset, other_offset = offset + base.offset, other_offset + other.offset
    return bool(other_offset + other_size <= offset or offset + size <= other_offset)


def _note_stored(operation: Store, known: Table) -> None:
    """What was stored is what a load of it gives."""
    source = operation.source
    if operation.volatile or _class(operation.base) in ("context", "packet"):
        return
    if isinstance(source, int):
        source &= (1 << operation.size * 8) - 1
    elif operation.size != 8:
        return
    known[(Load, operation.base, operation.offset, operation.size, False)] = source


def _class(base: Base) -> str:
    if isinstance(base, StackAddress):
        return "stack"
    if isinstance(base, MapValueAddress):
        return "memory"
    return _CLASSES.get(base.type.kind, "memory")
