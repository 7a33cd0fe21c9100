"""Registers for virtual registers: linear scan over the blocks in order.

In: blocks that only lead forward. Out: for each virtual register a machine register or a piece of the stack. What lives
across a call goes to r6-r9, which calls keep, or to the stack; r4 and r5 stay free as scratch for the code emitter.
"""

from collections.abc import Sequence

import attrs

from pybpfasm.ir import Block, Call, Function, Move, Operation, Register, Return, Slot, sources_of, target_of

KEPT = (6, 7, 8, 9)
LOST = (1, 2, 3, 0)


@attrs.define
class Interval:
    """From a register's first write to its last read, as positions of operations; machine registers it would suit."""

    register: Register
    start: int
    end: int
    wishes: list[int] = attrs.field(factory=list)
    copies: Register | None = None


@attrs.frozen
class Allocation:
    """Where each virtual register lives: a machine register, or a slot of the stack."""

    registers: dict[Register, int]
    spilled: dict[Register, Slot]


def allocate(function: Function, order: Sequence[Block]) -> Allocation:
    """Give out registers. Slots for what is spilled have negative numbers, so that they meet no others."""
    operations = [operation for block in order for operation in block.operations]
    calls = [at for at, operation in enumerate(operations) if isinstance(operation, Call)]
    allocation = Allocation({}, {})
    active: list[Interval] = []
    slots: dict[Slot, int] = {}  # with the last operation that needs each
    for interval in sorted(_intervals(function, operations), key=lambda each: (each.start, each.register.number)):
        # A register that is read for the last time where another is first written can be taken over by it.
        active = [other for other in active if other.end > interval.start]
        taken = {allocation.registers[other.register] for other in active}
        kept = any(interval.start < call < interval.end for call in calls)
        free = [number for number in _candidates(interval, allocation, kept=kept) if number not in taken]
        if free:
            allocation.registers[interval.register] = free[0]
            active.append(interval)
        else:
            unused = (slot for slot, end in slots.items() if end < interval.start)
            slot = next(unused, Slot(-1 - len(slots), 8))
            slots[slot] = interval.end
            allocation.spilled[interval.register] = slot
    return allocation


def _candidates(interval: Interval, allocation: Allocation, *, kept: bool) -> list[int]:
    usable = KEPT if kept else LOST + KEPT
    wishes = list(interval.wishes)
    if interval.copies in allocation.registers:
        wishes.insert(0, allocation.registers[interval.copies])
    return [number for number in wishes if number in usable] + list(usable)


def _intervals(function: Function, operations: list[Operation]) -> list[Interval]:
    found = {function.context: Interval(function.context, -1, -1, [1])}
    for at, operation in enumerate(operations):
        for source in sources_of(operation):
            found[source].end = at
        _note_wishes(operation, found)
        target = target_of(operation)
        if target is not None:
            interval = found.setdefault(target, Interval(target, at, at))
            interval.end = at
            if isinstance(operation, Call):
                interval.wishes.append(0)
            elif isinstance(operation, Move) and isinstance(operation.source, Register):
                interval.copies = operation.source
    return list(found.values())


def _note_wishes(operation: Operation, found: dict[Register, Interval]) -> None:
    match operation:
        case Call(arguments=arguments):
            for number, argument in enumerate(arguments, start=1):
                if isinstance(argument, Register):
                    found[argument].wishes.append(number)
        case Return(value=Register() as value):
            found[value].wishes.append(0)
        case _:
            pass
