"""Two passes that take away: operations whose result nobody reads, and blocks that only lead on to another.

In and out: blocks that only lead forward. Before and after:

    %1 = load32 [%0+4]          (nothing reads %1)
    if jeq %2, 0 goto b1 else b2          if jeq %2, 0 goto b3 else b2
    b1: goto b3
"""

from collections.abc import Sequence

import attrs

from pybpfasm.ir import (
    Binary,
    Block,
    Branch,
    Function,
    Goto,
    Load,
    Move,
    Operation,
    Register,
    Swap,
    blocks_in_order,
    sources_of,
    target_of,
)


def simplify(function: Function) -> list[Block]:
    """Run both passes; the blocks that are left, in order."""
    for block in blocks_in_order(function.entry):
        block.operations[-1] = _led_on(block.operations[-1])
    order = blocks_in_order(function.entry)
    _remove_unread(order)
    return order


def _led_on(operation: Operation) -> Operation:
    match operation:
        case Goto():
            return attrs.evolve(operation, block=_end_of_chain(operation.block))
        case Branch():
            yes, no = _end_of_chain(operation.yes), _end_of_chain(operation.no)
            if yes is no:
                return Goto(yes, operation.location)
            return attrs.evolve(operation, yes=yes, no=no)
        case _:
            return operation


def _end_of_chain(block: Block) -> Block:
    while len(block.operations) == 1 and isinstance(block.operations[0], Goto):
        block = block.operations[0].block
    return block


def _remove_unread(order: Sequence[Block]) -> None:
    read: set[Register] = set()
    for block in reversed(order):
        kept: list[Operation] = []
        for operation in reversed(block.operations):
            if _has_effect(operation) or target_of(operation) in read:
                kept.append(operation)
                read.update(sources_of(operation))
        block.operations[:] = reversed(kept)


def _has_effect(operation: Operation) -> bool:
    return not isinstance(operation, Move | Binary | Swap | Load)
