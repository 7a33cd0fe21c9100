"""Copies of the kernel's and of processes' memory by the bpf_probe_read_… helpers; who is running."""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import SIGNED, Place, Pointer, Scalar, Value, describe
from pybpfasm.ir.operations import Argument, Call, StackAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import Kind, Type
from pybpfasm.lang import probing as lang
from pybpfasm.lang.types import ArrayType, IntType, LayoutError, StructType, TextType, is_record, value_type
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_COPIES = {
    lang.probe_read_kernel: Helper.PROBE_READ_KERNEL,
    lang.probe_read_user: Helper.PROBE_READ_USER,
    lang.read_kernel_number: Helper.PROBE_READ_KERNEL,
    lang.read_user_number: Helper.PROBE_READ_USER,
    lang.probe_read_kernel_str: Helper.PROBE_READ_KERNEL_STR,
    lang.probe_read_user_str: Helper.PROBE_READ_USER_STR,
}
_TASKS = {
    lang.get_current_task: (Helper.GET_CURRENT_TASK, Kind.UNTRUSTED),
    lang.get_current_task_btf: (Helper.GET_CURRENT_TASK_BTF, Kind.KERNEL),
}

Rule = Callable[[ast.Call], Value]


class Probing:
    """Compiles calls of these functions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def rules(self) -> dict[Callable[..., Any], Rule]:
        """What compiles a call of each."""
        structs = (lang.probe_read_kernel, lang.probe_read_user)
        numbers = (lang.read_kernel_number, lang.read_user_number)
        texts = (lang.probe_read_kernel_str, lang.probe_read_user_str)
        return {
            **{each: self._with(self._struct, each) for each in structs},
            **{each: self._with(self._number, each) for each in numbers},
            **{each: self._with(self._text, each) for each in texts},
            **{each: self._with(self._task, each) for each in _TASKS},
            lang.get_current_comm: self._comm,
            lang.snprintf: self._lowering.printing.into_text,
            lang.seq_printf: self._lowering.printing.to_reader,
        }

    @staticmethod
    def _with(rule: Callable[[ast.Call, Any], Value], function: Any) -> Rule:
        return lambda node: rule(node, function)

    def _struct(self, node: ast.Call, function: Any) -> Pointer:
        """A struct on the stack, or None."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, function)
        struct = lowering.expressions.constant(bound["as_type"])
        if not is_record(struct):
            lowering.fail(bound["as_type"], "a Struct is wanted")
        layout: StructType = struct.__layout__
        slot = StackAddress(lowering.slot(layout.size, layout.name))
        answer = self._read(node, function, slot, layout.size, bound["address"])
        return self._lowering.packets.copied(node, answer, slot, layout)

    def _number(self, node: ast.Call, function: Any) -> Scalar:
        lowering = self._lowering
        bound = lowering.calls.bind(node, function)
        type_ = self._number_type(bound["number_type"])
        slot = StackAddress(lowering.slot(type_.size))
        self._read(node, function, slot, type_.size, bound["address"])
        return lowering.memory.number(lowering.access.load(node, slot, 0, type_.size), type_, node)

    def _number_type(self, node: ast.expr) -> IntType:
        annotation = self._lowering.expressions.constant(node)
        try:
            type_ = value_type(annotation)
        except LayoutError:
            type_ = None
        if not isinstance(type_, IntType):
            self._lowering.fail(node, "u8, u16, u32, u64, i8, i16, i32 or i64 is wanted here")
        return type_

    def _text(self, node: ast.Call, function: Any) -> Scalar:
        bound = self._lowering.calls.bind(node, function)
        target, size = self.room(bound["into"])
        return Scalar(self._read(node, function, target, size, bound["address"]), SIGNED)

    def _comm(self, node: ast.Call) -> Scalar:
        lowering = self._lowering
        target, size = self.room(lowering.calls.bind(node, lang.get_current_comm)["into"])
        answer = lowering.value()
        lowering.emit(Call(answer, Helper.GET_CURRENT_COMM, (target, size), lowering.location(node)))
        return Scalar(answer, SIGNED)

    def _task(self, node: ast.Call, function: Any) -> Pointer:
        lowering = self._lowering
        helper, kind = _TASKS[function]
        target = lowering.kernel.class_argument(lowering.calls.bind(node, function)["as_type"])
        result = lowering.value(Type(kind))
        lowering.emit(Call(result, helper, (), lowering.location(node)))
        return Pointer(result, target, kind=kind)

    def room(self, node: ast.expr) -> tuple[Argument, int]:
        """Bytes that a helper writes to: a text, a buffer."""
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if not isinstance(value, Place) or not _is_bytes(value.type):
            lowering.fail(node, f"text or a Buffer is wanted here, this is {describe(value)}")
        lowering.variables.check_writable(node, value)
        return lowering.memory.address(value, node), value.type.size

    def _read(self, node: ast.AST, function: Any, target: Argument, size: int, address: ast.expr) -> IrValue:
        lowering = self._lowering
        answer = lowering.value()
        arguments = (target, size, lowering.kernel.address_operand(address))
        lowering.emit(Call(answer, _COPIES[function], arguments, lowering.location(node)))
        return answer


def _is_bytes(type_: Any) -> bool:
    return isinstance(type_, TextType) or (isinstance(type_, ArrayType) and type_.element == IntType(8))
