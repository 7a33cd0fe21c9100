"""Elements of arrays: a constant index is checked, any other must be known to lie within the array.

The verifier follows where a number can lie through masks, shifts, comparisons and narrow loads, but not through a
division or a change of byte order. Such a number is compared once more, where it is used as an index.
"""

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.conditions import RESULT
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    Constant,
    Elements,
    Place,
    Scalar,
    Value,
    count_of,
    describe,
    shown,
)
from pybpfasm.ir.operations import Binary, Copy, MapValueAddress, Number, StackAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import Kind, Type
from pybpfasm.isa import Alu, Jump
from pybpfasm.lang.types import ArrayType, IntType, TextType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

BYTE = IntType(8)

# What a module has that cannot change.
_CONSTANT_SEQUENCES = (tuple, bytes, range)


class Indexing:
    """Compiles `a[i]`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def read(self, node: ast.Subscript) -> Value:
        """The value of an element."""
        owner = self._lowering.expressions.value(node.value)
        if isinstance(owner, Constant) and isinstance(owner.value, _CONSTANT_SEQUENCES):
            return self._of_constant(node, owner.value)
        return self.get(node, self._found(node, owner))

    def find(self, node: ast.Subscript) -> "Place | tuple[Elements, int]":
        """Where an element lies: in memory, or in a context's array."""
        owner = self._lowering.expressions.value(node.value)
        if isinstance(owner, Constant) and isinstance(owner.value, _CONSTANT_SEQUENCES):
            self._lowering.fail(node, "a constant cannot be assigned: keep what changes in a Global")
        return self._found(node, owner)

    def _of_constant(self, node: ast.Subscript, owner: Sequence[Any]) -> Value:
        """`PORTS[1]`, for a tuple or the like of the module's."""
        self._no_slice(node)
        index = self._lowering.expressions.value(node.slice)
        if not isinstance(index, Constant) or not isinstance(index.value, int):
            kept = "what is looked up at run time is kept in a map or in `ReadOnly` variables"
            self._lowering.fail(node.slice, f"a constant has constant indices: {kept}")
        if not 0 <= index.value < count_of(owner):
            reason = f"index {shown(int(index.value))} is outside its {count_of(owner)} elements"
            self._lowering.fail(node.slice, reason)
        return Constant(owner[index.value])

    def _no_slice(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice):
            self._lowering.fail(node.slice, "there are no slices in a BPF program: take the elements one by one")

    def _found(self, node: ast.Subscript, owner: Value) -> "Place | tuple[Elements, int]":
        self._no_slice(node)
        if isinstance(owner, Elements):
            index = self._lowering.expressions.value(node.slice)
            if isinstance(index, Constant) and isinstance(index.value, int):
                return owner, int(index.value)
            reason = "a context's array has constant indices"
            self._lowering.fail(
                node.slice, f"{reason}: repeat the code for each, `for … in unroll(range({owner.count}))`"
            )
        if isinstance(owner, Place) and isinstance(owner.type, ArrayType | TextType):
            return self._element(node, owner, owner.type)
        self._lowering.fail(
            node, f"{describe(owner)} cannot be indexed: arrays, texts and constant tuples can, a map has methods"
        )

    def get(self, node: ast.AST, found: "Place | tuple[Elements, int]") -> Value:
        """What lies there."""
        memory = self._lowering.memory
        return memory.read(found, node) if isinstance(found, Place) else memory.element(node, *found)

    def put(
        self, node: ast.Subscript, found: "Place | tuple[Elements, int]", value_node: ast.AST, value: Value
    ) -> None:
        """Assign an element."""
        memory = self._lowering.memory
        if isinstance(found, Place):
            self._lowering.variables.check_writable(node, found)
            memory.write(found, node, value_node, value, f"`{ast.unparse(node)}`")
        else:
            memory.write_element(node, *found, value_node, value)

    def _element(self, node: ast.Subscript, array: Place, type_: ArrayType | TextType) -> Place:
        element, count = (type_.element, type_.count) if isinstance(type_, ArrayType) else (BYTE, type_.size)
        index = self._lowering.expressions.number(node.slice)
        if isinstance(index, Constant):
            number = int(index.value)
            if not 0 <= number < count:
                reason = f"index {shown(number)} is outside the array's {count} elements"
                self._lowering.fail(node.slice, reason)
            return Place(array.base, array.offset + number * element.size, element, array.alignment)
        if isinstance(array.base, IrValue) and array.base.type.kind in (Kind.KERNEL, Kind.CONTEXT):
            reason = "an array in the kernel's memory has constant indices here"
            self._lowering.fail(node.slice, f"{reason}: copy it to a struct of the program's own, or use unroll(…)")
        operand = self._within(node.slice, index, count)
        base = self._moved(node, array, self._scaled(node, operand, element.size))
        offset = 0 if isinstance(array.base, StackAddress | MapValueAddress) else array.offset
        alignment = min(array.alignment, element.size & -element.size)
        if isinstance(array.base, StackAddress):
            start = array.base.offset + array.offset
            alignment = min(alignment, (start & -start) or 8)
        return Place(base, offset, element, alignment)

    def _within(self, node: ast.expr, index: Scalar, count: int) -> Number:
        """The index, which is sure to be one of the array's."""
        if index.type == SIGNED:
            self._lowering.fail(node, "this index is signed: test it against 0, and use cast(u32, …) of it")
        if index.limit is None or index.limit >= count:
            mask = f"`& {count - 1}`, " if count & (count - 1) == 0 else ""
            most = "anything" if index.limit is None else f"{index.limit}"
            reason = f"the array has {count} elements, this index can be {most}"
            how = f"bound it by {mask}`min(…, {count - 1})`, or test it, `if {ast.unparse(node)} < {count}`"
            self._lowering.fail(node, f"{reason}: {how}")
        return index.operand if index.seen else self._compared_again(node, index, count)

    def _compared_again(self, node: ast.expr, index: Scalar, count: int) -> Number:
        lowering = self._lowering
        yes, no, end = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.branch(node, Jump.JLT, index.operand, count, yes, no)
        for junction, operand in ((yes, index.operand), (no, 0)):
            lowering.enter(junction)
            lowering.goto(end, node, {RESULT: Scalar(operand, UNSIGNED)})
        lowering.enter(end)
        found = lowering.take(RESULT)
        assert isinstance(found, Scalar)  # noqa: S101 - both ways brought one
        return found.operand

    def _scaled(self, node: ast.AST, operand: Number, size: int) -> Number:
        return operand if size == 1 else self._binary(node, Alu.MUL, operand, size, self._lowering.value())

    def _moved(self, node: ast.AST, array: Place, distance: Number) -> IrValue:
        """The array's address and a distance."""
        base = array.base
        if isinstance(base, StackAddress | MapValueAddress):
            base = self._in_register(node, array, base)
        return self._binary(node, Alu.ADD, base, distance, self._lowering.value(Type(base.type.kind)))

    def _in_register(self, node: ast.AST, array: Place, base: StackAddress | MapValueAddress) -> IrValue:
        lowering = self._lowering
        if isinstance(base, StackAddress):
            if not lowering.target.stack_by_index:
                reason = "to index what is on the stack by a number that is not constant needs Linux 5.12"
                lowering.fail(node, f"{reason}, this is compiled for {lowering.target.name}: keep the array in a map")
            address: StackAddress | MapValueAddress = StackAddress(base.slot, base.offset + array.offset)
        else:
            address = MapValueAddress(base.map, base.offset + array.offset)
        kind = Kind.STACK if isinstance(base, StackAddress) else Kind.MAP_VALUE
        result = lowering.value(Type(kind))
        lowering.emit(Copy(result, address, lowering.location(node)))
        return result

    def _binary(self, node: ast.AST, code: Alu, left: Number, right: Number, result: IrValue) -> IrValue:
        self._lowering.emit(Binary(code, result, left, right, self._lowering.location(node)))
        return result
