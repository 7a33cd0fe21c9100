"""Operations that the target's instructions can do, with the operands that they can have.

In: a function. Out: the same, where constants that no instruction holds, and addresses that need a register, are copied
to values first, signed division is spelled out below level 4, and what the context takes from a register only
(before Linux 6.4) comes from one.

    store64 [%1], 1 << 40                    %7 = copy 1 << 40
                                             store64 [%1], %7
"""

from __future__ import annotations

from typing import Any

from pybpfasm.compiler.passes.arithmetic import SHIFTS, by_zero, signed
from pybpfasm.ir.function import Block, Function, reverse_postorder
from pybpfasm.ir.operations import (
    AtomicUpdate,
    Binary,
    Branch,
    Copy,
    Extend,
    Load,
    Location,
    MapValueAddress,
    Operation,
    Store,
    Swap,
    Value,
)
from pybpfasm.ir.target import Target
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.isa import Alu, Atomic, Jump

_SIGNED = frozenset((Jump.JSGT, Jump.JSGE, Jump.JSLT, Jump.JSLE))

_MEMORY = Type(Kind.MEMORY)


def legalize(function: Function, target: Target, bits: dict[Value, int]) -> None:
    """Run the pass; `bits` is how many low bits of a value may be set, where it is fewer than 64."""
    for block in reverse_postorder(function.entry):
        _Legalizing(function, block, target, bits).run()


class _Legalizing:
    """One block; `copies` has addresses of maps' values that were copied in it."""

    def __init__(self, function: Function, block: Block, target: Target, bits: dict[Value, int]) -> None:
        self.function = function
        self.block = block
        self.target = target
        self.bits = bits
        self.written: list[Operation] = []
        self.copies: dict[MapValueAddress, Value] = {}

    def run(self) -> None:
        """Write the block anew."""
        for operation in self.block.operations:
            match operation:
                case Binary(code=Alu.DIV | Alu.MOD, right=0):
                    self.written.append(by_zero(operation))
                    continue
                case Binary():
                    self._binary(operation)
                case Branch():
                    self._branch(operation)
                case Store():
                    self._store(operation)
                case Load():
                    operation.base = self._base(operation.base, operation.location)
                case AtomicUpdate():
                    self._atomic(operation)
                case Extend() | Swap():
                    operation.source = self._value(operation.source, operation.location)
            self.written.append(operation)
        self.block.operations = self.written

    def _binary(self, operation: Binary) -> None:
        if operation.signed and self.target.isa < 4:
            raise AssertionError("signed division is for level 4: the front end spells it out")
        if not isinstance(operation.right, int):
            return
        if operation.code in SHIFTS:
            operation.right &= operation.bits - 1
        number = _immediate(operation.right, operation.bits)
        operation.right = self._copied(operation.right, operation.location) if number is None else number

    def _branch(self, operation: Branch) -> None:
        if isinstance(operation.left, int):
            operation.left = self._copied(operation.left, operation.location)
        right = operation.right
        if isinstance(right, int):
            number = _immediate(right, operation.bits)
            if number is None and self._fits_32(operation, right):
                operation.bits, number = 32, signed(right, 32)
            operation.right = self._copied(right, operation.location) if number is None else number

    def _fits_32(self, operation: Branch, right: int) -> bool:
        """Whether both sides of an unsigned comparison have 32 bits."""
        narrow = self.bits.get(operation.left, 64) <= 32 and 0 <= right < 1 << 32  # type: ignore[arg-type]  # a value
        return narrow and operation.code not in _SIGNED

    def _store(self, operation: Store) -> None:
        operation.base = self._base(operation.base, operation.location)
        if not isinstance(operation.source, int):
            return
        number = signed(operation.source, operation.size * 8)
        to_context = isinstance(operation.base, Value) and operation.base.type.kind is Kind.CONTEXT
        if to_context and not self.target.store_immediate_to_context:
            operation.source = self._copied(number & (1 << operation.size * 8) - 1, operation.location)
        elif operation.size == 8 and not -(1 << 31) <= number < 1 << 31:
            operation.source = self._copied(number, operation.location)
        else:
            operation.source = number

    def _atomic(self, operation: AtomicUpdate) -> None:
        operation.base = self._base(operation.base, operation.location)
        if isinstance(operation.source, int) and operation.code is not Atomic.LOAD_ACQUIRE:
            operation.source = self._copied(operation.source, operation.location)

    def _value(self, operand: Any, location: Location) -> Any:
        return self._copied(operand, location) if isinstance(operand, int) else operand

    def _base(self, base: Any, location: Location) -> Any:
        if not isinstance(base, MapValueAddress):
            return base
        if base not in self.copies:
            self.copies[base] = self._copied(base, location, _MEMORY)
        return self.copies[base]

    def _copied(self, source: Any, location: Location, type_: Type = SCALAR) -> Value:
        value = self.function.value(type_)
        self.written.append(Copy(value, source, location))
        return value


def _immediate(number: int, bits: int) -> int | None:
    """The immediate that means the number, if there is one."""
    number = signed(number, bits)
    return number if -(1 << 31) <= number < 1 << 31 else None


__all__ = ["legalize"]

# What has no two operands of its own in an instruction: the other side may not be overwritten first.
COMMUTATIVE = frozenset((Alu.ADD, Alu.MUL, Alu.OR, Alu.AND, Alu.XOR))
