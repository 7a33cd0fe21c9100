"""Dynptrs: two words on the stack that only helpers touch."""

import ast
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import SIGNED, Constant, Place, Pointer, Scalar, Value, describe
from pybpfasm.ir.operations import Argument, Call, Copy, StackAddress
from pybpfasm.ir.types import Kind, Type
from pybpfasm.lang.dynptrs import Dynptr
from pybpfasm.lang.queues import RingBuf
from pybpfasm.lang.types import ArrayType, StructType, TextType, is_record
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_DYNPTR_BYTES = 16


class Dynptrs:
    """Compiles their use."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def reserve(self, node: ast.Call, buffer: RingBuf) -> Pointer:
        """Room in a ring buffer, whose size is known when the program runs."""
        lowering, location = self._lowering, self._lowering.location(node)
        if not lowering.target.dynptrs:
            name = lowering.target.name
            lowering.fail(node, f"dynptrs need Linux 5.19, this is compiled for {name}: reserve(…) a struct")
        size = self._number(lowering.calls.bind(node, buffer.reserve_dynptr)["size"])
        slot = StackAddress(lowering.slot(_DYNPTR_BYTES, "dynptr"))
        address = lowering.value(Type(Kind.STACK))
        lowering.emit(Copy(address, slot, location))
        arguments = (lowering.maps.address(node, buffer), size, 0, address)
        lowering.emit(Call(None, Helper.RINGBUF_RESERVE_DYNPTR, arguments, location))
        return Pointer(address, Dynptr, kind=Kind.STACK)

    def call(self, node: ast.Call, pointer: Pointer, name: str) -> Value:
        """The result of a method."""
        made: Any = object.__new__(Dynptr)
        bound = self._lowering.calls.bind(node, made, method=name)
        match name:
            case "write":
                return self._write(node, pointer, bound)
            case "read":
                return self._read(node, pointer, bound)
            case "data":
                return self._data(node, pointer, bound)
            case _:
                flags = self._number(bound["flags"]) if "flags" in bound else 0
                helper = Helper.RINGBUF_SUBMIT_DYNPTR if name == "submit" else Helper.RINGBUF_DISCARD_DYNPTR
                location = self._lowering.location(node)
                self._lowering.emit(Call(None, helper, (pointer.operand, flags), location))
                return Constant(None)

    def _write(self, node: ast.Call, pointer: Pointer, bound: dict[str, ast.expr]) -> Scalar:
        offset = self._number(bound["offset"])
        address, size = self._lowering.maps.data(bound["data"])
        return self._answer(node, Helper.DYNPTR_WRITE, (pointer.operand, offset, address, size, 0))

    def _read(self, node: ast.Call, pointer: Pointer, bound: dict[str, ast.expr]) -> Scalar:
        target, size = self._room(bound["into"])
        offset = self._number(bound["offset"]) if "offset" in bound else 0
        return self._answer(node, Helper.DYNPTR_READ, (target, size, pointer.operand, offset, 0))

    def _data(self, node: ast.Call, pointer: Pointer, bound: dict[str, ast.expr]) -> Pointer:
        lowering = self._lowering
        struct = lowering.expressions.constant(bound["as_type"])
        if not is_record(struct):
            lowering.fail(bound["as_type"], "a Struct is wanted")
        layout: StructType = struct.__layout__
        offset = self._number(bound["offset"]) if "offset" in bound else 0
        result = lowering.value(Type(Kind.MEMORY, nullable=True))
        arguments = (pointer.operand, offset, layout.size)
        lowering.emit(Call(result, Helper.DYNPTR_DATA, arguments, lowering.location(node)))
        return Pointer(result, layout, nullable=True)

    def _room(self, node: ast.expr) -> tuple[Argument, int]:
        """Memory that a helper writes to."""
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if isinstance(value, Pointer) and isinstance(value.target, StructType) and not value.nullable:
            value = lowering.memory.behind(value)
        if not isinstance(value, Place) or not isinstance(value.type, StructType | ArrayType | TextType):
            lowering.fail(node, f"a struct, text or a Buffer is wanted here, this is {describe(value)}")
        lowering.variables.check_writable(node, value)
        return lowering.memory.address(value, node), value.type.size

    def _answer(self, node: ast.Call, helper: Helper, arguments: tuple[Argument, ...]) -> Scalar:
        result = self._lowering.value()
        self._lowering.emit(Call(result, helper, arguments, self._lowering.location(node)))
        return Scalar(result, SIGNED)

    def _number(self, node: ast.expr) -> Argument:
        return self._lowering.expressions.operand(node, self._lowering.expressions.number(node))
