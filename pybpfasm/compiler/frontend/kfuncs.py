"""Calls of the kernel's functions, as the program declares them."""

import ast
from typing import TYPE_CHECKING, Any

from pybpfasm.btf import BtfError, kinds
from pybpfasm.btf import Kind as BtfKind
from pybpfasm.compiler.frontend.annotations import AnnotationError, expected
from pybpfasm.compiler.frontend.kernel_structs import Declared, declared_as
from pybpfasm.compiler.frontend.values import Constant, KernelPlace, KernelType, Place, Pointer, Value, describe
from pybpfasm.ir.operations import Argument, CallKernel
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.lang.buffers import Buffer
from pybpfasm.lang.contexts import Context
from pybpfasm.lang.kfuncs import Kfunc
from pybpfasm.lang.types import IntType, StructType, is_record

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering


class Kfuncs:
    """Compiles them."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def call(self, node: ast.Call, function: Any) -> Value:
        """The result of a call."""
        lowering = self._lowering
        rule: Kfunc = function.__bpf_kfunc__
        hints = lowering.calls.hints(node, function)
        bound = lowering.calls.bind(node, function)
        self._check(node, function.__name__, hints)
        arguments = tuple(self._argument(argument, hints[name]) for name, argument in bound.items())
        returned = hints.get("return")
        if returned in (None, type(None)):
            self._emit(node, function.__name__, arguments, None, rule)
            return Constant(None)
        return self._answer(node, function.__name__, arguments, returned, rule)

    def _answer(self, node: ast.Call, name: str, arguments: tuple[Argument, ...], returned: Any, rule: Kfunc) -> Value:
        lowering = self._lowering
        declared = _told(returned)
        if declared is not None:
            if declared.struct is not None:
                result = lowering.value(Type(Kind.KERNEL, declared.nullable))
                self._emit(node, name, arguments, result, rule)
                return Pointer(result, declared.struct, declared.nullable, Kind.KERNEL)
            if declared.any_int or declared.boolean or isinstance(declared.layout, IntType):
                result = lowering.value(SCALAR)
                self._emit(node, name, arguments, result, rule)
                return lowering.kernel.cut(node, result, declared, None)
        try:
            wanted = expected(returned)
        except AnnotationError as error:
            lowering.fail(node, f"{name}: {error}")
        if not isinstance(wanted.target, StructType):
            lowering.fail(node, f"{name} cannot return {wanted}: a number, a KernelStruct or a Struct is possible")
        result = lowering.value(Type(Kind.MEMORY, wanted.nullable))
        self._emit(node, name, arguments, result, rule)
        return Pointer(result, wanted.target, wanted.nullable)

    def _emit(self, node: ast.Call, name: str, arguments: tuple[Argument, ...], result: Any, rule: Kfunc) -> None:
        location = self._lowering.location(node)
        self._lowering.emit(CallKernel(result, name, arguments, location, rule.acquire, rule.release))

    def _argument(self, node: ast.expr, annotation: Any) -> Argument:
        lowering = self._lowering
        if annotation is bytes or annotation is Buffer:
            return lowering.probing.room(node)[0]
        if isinstance(annotation, type) and issubclass(annotation, Context):
            return lowering.calls.plain_argument(node, lowering.calls.expected(node, annotation))
        declared = _told(annotation)
        value = lowering.expressions.value(node)
        if isinstance(value, KernelPlace):
            value = lowering.kernel.pointer(node, value)
        if isinstance(value, Pointer) and isinstance(value.target, KernelType) and value.kind is Kind.UNTRUSTED:
            lowering.fail(node, "the verifier knows nothing of this address: a pointer that the kernel gave is wanted")
        if isinstance(value, Place) and declared is not None and isinstance(declared.layout, StructType):
            if value.type != declared.layout:
                lowering.fail(node, f"{declared} is wanted here, this is {describe(value)}")
            return lowering.memory.address(value, node)
        accepted = lowering.calls.expected(node, annotation).accept(lowering, node, value)
        if isinstance(accepted, Pointer):
            return accepted.operand
        if isinstance(accepted, Constant) and accepted.value is None:
            return 0
        return lowering.expressions.operand(node, lowering.expressions.as_number(node, accepted))

    def _check(self, node: ast.Call, name: str, hints: dict[str, Any]) -> None:
        """Compare the declaration with the kernel's own, where there is one."""
        kernel = self._lowering.kernel
        try:
            found = kernel.types.record(kernel.types.btf.find(name, BtfKind.FUNC))
            prototype = kernel.types.record(found.type_id) if isinstance(found, kinds.Func) else None
        except BtfError:
            return  # in a module, or of another kernel: the one that loads the program will tell
        if not isinstance(prototype, kinds.FuncProto):
            return
        wanted = [each for each in hints if each != "return"]
        visible = [each for each in prototype.parameters if not each.name.endswith(("__prog", "__ign", "__map_ign"))]
        if len(wanted) != len(visible):
            self._lowering.fail(
                node, f"{name} is declared with {len(wanted)} parameters, the kernel has {len(visible)}"
            )
        for parameter, theirs in zip(wanted, visible, strict=True):
            declared = _told(hints[parameter])
            if declared is not None and not isinstance(declared.layout, StructType):
                kernel.check(node, declared, theirs.type_id, f"parameter `{parameter}` of {name}")


def _told(annotation: Any) -> Declared | None:
    """What an annotation says, if it is one of what lies in the kernel."""
    if is_record(annotation):
        return Declared(layout=annotation.__layout__)
    try:
        return declared_as(annotation)
    except AnnotationError:
        return None
