"""Folding: what is known at compile time is computed, and operations take their cheapest form.

In: a function. Out: the same with fewer operations. Limits: one sweep in reverse postorder, so that values that come
around a loop are taken for unknown; sums of addresses are joined with accesses, never with each other.

    %2 = swap16 80                           (gone: 0x5000)
    %3 = load32 [%0+4]                       %3 = load8 [%0+4]
    %4 = swap32 %3
    %5 = rsh %4, 24
    if jeq %5, 127 goto …                    if jeq %3, 127 goto …
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pybpfasm.compiler.passes.arithmetic import MASK64, SHIFTS, by_zero, compare, compute, reversed_bytes, signed
from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import (
    AtomicUpdate,
    Binary,
    Branch,
    Copy,
    Extend,
    Goto,
    Load,
    MapValueAddress,
    Operation,
    StackAddress,
    Store,
    Swap,
    Value,
    replace_operands,
    result_of,
    values_of,
)
from pybpfasm.ir.types import Kind
from pybpfasm.isa import Alu, Jump

_COMMUTATIVE = frozenset((Alu.ADD, Alu.MUL, Alu.OR, Alu.AND, Alu.XOR))

# The comparison with its sides exchanged.
_MIRRORED = {
    Jump.JGT: Jump.JLT,
    Jump.JGE: Jump.JLE,
    Jump.JLT: Jump.JGT,
    Jump.JLE: Jump.JGE,
    Jump.JSGT: Jump.JSLT,
    Jump.JSGE: Jump.JSLE,
    Jump.JSLT: Jump.JSGT,
    Jump.JSLE: Jump.JSGE,
}
_SIGNED = frozenset((Jump.JSGT, Jump.JSGE, Jump.JSLT, Jump.JSLE))
_EQUALITY = frozenset((Jump.JEQ, Jump.JNE))
_WHOLE_BYTES = {0xFF: 1, 0xFFFF: 2, 0xFFFFFFFF: 4}


def fold(function: Function) -> dict[Value, int]:
    """Run the pass; how many low bits of each value may be set, where that is fewer than 64."""
    folding = _Folding(function)
    folding.run()
    return folding.bits


class _Folding:
    """One sweep. `bits` bounds how many low bits of a value can be other than 0, `made` is what defines it."""

    def __init__(self, function: Function) -> None:
        self.order = reverse_postorder(function.entry)
        self.instead: dict[Value, Any] = {}
        self.made: dict[Value, Operation] = {}
        self.bits: dict[Value, int] = {}
        # Those whose bound the verifier does not find: what says it once more has to stay.
        self.hidden: set[Value] = set()
        self.uses: dict[Value, int] = {}
        for block in self.order:
            for operation in block.operations:
                for value in values_of(operation):
                    self.uses[value] = self.uses.get(value, 0) + 1

    def run(self) -> None:
        """Fold block by block."""
        for block in self.order:
            self._block(block)
        if self.instead:
            for block in self.order:
                for operation in block.operations:
                    replace_operands(operation, self.instead)

    def _block(self, block: Block) -> None:
        kept: list[Operation] = []
        for operation in block.operations:
            if self.instead:
                replace_operands(operation, self.instead)
            rule = _RULES.get(type(operation))
            found = operation if rule is None else rule(self, operation)
            if isinstance(found, _Known):
                result = result_of(operation)
                assert result is not None  # noqa: S101 - what is known is a result
                self.instead[result] = found.operand
                self._used(found.operand, self.uses.get(result, 0))
                continue
            kept.append(found)
            result = result_of(found)
            if result is not None:
                self.made[result] = found
                bits = self._bits_made(found)
                if bits < 64:
                    self.bits[result] = bits
                    if self._hides(found):
                        self.hidden.add(result)
        block.operations = kept

    def _used(self, operand: Any, times: int = 1) -> Any:
        """Note that an operand is read more often than was counted; what is no longer read stays counted."""
        if isinstance(operand, Value):
            self.uses[operand] = self.uses.get(operand, 0) + times
        return operand

    def bits_of(self, operand: Any) -> int:
        """How many low bits of an operand may be set."""
        if isinstance(operand, int):
            return (operand & MASK64).bit_length()
        return self.bits.get(operand, 64)

    def _hides(self, operation: Operation) -> bool:
        """Whether the verifier takes the result for any number: it knows no bounds of BPF_DIV, BPF_MOD and BPF_END."""
        match operation:
            case Swap() | Binary(code=Alu.DIV | Alu.MOD):
                return True
            case Binary(code=Alu.AND, right=int()) | Extend():
                return False
            case _:
                return bool(self.hidden) and any(value in self.hidden for value in values_of(operation))

    def _bits_made(self, operation: Operation) -> int:
        match operation:
            case Load(size=size, signed=False, result=result) if not result.type.is_address:
                return size * 8
            case Extend(source=source, bits=bits, signed=False):
                return min(bits, self.bits_of(source))
            case Extend(source=source, bits=bits):
                return self.bits_of(source) if self.bits_of(source) < bits else 64
            case Swap(bits=bits):
                return bits
            case Binary(bits=bits):
                return min(bits, self._bits_computed(operation))
            case Copy(source=int() as number):
                return self.bits_of(number)
            case _:
                return 64

    def _bits_computed(self, operation: Binary) -> int:
        left, right = self.bits_of(operation.left), self.bits_of(operation.right)
        match operation.code:
            case Alu.AND:
                return min(left, right)
            case Alu.OR | Alu.XOR:
                return max(left, right)
            case Alu.ADD:
                return min(64, max(left, right) + 1)
            case Alu.MUL:
                return min(64, left + right)
            case Alu.RSH if isinstance(operation.right, int):
                return max(0, left - operation.right)
            case Alu.LSH if isinstance(operation.right, int):
                return min(64, left + operation.right)
            case Alu.DIV if not operation.signed:
                return left
            case Alu.MOD if not operation.signed:
                return min(left, right) if isinstance(operation.right, int) and operation.right else left
            case _:
                return 64

    def binary(self, operation: Binary) -> Operation | _Known:
        """Arithmetic."""
        code, left, right = operation.code, operation.left, operation.right
        if isinstance(left, int) and isinstance(right, int):
            return _Known(compute(code, left, right, operation.bits, operation.signed))
        if isinstance(left, int) and code in _COMMUTATIVE:
            left, right = right, left
            operation.left, operation.right = left, right
        if isinstance(right, int) and code in SHIFTS:
            operation.right = right = right & (operation.bits - 1)
        if right == 0 and code in (Alu.DIV, Alu.MOD):
            instead = by_zero(operation)
            return instead if isinstance(instead, Extend) else _Known(instead.source)
        if operation.bits != 64 or operation.signed or not isinstance(right, int):
            return operation
        right &= MASK64
        if code is Alu.SUB:
            code, right = Alu.ADD, -right & MASK64
            operation.code = code
        operation.right = signed(right)
        return self._with_constant(operation, code, left, right)

    def _with_constant(self, operation: Binary, code: Alu, left: Any, right: int) -> Operation | _Known:
        """left code constant, for 64 bits; `right` is not negative."""
        if right == 0:
            return _Known(0) if code in (Alu.MUL, Alu.AND, Alu.DIV) else _Known(left)
        if right == 1 and code in (Alu.MUL, Alu.DIV):
            return _Known(left)
        if code is Alu.AND:
            return self._masked(operation, left, right)
        power = right.bit_length() - 1 if right & (right - 1) == 0 else 0
        if power and code in (Alu.MUL, Alu.DIV):
            operation.code, operation.right = (Alu.LSH if code is Alu.MUL else Alu.RSH), power
            return self._with_constant(operation, operation.code, left, power)
        if right & (right - 1) == 0 and code is Alu.MOD:
            operation.code, operation.right = Alu.AND, right - 1
            return self.binary(operation)
        if code is Alu.RSH:
            return self._shifted(operation, left, right)
        inner = self.made.get(left)
        if code is Alu.ADD and isinstance(inner, Binary) and self._is_sum(inner):
            operation.left = self._used(inner.left)
            operation.right = signed((inner.right + right) & MASK64)  # type: ignore[operator]  # a number, see _is_sum
            return _Known(inner.left) if operation.right == 0 else operation
        return operation

    @staticmethod
    def _is_sum(inner: Binary) -> bool:
        plain = inner.code is Alu.ADD and inner.bits == 64 and isinstance(inner.right, int)
        return plain and isinstance(inner.left, Value) and inner.left.type.kind is Kind.SCALAR

    def _masked(self, operation: Binary, left: Any, mask: int) -> Operation | _Known:
        if mask & (mask + 1) == 0 and self.bits_of(left) <= mask.bit_length() and left not in self.hidden:
            return _Known(left)
        inner = self.made.get(left)
        if isinstance(inner, Extend) and not inner.signed and mask < 1 << inner.bits:
            operation.left = self._used(inner.source)
            return operation
        size = _WHOLE_BYTES.get(mask)
        if size is not None and isinstance(inner, Load) and self._narrows(inner, size):
            inner.size = size
            self.bits[inner.result] = size * 8
            return _Known(left)
        return operation

    def _shifted(self, operation: Binary, left: Any, count: int) -> Operation | _Known:
        if count >= self.bits_of(left):
            return _Known(0)
        inner = self.made.get(left)
        if isinstance(inner, Swap) and count == inner.bits - 8 and self.bits_of(inner.source) <= inner.bits:
            # The byte that is the highest in network order is the lowest in memory.
            low = self._used(inner.source)
            return self.binary(Binary(Alu.AND, operation.result, low, 0xFF, operation.location))
        if isinstance(inner, Load) and count % 8 == 0 and self._narrows(inner, inner.size - count // 8):
            inner.size, inner.offset = inner.size - count // 8, inner.offset + count // 8
            self.bits[inner.result] = inner.size * 8
            return _Known(left)
        return operation

    def _narrows(self, load: Load, size: int) -> bool:
        """Whether the load can be one of so many bytes: what reads it reads no more."""
        plain = load.narrow and not load.volatile and not load.signed
        return plain and self.uses.get(load.result) == 1 and size in (1, 2, 4) and size <= load.size

    def extend(self, operation: Extend) -> Operation | _Known:
        """Zero and sign extension."""
        source, bits = operation.source, operation.bits
        if isinstance(source, int):
            low = source & (1 << bits) - 1
            return _Known(low - (1 << bits) if operation.signed and low >> bits - 1 else low)
        if self.bits_of(source) <= bits - operation.signed and (operation.signed or source not in self.hidden):
            return _Known(source)
        inner = self.made.get(source)
        if isinstance(inner, Extend) and inner.bits >= bits:
            operation.source = self._used(inner.source)
        if not operation.signed and isinstance(inner, Load) and self._narrows(inner, bits // 8):
            inner.size = bits // 8
            self.bits[inner.result] = bits
            return _Known(source)
        return operation

    def swap(self, operation: Swap) -> Operation | _Known:
        """Byte order."""
        source = operation.source
        if isinstance(source, int):
            return _Known(reversed_bytes(source, operation.bits))
        inner = self.made.get(source)
        if isinstance(inner, Swap) and inner.bits == operation.bits:
            if self.bits_of(inner.source) <= inner.bits:
                return _Known(inner.source)
            return Extend(operation.result, inner.source, inner.bits, False, operation.location)
        if isinstance(inner, Extend) and inner.bits >= operation.bits:
            operation.source = self._used(inner.source)
        return operation

    def copy(self, operation: Copy) -> Operation | _Known:
        """What is copied can be used instead, but for an address that is computed with."""
        return _Known(operation.source) if isinstance(operation.source, Value | int) else operation

    def access(self, operation: Load | Store | AtomicUpdate) -> Operation:
        """An access at an address plus a constant takes the constant into its offset."""
        while isinstance(operation.base, Value):
            inner = self.made.get(operation.base)
            if isinstance(inner, Binary) and inner.code is Alu.ADD and isinstance(inner.right, int):
                offset = operation.offset + inner.right
                if not -(1 << 15) <= offset < 1 << 15 or operation.base.type.kind is Kind.CONTEXT:
                    break
                operation.base, operation.offset = inner.left, offset  # type: ignore[assignment]  # an address
            elif isinstance(inner, Copy) and isinstance(inner.source, StackAddress | MapValueAddress):
                operation.base = inner.source
            else:
                break
        if isinstance(operation, Store) and isinstance(operation.source, Value):
            self._stored(operation)
        return operation

    def _stored(self, operation: Store) -> None:
        """What a store cuts off need not be computed."""
        inner = self.made.get(operation.source)  # type: ignore[arg-type]  # a value, as the caller knows
        width = operation.size * 8
        match inner:
            case Extend(bits=bits, source=source) if bits >= width:
                operation.source = self._used(source)
            case Binary(code=Alu.AND, left=left, right=int() as mask) if mask & (1 << width) - 1 == (1 << width) - 1:
                operation.source = self._used(left)

    def branch(self, operation: Branch) -> Operation:
        """A comparison."""
        if isinstance(operation.left, int):
            if isinstance(operation.right, int):
                taken = compare(operation.code, operation.left, operation.right, operation.bits)
                return Goto(operation.yes if taken else operation.no, operation.location)
            operation.left, operation.right = operation.right, operation.left
            operation.code = _MIRRORED.get(operation.code, operation.code)
        if operation.yes is operation.no:
            return Goto(operation.yes, operation.location)
        if isinstance(operation.right, int):
            outcome = self._compared(operation)
            if outcome is not None:
                return Goto(operation.yes if outcome else operation.no, operation.location)
        elif operation.code in _EQUALITY:
            self._swapped_both(operation)
        return operation

    def _compared(self, operation: Branch) -> bool | None:
        """Simplify a comparison with a constant; its outcome, if that is known."""
        while True:
            inner = self.made.get(operation.left)  # type: ignore[arg-type]  # a value: constants are on the right
            rule = _COMPARED.get(type(inner))
            if rule is None or not rule(self, operation, inner):
                break
        right = operation.right
        assert isinstance(right, int)  # noqa: S101 - the rules put numbers in the place of numbers
        if operation.bits == 64 and operation.code not in _SIGNED:
            return self._known_outcome(operation, right & MASK64)
        return None

    def _known_outcome(self, operation: Branch, right: int) -> bool | None:
        left = operation.left
        if isinstance(left, Value) and left.type.is_address and not left.type.nullable and right == 0:
            return {Jump.JEQ: False, Jump.JNE: True}.get(operation.code)
        if left in self.hidden:
            return None
        most = (1 << self.bits_of(left)) - 1
        match operation.code:
            case Jump.JEQ | Jump.JNE if right > most:
                return operation.code is Jump.JNE
            case Jump.JGT if most <= right:
                return False
            case Jump.JGE if most < right or right == 0:
                return right == 0
            case Jump.JLT if most < right or right == 0:
                return right != 0
            case Jump.JLE if most <= right:
                return True
            case Jump.JSET if most & right == 0:
                return False
        return None

    def compared_swap(self, operation: Branch, inner: Swap) -> bool:
        """Equal when swapped is equal before, where the swap drops nothing."""
        right = operation.right
        fits = isinstance(right, int) and 0 <= right < 1 << inner.bits and self.bits_of(inner.source) <= inner.bits
        if operation.code not in _EQUALITY or operation.bits != 64 or not fits or isinstance(inner.source, int):
            return False
        operation.right = reversed_bytes(right, inner.bits)  # type: ignore[arg-type]  # a number, see `fits`
        operation.left = self._used(inner.source)
        return True

    def compared_mask(self, operation: Branch, inner: Binary) -> bool:
        """A test of bits is a jump of its own."""
        is_test = operation.code in _EQUALITY and operation.right == 0 and operation.bits == 64
        if not (is_test and inner.code is Alu.AND and inner.bits == 64 and isinstance(inner.right, int)):
            return False
        if isinstance(inner.left, int) or not -(1 << 31) <= inner.right < 1 << 31:
            return False
        if operation.code is Jump.JEQ:
            operation.yes, operation.no = operation.no, operation.yes
        operation.code, operation.left, operation.right = Jump.JSET, self._used(inner.left), inner.right
        return True

    def compared_sign(self, operation: Branch, inner: Extend) -> bool:
        """A number whose sign ends at 32 bits is compared in 32 bits."""
        right = operation.right
        wide = inner.signed and inner.bits == 32 and operation.bits == 64 and isinstance(inner.source, Value)
        if not wide or not isinstance(right, int) or not -(1 << 31) <= signed(right) < 1 << 31:
            return False
        if operation.code not in _SIGNED | _EQUALITY:
            return False
        operation.left, operation.right, operation.bits = self._used(inner.source), signed(right), 32
        return True

    def _swapped_both(self, operation: Branch) -> None:
        one, other = self.made.get(operation.left), self.made.get(operation.right)  # type: ignore[arg-type]
        if not (isinstance(one, Swap) and isinstance(other, Swap) and one.bits == other.bits):
            return
        if max(self.bits_of(one.source), self.bits_of(other.source)) <= one.bits:
            operation.left, operation.right = self._used(one.source), self._used(other.source)


class _Known:
    """The operand that an operation's result equals."""

    __slots__ = ("operand",)

    def __init__(self, operand: Any) -> None:
        self.operand = operand


_RULES: dict[type[Any], Callable[..., Any]] = {
    Binary: _Folding.binary,
    Extend: _Folding.extend,
    Swap: _Folding.swap,
    Copy: _Folding.copy,
    Load: _Folding.access,
    Store: _Folding.access,
    AtomicUpdate: _Folding.access,
    Branch: _Folding.branch,
}
_COMPARED: dict[type[Any], Callable[..., bool]] = {
    Swap: _Folding.compared_swap,
    Binary: _Folding.compared_mask,
    Extend: _Folding.compared_sign,
}
