"""Room in a ring buffer: reserved, filled in place, handed over."""

import ast
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.values import Constant, Pointer, Value, describe
from pybpfasm.ir.operations import Call
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import Kind, Type
from pybpfasm.lang.queues import RingBuf
from pybpfasm.lang.types import is_record
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class RingBuffers:
    """Compiles `reserve`, `submit` and `discard`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def call(self, node: ast.Call, buffer: RingBuf, name: str) -> Value:
        """The result of one of the three."""
        return self._reserve(node, buffer) if name == "reserve" else self._hand_over(node, buffer, name)

    def _reserve(self, node: ast.Call, buffer: RingBuf) -> Pointer:
        lowering = self._lowering
        argument = lowering.calls.bind(node, buffer.reserve)["as_type"]
        struct = lowering.expressions.constant(argument)
        if not is_record(struct):
            lowering.fail(argument, "a Struct is wanted")
        layout = struct.__layout__
        result = lowering.value(Type(Kind.MEMORY, nullable=True))
        arguments = (lowering.maps.address(node, buffer), layout.size, 0)
        lowering.emit(Call(result, Helper.RINGBUF_RESERVE, arguments, lowering.location(node)))
        return Pointer(result, layout, nullable=True)

    def _hand_over(self, node: ast.Call, buffer: RingBuf, name: str) -> Value:
        lowering = self._lowering
        bound = lowering.calls.bind(node, getattr(buffer, name))
        value = lowering.expressions.value(bound["event"])
        flags = lowering.expressions.number(bound["flags"]) if "flags" in bound else Constant(0)
        if isinstance(value, Pointer) and value.nullable:
            lowering.fail(bound["event"], "this may be None: test it first")
        if not isinstance(value, Pointer) or not isinstance(value.operand, IrValue):
            lowering.fail(bound["event"], f"what reserve() gave is wanted here, this is {describe(value)}")
        helper = Helper.RINGBUF_SUBMIT if name == "submit" else Helper.RINGBUF_DISCARD
        arguments = (value.operand, lowering.expressions.operand(node, flags))
        lowering.emit(Call(None, helper, arguments, lowering.location(node)))
        return Constant(None)
