"""What a program is handed: its context, or the arguments of the function that it looks at, one by one.

registers   [ctx + where the register lies]   what is behind an address is copied by a helper
raw         [ctx + 8 * number]                the same
typed       [ctx + 8 * number]                what is behind an address is read at once
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.btf import BtfError, NotFoundError
from pybpfasm.compiler.frontend.kernel_structs import Declared
from pybpfasm.compiler.frontend.paths import Names
from pybpfasm.compiler.frontend.values import (
    UNSIGNED,
    Pointer,
    Scalar,
    Value,
    describe,
    target_name,
)
from pybpfasm.compiler.kernel_types import Passed, Prototype, told
from pybpfasm.ir.operations import Binary
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu
from pybpfasm.lang.programs import Calling
from pybpfasm.lang.tracing import ARGUMENTS_AT, RESULT_AT, PtRegs, data_loc
from pybpfasm.lang.types import IntType, NetworkType, is_record
from pybpfasm.records import evolve
from pybpfasm.uapi import AttachType, ProgramType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.source import Source

_RESULT, _CONTEXT = "result", "ctx"

# Where what the function has returned is handed over, behind its arguments.
_WITH_RESULT = (AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN, AttachType.LSM_MAC)


class Arguments:
    """Compiles a program's parameters."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering

    def names(self, source: Source, hints: dict[str, Any], context: Pointer) -> Names:
        """What each parameter means when the program begins."""
        tree = source.tree
        if hints.get("return") is not int:
            self._lowering.fail(tree, f"this program is declared `def {tree.name}(…) -> int`")
        match self._lowering.kind.calling:
            case Calling.RECORD:
                return self._record(source, hints, context)
            case Calling.REGISTERS if self._is_plain(source, hints):
                return {tree.args.args[0].arg: context}
            case _:
                return self._each(source, hints, context)

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each function."""
        return {data_loc: self._located}

    def _located(self, node: ast.Call) -> Scalar:
        """The result of `data_loc`: the lower half of the field is how far into the record the text begins."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, data_loc)
        record = lowering.expressions.value(bound["record"])
        if not isinstance(record, Pointer) or record.kind is not Kind.CONTEXT:
            lowering.fail(bound["record"], f"a tracepoint's record is wanted, this is {describe(record)}")
        number = lowering.expressions.number(bound["location"])
        location = lowering.location(node)
        offset, address = lowering.value(), lowering.value()
        operand = lowering.expressions.operand(bound["location"], number)
        lowering.emit(Binary(Alu.AND, offset, operand, 0xFFFF, location))
        lowering.emit(Binary(Alu.ADD, address, record.operand, offset, location))
        return Scalar(address, UNSIGNED)

    def method(self, node: ast.Call, pointer: Pointer, name: str) -> Value:
        """`ctx.argument(0)`, `ctx.result()`, of registers."""
        lowering = self._lowering
        bound = lowering.calls.bind(node, object.__new__(PtRegs), method=name)
        offset = RESULT_AT
        if name == "argument":
            index = lowering.expressions.constant(bound["index"])
            if not isinstance(index, int) or not 0 <= index < len(ARGUMENTS_AT):
                reason = f"the arguments that are in registers have the numbers 0 to {len(ARGUMENTS_AT) - 1}"
                lowering.fail(bound["index"], reason)
            offset = ARGUMENTS_AT[index]
        target = lowering.kernel.class_argument(bound["as_type"]) if "as_type" in bound else None
        assert isinstance(pointer.operand, IrValue)  # noqa: S101 - a context
        kind = SCALAR if target is None else Type(Kind.UNTRUSTED)
        loaded = lowering.access.load(node, pointer.operand, offset, 8, kind)
        return Scalar(loaded, UNSIGNED) if target is None else Pointer(loaded, target, kind=Kind.UNTRUSTED)

    def _record(self, source: Source, hints: dict[str, Any], context: Pointer) -> Names:
        parameters = source.tree.args.args
        record: Any = hints.get(parameters[0].arg) if len(parameters) == 1 else None
        if not is_record(record):
            wanted = target_name(context.target)
            reason = f"this program is declared `def {source.tree.name}(ctx: …) -> int`, with a {wanted}"
            self._lowering.fail(source.tree, reason)
        return {parameters[0].arg: evolve(context, target=record.__layout__)}

    def _is_plain(self, source: Source, hints: dict[str, Any]) -> bool:
        parameters = source.tree.args.args
        return len(parameters) == 1 and hints.get(parameters[0].arg) is PtRegs

    def _each(self, source: Source, hints: dict[str, Any], context: Pointer) -> Names:
        """Parameters by position, and by name."""
        lowering, tree = self._lowering, source.tree
        prototype = self._prototype(tree)
        names: Names = {}
        places = self._places(prototype)
        if len(tree.args.args) > len(places):
            theirs = self._told(prototype) if prototype is not None else f"{len(places)} are in registers"
            lowering.fail(tree.args.args[len(places)], f"there are not so many arguments: {theirs}")
        for each, place in zip(tree.args.args, places, strict=False):
            names[each.arg] = self._value(each, hints.get(each.arg), context, place, prototype)
        for each in tree.args.kwonlyargs:
            if each.arg == _CONTEXT:
                names[each.arg] = self._own_context(each, hints, context)
            elif each.arg == _RESULT:
                place = self._result(each, prototype)
                names[each.arg] = self._value(each, hints.get(each.arg), context, place, prototype)
            else:
                lowering.fail(each, "behind `*` come `result`, what is returned, and `ctx`, the context")
        return names

    def _own_context(self, node: ast.arg, hints: dict[str, Any], context: Pointer) -> Pointer:
        if hints.get(node.arg) is not context.target:
            self._lowering.fail(node, f"the context is declared `ctx: {target_name(context.target)}`")
        return context

    def _prototype(self, node: ast.AST) -> Prototype | None:
        """What the kernel has at the program's place; nothing is known of what is in registers."""
        kind = self._lowering.kind
        if kind.calling is Calling.REGISTERS:
            return None
        try:
            return self._lowering.kernel.types.prototype(kind)
        except NotFoundError as error:
            self._lowering.fail(node, f"the kernel has no `{kind.attach_to}` for this program: {error}")
        except BtfError as error:
            self._lowering.fail(node, f"the kernel's types are wanted for this program: {error}")

    def _places(self, prototype: Prototype | None) -> list[Passed]:
        if prototype is not None:
            return list(prototype.parameters)
        if self._lowering.kind.section.startswith(("kretprobe", "uretprobe")):
            return []
        return [Passed(f"argument {number}", 0, offset) for number, offset in enumerate(ARGUMENTS_AT)]

    def _result(self, node: ast.AST, prototype: Prototype | None) -> Passed:
        kind = self._lowering.kind
        if prototype is None:
            if not kind.section.startswith(("kretprobe", "uretprobe")):
                self._lowering.fail(node, "nothing has been returned yet: that is for kretprobe and uretprobe")
            return Passed("result", 0, RESULT_AT)
        if kind.attach_type not in _WITH_RESULT:
            self._lowering.fail(node, "nothing has been returned yet: that is for fexit, fmod_ret and lsm")
        if prototype.result is None:
            self._lowering.fail(node, f"{prototype.name} returns nothing")
        return prototype.result

    def _value(
        self, node: ast.arg, annotation: Any, context: Pointer, place: Passed, prototype: Prototype | None
    ) -> Value:
        lowering = self._lowering
        if annotation is None:
            lowering.fail(node, f"parameter `{node.arg}` has no annotation")
        kernel = lowering.kernel
        declared = kernel.declared(node, annotation, f"parameter `{node.arg}`")
        if prototype is not None:
            self._check(node, declared, place, prototype)
        type_id = None if prototype is None else place.type_id
        assert isinstance(context.operand, IrValue)  # noqa: S101 - a context
        if declared.struct is not None:
            kind = self._kind(place, prototype)
            loaded = lowering.access.load(node, context.operand, place.offset, 8, Type(kind, declared.nullable))
            loaded.name = node.arg
            return Pointer(loaded, declared.struct, declared.nullable, kind)
        if not (declared.any_int or declared.boolean or isinstance(declared.layout, IntType | NetworkType)):
            lowering.fail(node, f"{declared} is not handed over: a number or a KernelStruct is")
        loaded = lowering.access.load(node, context.operand, place.offset, 8)
        number = kernel.cut(node, loaded, declared, type_id)
        if isinstance(number.operand, IrValue):
            number.operand.name = node.arg
        return number

    def _check(self, node: ast.arg, declared: Declared, place: Passed, prototype: Prototype) -> None:
        if self._is_tcp(declared, place):
            return
        what = f"parameter `{node.arg}` of {self._told(prototype)}"
        self._lowering.kernel.check(node, declared, place.type_id, what)

    def _is_tcp(self, declared: Declared, place: Passed) -> bool:
        """For the verifier the socket of a TCP congestion control is a tcp_sock (bpf_tcp_ca_is_valid_access)."""
        if not (self._lowering.kind.attach_to or "").startswith("tcp_congestion_ops.") or declared.struct is None:
            return False
        types = self._lowering.kernel.types
        record = types.record(place.type_id)
        pointee = types.record(getattr(record, "type_id", 0))
        return declared.struct.name == "tcp_sock" and getattr(pointee, "name", "") == "sock"

    def _kind(self, place: Passed, prototype: Prototype | None) -> Kind:
        """Whether the verifier knows what an address points to."""
        lowering = self._lowering
        if prototype is None or lowering.kind.program_type == ProgramType.RAW_TRACEPOINT:
            return Kind.UNTRUSTED
        record = lowering.kernel.types.record(place.type_id)
        pointee = lowering.kernel.types.record(getattr(record, "type_id", 0))
        return Kind.KERNEL if getattr(pointee, "members", None) is not None else Kind.UNTRUSTED

    def _told(self, prototype: Prototype) -> str:
        listed = ", ".join(
            f"{told(prototype.types, each.type_id)} {each.name}".strip() for each in prototype.parameters
        )
        return f"{prototype.name}({listed})".replace("* ", "*")
