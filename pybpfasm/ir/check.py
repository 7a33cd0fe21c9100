"""What holds of every function of the intermediate form between two passes. Tests call it behind each pass."""

from __future__ import annotations

from collections.abc import Iterator

from pybpfasm.ir.dominators import Dominators
from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import (
    ENDS,
    AtomicUpdate,
    Binary,
    Branch,
    Call,
    CallFunction,
    CallKernel,
    Extend,
    Goto,
    Load,
    MayGoto,
    Operation,
    StackAddress,
    Store,
    Swap,
    Value,
    operands_of,
    result_of,
    values_of,
)
from pybpfasm.ir.text import format_operation
from pybpfasm.isa import Alu

_NO_OPERATIONS = (Alu.NEG, Alu.MOV, Alu.END)
_SIGNED = (Alu.DIV, Alu.MOD)
_MOST_ARGUMENTS = 5
_NUMBERS = range(-(1 << 63), 1 << 64)


class FormError(Exception):
    """A function is not in the form that passes rely on: the pass before has a fault."""


def check(function: Function) -> None:
    """Raise `FormError` with all that is wrong, a line each.

    Blocks end once. Each value is defined once, before it is read, on every way. A Goto hands over as many arguments as
    its block has parameters; the blocks of a branch have none. Sizes, numbers and places of the stack are possible.
    """
    order = reverse_postorder(function.entry) if all(_ended(function)) else []
    faults = list(_blocks(function)) or [*_definitions(function, order), *_uses(function, order), *_details(order)]
    if faults:
        raise FormError("\n".join([f"{function}:", *(f"    {each}" for each in faults)]))


def _reached(function: Function) -> Iterator[Block]:
    """The blocks, also where some do not end as they should."""
    seen: set[Block] = set()
    pending = [function.entry]
    while pending:
        block = pending.pop()
        if block not in seen:
            seen.add(block)
            yield block
            if block.ended:
                pending += block.successors()


def _ended(function: Function) -> Iterator[bool]:
    return (block.ended for block in _reached(function))


def _blocks(function: Function) -> Iterator[str]:
    if function.entry.parameters:
        yield f"{function.entry} is the entry and has parameters"
    for block in _reached(function):
        if not block.ended:
            yield f"{block} has no end"
            continue
        for operation in block.operations[:-1]:
            if isinstance(operation, ENDS):
                yield f"{block} goes on behind its end, {format_operation(operation)}"
        if function.entry in block.successors():
            yield f"{block} leads to the entry"
        match block.end:
            case Goto(block=target, arguments=arguments) if len(arguments) != len(target.parameters):
                wanted = len(target.parameters)
                yield f"{block} hands {len(arguments)} arguments to {target}, which has {wanted} parameters"
            case Branch() | MayGoto():
                yield from (
                    f"{block} branches to {each}, which has parameters"
                    for each in block.successors()
                    if each.parameters
                )


def _definitions(function: Function, order: list[Block]) -> Iterator[str]:
    seen: set[Value] = set()
    for value in _defined(function, order):
        if value in seen:
            yield f"{value} is defined twice"
        seen.add(value)


def _defined(function: Function, order: list[Block]) -> Iterator[Value]:
    yield from function.parameters
    for block in order:
        yield from block.parameters
        yield from (result for operation in block.operations if (result := result_of(operation)) is not None)


def _uses(function: Function, order: list[Block]) -> Iterator[str]:
    dominators = Dominators(order)
    home: dict[Value, Block] = dict.fromkeys(function.parameters, function.entry)
    for block in order:
        home.update(dict.fromkeys(block.parameters, block))
        for operation in block.operations:
            result = result_of(operation)
            if result is not None:
                home[result] = block
    for block in order:
        here = {*function.parameters, *block.parameters}
        for operation in block.operations:
            for value in values_of(operation):
                if value not in home:
                    yield f"{value} is read in {block} and defined nowhere: {format_operation(operation)}"
                elif value not in here and (home[value] is block or not dominators.dominates(home[value], block)):
                    yield f"{value} is read in {block} before it is defined: {format_operation(operation)}"
            result = result_of(operation)
            if result is not None:
                here.add(result)


def _details(order: list[Block]) -> Iterator[str]:
    for block in order:
        for operation in block.operations:
            wrong = _wrong(operation)
            if wrong is None:
                numbers = [each for each in operands_of(operation) if isinstance(each, int)]
                wrong = next((f"{each} has more than 64 bits" for each in numbers if each not in _NUMBERS), None)
            if wrong is not None:
                yield f"{wrong}: {format_operation(operation)}"


def _wrong(operation: Operation) -> str | None:
    match operation:
        case Binary(code=code, bits=bits, signed=signed):
            known = code not in _NO_OPERATIONS and bits in (32, 64) and (not signed or code in _SIGNED)
            return None if known else "there is no such arithmetic"
        case Branch(bits=bits):
            return None if bits in (32, 64) else "32 or 64 bits are compared"
        case Extend(bits=bits):
            return None if bits in (8, 16, 32) else "8, 16 or 32 bits are extended"
        case Swap(bits=bits):
            return None if bits in (16, 32, 64) else "16, 32 or 64 bits are swapped"
        case Load(base=base, offset=offset, size=size) | Store(base=base, offset=offset, size=size):
            if size not in (1, 2, 4, 8):
                return "1, 2, 4 or 8 bytes are moved"
            return _beyond(base, offset, size) if isinstance(base, StackAddress) else None
        case AtomicUpdate(size=size):
            return None if size in (4, 8) else "4 or 8 bytes are changed at once"
        case Call(arguments=arguments) | CallKernel(arguments=arguments) | CallFunction(arguments=arguments):
            return None if len(arguments) <= _MOST_ARGUMENTS else "five arguments at most have registers"
        case _:
            return None


def _beyond(base: StackAddress, offset: int, size: int) -> str | None:
    """A slot is aligned to 8 bytes, and so is its end."""
    start, end = base.offset + offset, -(-base.slot.size // 8) * 8
    return None if start >= 0 and start + size <= end else f"{base.slot} has {base.slot.size} bytes"
