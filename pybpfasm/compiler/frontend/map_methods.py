"""Methods of maps: keys and values are handed to helpers by address, from the stack or from where they lie."""

import ast
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.annotations import expected
from pybpfasm.compiler.frontend.signatures import parameters_of
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    Constant,
    KernelPlace,
    KernelType,
    MapTarget,
    Place,
    Pointer,
    Scalar,
    Value,
    describe,
)
from pybpfasm.ir.operations import Argument, Base, Call, Extend, MapReference
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.lang.context_structs import Sock
from pybpfasm.lang.maps import MapDeclaration, Method
from pybpfasm.lang.queues import RingBuf, UserRingBuf
from pybpfasm.lang.types import (
    ArrayType,
    NetworkType,
    Record,
    StructType,
    TextType,
    be16,
    be32,
    be64,
    btf_type,
    value_type,
)
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# What is no number.
_GIVEN = {"value": Type(Kind.MAP_VALUE, nullable=True), "socket": Type(Kind.SOCKET, nullable=True)}


class MapMethods:
    """Compiles calls of maps' methods."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def call(self, node: ast.Call, declaration: MapDeclaration[Any, Any], name: str) -> Value:
        """The result of a method."""
        if isinstance(declaration, UserRingBuf):
            if name != "drain":
                self._lowering.fail(node.func, f"a UserRingBuf is filled by user space: it has no {name}() here")
            return self._lowering.callbacks.drain(node, declaration)
        if isinstance(declaration, RingBuf) and name in ("reserve", "submit", "discard"):
            return self._lowering.ring.call(node, declaration, name)
        if isinstance(declaration, RingBuf) and name == "reserve_dynptr":
            return self._lowering.dynptrs.reserve(node, declaration)
        if name == "for_each":
            return self._lowering.callbacks.for_each(node, declaration)
        if hasattr(declaration, "inner"):
            return self._inner(node, declaration)
        return self._call(node, declaration, name, self.address(node, declaration))

    def call_inner(self, node: ast.Call, pointer: Pointer, name: str) -> Value:
        """The result of a method of a map that was found in a map."""
        target = pointer.target
        assert isinstance(target, MapTarget)  # noqa: S101 - as the caller knows
        if pointer.nullable:
            self._lowering.fail(node.func, "this may be None: test it first")
        if not hasattr(getattr(target.declaration, name), "__bpf_method__"):
            self._lowering.fail(node.func, f"`{name}` is for maps that are called by their own names")
        return self._call(node, target.declaration, name, pointer.operand)

    def _inner(self, node: ast.Call, declaration: Any) -> Pointer:
        """A map at a key, or None."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, declaration.lookup)
        key = self.stored(bound["key"], declaration.key_annotation, "key")
        result = lowering.value(Type(Kind.MAP, nullable=True))
        arguments = (self.address(node, declaration), key)
        lowering.emit(Call(result, int(Helper.MAP_LOOKUP_ELEM), arguments, lowering.location(node)))
        return Pointer(result, MapTarget(declaration.inner), nullable=True, kind=Kind.MAP)

    def _call(self, node: ast.Call, declaration: MapDeclaration[Any, Any], name: str, address: Argument) -> Value:
        function = getattr(declaration, name)
        bound = self._lowering.calls.bind(node, function)
        rule = function.__bpf_method__
        assert isinstance(rule, Method)  # noqa: S101 - as `method` marks them
        by_name = {
            parameter: self._argument(argument, declaration, function, parameter)
            for parameter, argument in bound.items()
        }
        arguments = tuple(self._chosen(each, by_name, address, function) for each in rule.arguments)
        return self._answer(node, rule, declaration, arguments)

    def address(self, node: ast.AST, declaration: MapDeclaration[Any, Any]) -> MapReference:
        """The map itself."""
        return MapReference(self._lowering.names.map_spec(node, declaration))

    def value_layout(self, node: ast.AST, declaration: MapDeclaration[Any, Any]) -> StructType:
        """What a map's value is, which a program uses in place."""
        layout = value_type(declaration.value_annotation)
        if not isinstance(layout, StructType):
            self._lowering.fail(node, f"the map's value is {layout}: make it a Struct, so that it can be used in place")
        return layout

    def stored(self, node: ast.expr, annotation: Any, what: str) -> Base:
        """A key or a value in memory, for a helper to read."""
        type_ = value_type(annotation)
        value = self._lowering.expressions.value(node)
        if isinstance(value, Constant) and isinstance(value.value, Record) and value.value.__layout__ == type_:
            return self._lowering.variables.text(bytes(value.value))
        if isinstance(type_, StructType):
            return self._in_place(node, value, type_)
        operand = self._lowering.memory.fitting(node, value, type_, f"the map's {what}")
        return self._lowering.memory.spill(node, operand, btf_type(type_).size)

    def data(self, node: ast.expr, *, to_write: bool = False) -> tuple[Base, int]:
        """Where bytes lie that a helper reads, and how many: a struct, an array, text, a number in network order."""
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if to_write and not isinstance(value, Place | Pointer):
            lowering.fail(
                node, f"a struct, an array or text that can be written is wanted here, this is {describe(value)}"
            )
        match value:
            case Place(type=StructType() as layout) | Pointer(target=StructType() as layout):
                return self._in_place(node, value, layout), layout.size
            case Place(type=ArrayType() | TextType() as type_):
                return lowering.memory.address(value, node), type_.size
            case Constant(value=Record() as record) if not to_write:
                return lowering.variables.text(bytes(record)), len(bytes(record))
            case Constant(value=bytes() as text) if text:
                return lowering.variables.text(text), len(text)
            case Scalar(type=NetworkType() as type_, operand=operand):
                return lowering.memory.spill(node, operand, type_.size), type_.size
            case Constant(value=be16() | be32() | be64() as number):
                size = len(number.packed)
                return lowering.memory.spill(node, int.from_bytes(number.packed, "little"), size), size
            case _:
                reason = "a struct, an array, text or a number in network order is wanted here"
                lowering.fail(node, f"{reason}, this is {describe(value)}")

    def _in_place(self, node: ast.expr, value: Value, layout: StructType) -> Base:
        match value:
            case Place(type=found) if found == layout:
                return self._lowering.memory.address(value, node)
            case Pointer(operand=IrValue() as address, target=found, nullable=False) if found == layout:
                return address
            case _:
                self._lowering.fail(node, f"{layout.name} is wanted here, this is {describe(value)}")

    def _argument(self, node: ast.expr, declaration: MapDeclaration[Any, Any], function: Any, name: str) -> Any:
        calls = self._lowering.calls
        match name:
            case "key":
                return self.stored(node, declaration.key_annotation, "key")
            case "value":
                return self.stored(node, declaration.value_annotation, "value")
            case "into":
                return self._into(node, declaration)
            case "data":
                return self.data(node)
            case "task" | "inode" | "cgroup":
                return self._owner(node, name)
            case "ctx" | "sock":
                return calls.plain_argument(node, expected(calls.hints(node, function)[name]))
            case _:
                return self._lowering.expressions.operand(node, self._lowering.expressions.number(node))

    def _owner(self, node: ast.expr, name: str) -> Argument:
        """What a storage's value belongs to."""
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if isinstance(value, KernelPlace):
            value = lowering.kernel.pointer(node, value)
        struct = {"task": "task_struct"}.get(name, name)
        if not isinstance(value, Pointer) or not isinstance(value.target, KernelType) or value.target.name != struct:
            lowering.fail(node, f"a struct {struct} of the kernel is wanted, this is {describe(value)}")
        if value.nullable:
            lowering.fail(node, "this may be None: test it first")
        if value.kind is not Kind.KERNEL:
            lowering.fail(node, "the verifier knows nothing of this address: a pointer that the kernel gave is wanted")
        return value.operand

    def _into(self, node: ast.expr, declaration: MapDeclaration[Any, Any]) -> Base:
        """A struct that a helper writes to."""
        return self._in_place(node, self._lowering.expressions.value(node), self.value_layout(node, declaration))

    def _chosen(self, argument: str | int, by_name: dict[str, Any], address: Argument, function: Any) -> Argument:
        if isinstance(argument, int):
            return argument
        if argument == "map":
            return address
        if argument == "size":
            return int(by_name["data"][1])
        if argument not in by_name:
            return _default(function, argument)
        found = by_name[argument]
        return found[0] if argument == "data" else found  # type: ignore[no-any-return]  # an argument, see _argument

    def _answer(
        self, node: ast.AST, rule: Method, declaration: MapDeclaration[Any, Any], arguments: tuple[Argument, ...]
    ) -> Value:
        lowering, location = self._lowering, self._lowering.location(node)
        if rule.gives == "nothing":
            lowering.emit(Call(None, int(rule.helper), arguments, location))
            return Constant(None)
        result = lowering.value(_GIVEN.get(rule.gives, SCALAR))
        lowering.emit(Call(result, int(rule.helper), arguments, location))
        if rule.gives == "value":
            return Pointer(result, self.value_layout(node, declaration), nullable=True, kind=Kind.MAP_VALUE)
        if rule.gives == "socket":
            return Pointer(result, Sock, nullable=True, kind=Kind.SOCKET)
        if rule.gives != "errno":
            return Scalar(result, SIGNED if rule.gives == "signed" else UNSIGNED)
        # Before Linux 6.4 (d7ba4cc900bf) the answer is an int, whose sign ends at 32 bits.
        extended = lowering.value()
        lowering.emit(Extend(extended, result, 32, True, location))
        return Scalar(extended, SIGNED)


def _default(function: Any, parameter: str) -> int:
    return int(next(each.default for each in parameters_of(function) if each.name == parameter))
