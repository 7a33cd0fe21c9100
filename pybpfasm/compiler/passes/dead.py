"""Removal of what nobody reads.

In: a function. Out: the same without operations that have no effect and whose result is not read, also around loops.

    %3 = load32 [%0+4]                       (gone, if nothing reads %3)
"""

from pybpfasm.ir.function import Function, reverse_postorder
from pybpfasm.ir.operations import Binary, Copy, Extend, Goto, Load, Operation, Swap, Value, result_of, values_of

_PURE = frozenset((Binary, Copy, Extend, Swap, Load))


def remove_dead(function: Function) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    made: dict[Value, Operation] = {}
    feeding: dict[Value, list[Value]] = {}
    pending: list[Value] = []
    for block in order:
        for operation in block.operations:
            if _is_pure(operation):
                made[result_of(operation)] = operation  # type: ignore[index]  # what is pure has a result
            elif isinstance(operation, Goto):
                for parameter, argument in zip(operation.block.parameters, operation.arguments, strict=True):
                    if isinstance(argument, Value):
                        feeding.setdefault(parameter, []).append(argument)
            else:
                pending += values_of(operation)
    read: set[Value] = set()
    while pending:
        value = pending.pop()
        if value in read:
            continue
        read.add(value)
        pending += feeding.get(value, ())
        if value in made:
            pending += values_of(made[value])
    for block in order:
        block.operations = [each for each in block.operations if not _is_pure(each) or result_of(each) in read]
        end = block.operations[-1]
        if isinstance(end, Goto):
            kept = [parameter in read for parameter in end.block.parameters]
            end.arguments = [argument for argument, keep in zip(end.arguments, kept, strict=True) if keep]
    for block in order:
        block.parameters = [parameter for parameter in block.parameters if parameter in read]


def _is_pure(operation: Operation) -> bool:
    return type(operation) in _PURE and not (type(operation) is Load and operation.volatile)
