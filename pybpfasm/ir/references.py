"""Which functions a function calls, or hands to helpers that call them."""

from pybpfasm.ir.function import Function, reverse_postorder
from pybpfasm.ir.operations import CallFunction, FunctionReference, operands_of


def functions_named(function: Function) -> list[Function]:
    """Each once, in the order in which they are named."""
    found: dict[Function, None] = {}
    for block in reverse_postorder(function.entry):
        for operation in block.operations:
            if isinstance(operation, CallFunction):
                found[operation.function] = None
            for operand in operands_of(operation):
                if isinstance(operand, FunctionReference):
                    found[operand.function] = None
    return list(found)
