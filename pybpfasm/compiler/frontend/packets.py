"""Packets: direct access behind the comparison that the verifier looks for, and copies by helpers.

    %1 packet = load32 [%0+76]                 data
    %2 packet_end = load32 [%0+80]             data_end
    %3 packet = add %1, 14 + 20                the offset, and the struct's size
    if jgt %3, %2 goto … None … else … %1 + 14

An offset that is not constant is added first, since what the comparison teaches holds for addresses of one origin.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.conditions import RESULT
from pybpfasm.compiler.frontend.values import SIGNED, Constant, Pointer, Scalar, Value
from pybpfasm.ir.operations import Binary, Call, Copy, Load, Number, StackAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu, Jump
from pybpfasm.lang.packets import CopiedContext, PacketContext
from pybpfasm.lang.types import StructType, is_record
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# MAX_PACKET_OFF of kernel/bpf/verifier.c.
_FARTHEST = 0xFFFF

_PACKET = Type(Kind.PACKET)
_END = Type(Kind.PACKET_END)


class Packets:
    """Compiles methods of contexts with a packet."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering

    def call(self, node: ast.Call, pointer: Pointer, name: str) -> Value:
        """The result of `packet`, `load`, `store`, or of what mends a checksum."""
        context = pointer.target
        assert isinstance(context, type)  # noqa: S101 - methods are those of contexts
        made: Any = object.__new__(context)
        bound = self._lowering.calls.bind(node, made, method=name)
        match name:
            case "packet":
                return self._packet(node, pointer, bound)
            case "load":
                return self._load(node, pointer, bound)
            case "store":
                return self._store(node, pointer, bound)
            case _:
                return self._lowering.checksums.replace(node, pointer, name, bound)

    def bounded(
        self, node: ast.AST, base: Number, places: tuple[int, int, int], layout: StructType, offset: int | Scalar = 0
    ) -> Pointer:
        """A struct between two addresses of a context, `places` and their size; None if it reaches over the end."""
        lowering = self._lowering
        assert isinstance(base, IrValue)  # noqa: S101 - a context
        start, end = lowering.value(_PACKET), lowering.value(_END)
        location = lowering.location(node)
        lowering.emit(Load(start, base, places[0], places[2], location, narrow=False))
        lowering.emit(Load(end, base, places[1], places[2], location, narrow=False))
        if isinstance(offset, Scalar):
            start, offset = self._binary(node, start, self._visible(node, offset), _PACKET), 0
        needed = self._binary(node, start, offset + layout.size, _PACKET)
        short, enough, done = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.branch(node, Jump.JGT, needed, end, short, enough)
        lowering.enter(short)
        lowering.goto(done, node, {RESULT: Pointer(0, layout, nullable=True, kind=Kind.PACKET)})
        lowering.enter(enough)
        found = self._binary(node, start, offset, _PACKET) if offset else start
        lowering.goto(done, node, {RESULT: Pointer(found, layout, nullable=True, kind=Kind.PACKET)})
        lowering.enter(done)
        result = lowering.take(RESULT)
        assert isinstance(result, Pointer)  # noqa: S101 - both ways brought one
        return result

    def _packet(self, node: ast.Call, pointer: Pointer, bound: dict[str, ast.expr]) -> Pointer:
        layout = self._layout(bound["as_type"])
        context = pointer.target
        assert isinstance(context, type) and issubclass(context, PacketContext)  # noqa: S101, PT018 - as the method
        places = (context.data_at, context.data_end_at, context.data_width)
        offset = self._offset(bound["offset"], layout.size) if "offset" in bound else 0
        return self.bounded(node, pointer.operand, places, layout, offset)

    def _offset(self, node: ast.expr, size: int) -> int | Scalar:
        """How far into the packet: a constant, or a number of which the verifier can know how high it is."""
        lowering = self._lowering
        number = lowering.expressions.number(node)
        most = _FARTHEST - size
        if isinstance(number, Constant):
            if not 0 <= int(number.value) <= most:
                lowering.fail(node, f"{int(number.value)} is outside of every packet: 0 to {most} are possible")
            return int(number.value)
        if number.type == SIGNED:
            lowering.fail(node, "this offset is signed: test it against 0, and use cast(u16, …) of it")
        if number.limit is None or number.limit > most:
            known = "anything" if number.limit is None else str(number.limit)
            reason = f"this offset can be {known}, {most} at most is possible: bound it by `min(…, {most})`"
            lowering.fail(node, f"{reason}, `& 0xFFF`, or test it with `if`")
        return number

    def _visible(self, node: ast.AST, offset: Scalar) -> Number:
        """The offset; masked, where the verifier would not know how high it is."""
        if offset.seen or offset.limit is None:
            return offset.operand
        mask = (1 << offset.limit.bit_length()) - 1
        return self._arithmetic(node, Alu.AND, offset.operand, mask, SCALAR)

    def _load(self, node: ast.Call, pointer: Pointer, bound: dict[str, ast.expr]) -> Pointer:
        """bpf_skb_load_bytes, bpf_xdp_load_bytes into the stack."""
        lowering, location = self._lowering, self._lowering.location(node)
        layout = self._layout(bound["as_type"])
        offset = lowering.expressions.operand(bound["offset"], lowering.expressions.number(bound["offset"]))
        slot = lowering.slot(layout.size, layout.name)
        answer = lowering.value()
        arguments = (pointer.operand, offset, StackAddress(slot), layout.size)
        lowering.emit(Call(answer, self._context(node, pointer).load_helper, arguments, location))
        return self.copied(node, answer, StackAddress(slot), layout)

    def copied(self, node: ast.AST, answer: IrValue, slot: StackAddress, layout: StructType) -> Pointer:
        """A pointer to what a helper has copied to the stack; None if its answer is not 0."""
        lowering = self._lowering
        failed, loaded, done = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.branch(node, Jump.JNE, answer, 0, failed, loaded)
        lowering.enter(failed)
        lowering.goto(done, node, {RESULT: Pointer(0, layout, nullable=True, kind=Kind.STACK)})
        lowering.enter(loaded)
        address = lowering.value(Type(Kind.STACK))
        lowering.emit(Copy(address, slot, lowering.location(node)))
        lowering.goto(done, node, {RESULT: Pointer(address, layout, nullable=True, kind=Kind.STACK)})
        lowering.enter(done)
        result = lowering.take(RESULT)
        assert isinstance(result, Pointer)  # noqa: S101 - both ways brought one
        return result

    def _store(self, node: ast.Call, pointer: Pointer, bound: dict[str, ast.expr]) -> Scalar:
        """bpf_skb_store_bytes, bpf_xdp_store_bytes."""
        lowering = self._lowering
        context = self._context(node, pointer)
        expressions = lowering.expressions
        offset = expressions.operand(bound["offset"], expressions.number(bound["offset"]))
        address, size = lowering.maps.data(bound["data"])
        flags: tuple[Number, ...] = (0,) if context.store_helper is Helper.SKB_STORE_BYTES else ()
        if "flags" in bound:
            flags = (expressions.operand(bound["flags"], expressions.number(bound["flags"])),)
        result = lowering.value()
        arguments = (pointer.operand, offset, address, size, *flags)
        lowering.emit(Call(result, context.store_helper, arguments, lowering.location(node)))
        return Scalar(result, SIGNED)

    def _context(self, node: ast.AST, pointer: Pointer) -> type[CopiedContext]:
        """The context, whose helpers the target has."""
        context, target = pointer.target, self._lowering.target
        assert isinstance(context, type) and issubclass(context, CopiedContext)  # noqa: S101, PT018 - as the method
        if context.load_helper is Helper.XDP_LOAD_BYTES and not target.xdp_bytes:
            reason = f"XDP programs copy from and to packets since Linux 5.18, this is compiled for {target.name}"
            self._lowering.fail(node, f"{reason}: use packet(…)")
        return context

    def _layout(self, node: ast.expr) -> StructType:
        struct = self._lowering.expressions.constant(node)
        if not is_record(struct):
            self._lowering.fail(node, "a Struct is wanted")
        layout: StructType = struct.__layout__
        return layout

    def _binary(self, node: ast.AST, left: Number, right: Number, type_: Type) -> IrValue:
        return self._arithmetic(node, Alu.ADD, left, right, type_)

    def _arithmetic(self, node: ast.AST, code: Alu, left: Number, right: Number, type_: Type) -> IrValue:
        result = self._lowering.value(type_)
        self._lowering.emit(Binary(code, result, left, right, self._lowering.location(node)))
        return result


__all__ = ["Packets"]
