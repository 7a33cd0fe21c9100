"""Pointers that maps hold: exchanged for others, or for None."""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.access import on_stack
from pybpfasm.compiler.frontend.values import Constant, KernelType, Place, Pointer, Value, describe
from pybpfasm.ir.operations import Call, Number
from pybpfasm.ir.types import Kind, Type
from pybpfasm.lang.kptrs import kptr_xchg
from pybpfasm.lang.types import KptrType
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class Kptrs:
    """Compiles `kptr_xchg`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each function."""
        return {kptr_xchg: self._exchange}

    def _exchange(self, node: ast.Call) -> Pointer:
        lowering = self._lowering
        bound = lowering.calls.bind(node, kptr_xchg)
        place, target = self._place(bound["place"])
        pointer = self._pointer(bound["pointer"], target)
        result = lowering.value(Type(Kind.KERNEL, nullable=True))
        arguments = (lowering.memory.address(place, node), pointer)
        lowering.emit(Call(result, Helper.KPTR_XCHG, arguments, lowering.location(node)))
        return Pointer(result, target, nullable=True, kind=Kind.KERNEL)

    def _place(self, node: ast.expr) -> tuple[Place, KernelType]:
        lowering = self._lowering
        found: Any = None
        if isinstance(node, ast.Attribute):
            found = lowering.memory.field(node, lowering.expressions.value(node.value))
        if not isinstance(found, Place) or not isinstance(found.type, KptrType):
            lowering.fail(node, "a field of a map's value that is a Kptr is wanted, as in kptr_xchg(entry.task, None)")
        if on_stack(found.base):
            lowering.fail(node, "this is on the stack, which holds no pointer: exchange that of a map's value")
        return found, KernelType(found.type.declared)

    def _pointer(self, node: ast.expr, target: KernelType) -> Number:
        value = self._lowering.expressions.value(node)
        if isinstance(value, Constant) and value.value is None:
            return 0
        if not isinstance(value, Pointer) or value.target != target or value.kind is not Kind.KERNEL:
            reason = f"a {target.name} that was acquired, or None, is wanted, this is {describe(value)}"
            self._lowering.fail(node, reason)
        if value.nullable:
            self._lowering.fail(node, "this may be None: test it first")
        return value.operand
