"""From operations with registers to instructions, block by block; where a block leads is left to `layout`.

In: legal operations, a register for each value. Out: for each block its instructions, each with the place in the source
that it comes from, and how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pybpfasm import isa
from pybpfasm.compiler.backend.frame import FRAME_POINTER, Frame
from pybpfasm.compiler.backend.legalize import COMMUTATIVE
from pybpfasm.compiler.backend.moves import STACK, in_sequence
from pybpfasm.compiler.backend.registers import Allocation
from pybpfasm.compiler.passes.arithmetic import signed
from pybpfasm.ir.function import Block, Function
from pybpfasm.ir.operations import (
    Assembly,
    AtomicUpdate,
    Binary,
    Branch,
    Call,
    CallFunction,
    CallKernel,
    Copy,
    Extend,
    FunctionReference,
    Goto,
    Load,
    Location,
    MapReference,
    MapValueAddress,
    MayGoto,
    Operation,
    Return,
    StackAddress,
    Store,
    Swap,
    Value,
)
from pybpfasm.ir.target import Target
from pybpfasm.isa import Alu, Atomic, Instruction
from pybpfasm.records import define, field, frozen

_ALL = range(10)


@frozen
class Exit:
    """The block ends the function; r0 has the result."""

    location: Location


@frozen
class Jumps:
    """A comparison of registers, or of one with an immediate."""

    branch: Branch
    left: int
    right: int | None
    immediate: int


@define(eq=False)
class Piece:
    """A block's instructions, and its end."""

    block: Block
    instructions: list[Instruction] = field(factory=list)
    locations: list[Location] = field(factory=list)
    end: Exit | Goto | Jumps | MayGoto | None = None


class Selector:
    """Writes the pieces of one function."""

    def __init__(self, function: Function, allocation: Allocation, frame: Frame, target: Target) -> None:
        self.function = function
        self.allocation = allocation
        self.registers = allocation.registers
        self.frame = frame
        self.target = target
        self.variables: list[tuple[Piece, int, int, str]] = []
        self.piece: Piece
        self._location = function.location

    def pieces(self, order: Sequence[Block]) -> list[Piece]:
        """All of them."""
        found: list[Piece] = []
        for block in order:
            self.piece = Piece(block)
            found.append(self.piece)
            if block is order[0]:
                self._receive()
            for operation in block.operations:
                self._location = operation.location
                _RULES[type(operation)](self, operation)
        return found

    def _receive(self) -> None:
        """The parameters, from r1 to r5 to where they are wanted."""
        moves = {
            self.registers[value]: number
            for number, value in enumerate(self.function.parameters, start=1)
            if value in self.registers
        }
        self._move_all(moves, set())

    def copy(self, operation: Copy) -> None:
        """An operand into a register."""
        self._into(self._result(operation.result), operation.source)

    def binary(self, operation: Binary) -> None:
        """Arithmetic; the result's register is the left side's, or becomes it."""
        target, code, bits = self._result(operation.result), operation.code, operation.bits
        left, right = operation.left, operation.right
        if code is Alu.SUB and left == 0 and isinstance(right, Value):
            self._into(target, right)
            self._write(isa.neg(target, bits=bits))
            return
        if isinstance(right, Value):
            source = self.registers[right]
            if source == target and left is not right:
                if code in COMMUTATIVE and isinstance(left, Value):
                    self._write(isa.alu(code, target, self.registers[left], bits=bits))
                    return
                raise AssertionError(f"{code.name} would overwrite its right side")
            self._into(target, left, bits)
            self._write(isa.alu(code, target, source, bits=bits, signed=operation.signed))
        else:
            self._into(target, left, bits)
            number = signed(right, 32) if bits == 32 else signed(right)
            self._write(isa.alu_imm(code, target, number, bits=bits, signed=operation.signed))

    def extend(self, operation: Extend) -> None:
        """Zeros or copies of the sign above a number."""
        target, source, bits = self._result(operation.result), self.registers[operation.source], operation.bits  # type: ignore[index]
        if not operation.signed and bits == 32:
            self._write(isa.mov(target, source, bits=32))
        elif not operation.signed:
            self._into(target, operation.source)
            self._write(isa.alu_imm(Alu.AND, target, (1 << bits) - 1))
        elif self.target.isa >= 4:
            self._write(isa.mov_signed(target, source, bits))
        else:
            self._into(target, operation.source)
            self._write(isa.alu_imm(Alu.LSH, target, 64 - bits))
            self._write(isa.alu_imm(Alu.ARSH, target, 64 - bits))

    def swap(self, operation: Swap) -> None:
        """Byte order."""
        target = self._result(operation.result)
        self._into(target, operation.source)
        self._write(isa.to_big_endian(target, operation.bits))

    def load(self, operation: Load) -> None:
        """From memory."""
        base, offset = self._place(operation.base, operation.offset)
        target = self._result(operation.result)
        if not operation.signed or operation.size == 8:
            self._write(isa.load(operation.size, target, base, offset))
        elif self.target.isa >= 4:
            self._write(isa.load_signed(operation.size, target, base, offset))
        else:
            self._write(isa.load(operation.size, target, base, offset))
            self._write(isa.alu_imm(Alu.LSH, target, 64 - operation.size * 8))
            self._write(isa.alu_imm(Alu.ARSH, target, 64 - operation.size * 8))

    def store(self, operation: Store) -> None:
        """To memory."""
        base, offset = self._place(operation.base, operation.offset)
        if isinstance(operation.source, int):
            number = signed(operation.source, 8 * min(operation.size, 4))
            self._write(isa.store_imm(operation.size, base, offset, number))
        else:
            self._write(isa.store(operation.size, base, offset, self.registers[operation.source]))

    def atomic(self, operation: AtomicUpdate) -> None:
        """At once; what is fetched comes in the register of the source, or of r0 for a comparison."""
        base, offset = self._place(operation.base, operation.offset)
        code, size = operation.code, operation.size
        if code is Atomic.CMPXCHG:
            self._into(0, operation.expected)
            self._write(isa.compare_exchange(size, base, offset, self.registers[operation.source]))  # type: ignore[index]
            if operation.result is not None and self._result(operation.result) != 0:
                self._write(isa.mov(self._result(operation.result), 0))
            return
        if code is Atomic.LOAD_ACQUIRE:
            self._write(isa.load_acquire(size, self._result(operation.result), base, offset))  # type: ignore[arg-type]
            return
        if code is Atomic.STORE_RELEASE:
            self._write(isa.store_release(size, base, offset, self.registers[operation.source]))  # type: ignore[index]
            return
        if operation.result is None and code is not Atomic.XCHG:
            self._write(isa.atomic(code, size, base, offset, self.registers[operation.source]))  # type: ignore[index]
            return
        target = self._result(operation.result) if operation.result is not None else self.registers[operation.source]  # type: ignore[index]
        self._into(target, operation.source)
        if code is Atomic.XCHG:
            self._write(isa.exchange(size, base, offset, target))
        else:
            self._write(isa.atomic(code, size, base, offset, target, fetch=True))

    def call(self, operation: Call) -> None:
        """A helper."""
        self._called(operation.arguments, operation.result, isa.call(operation.helper))

    def call_kernel(self, operation: CallKernel) -> None:
        """A kfunc."""
        self._called(operation.arguments, operation.result, isa.call_kfunc(operation.name))

    def call_function(self, operation: CallFunction) -> None:
        """A function of the program."""
        self._called(operation.arguments, operation.result, isa.call_function(operation.function.name))

    def assembly(self, operation: Assembly) -> None:
        """Instructions as they are."""
        self._called(operation.inputs, operation.result, *operation.instructions)

    def goto(self, operation: Goto) -> None:
        """The parameters of the block that follows get their values."""
        pairs = list(zip(operation.block.parameters, operation.arguments, strict=True))
        moves: dict[int, int] = {}
        others: list[tuple[int, Any]] = []
        for parameter, argument in pairs:
            target = self.registers[parameter]
            if isinstance(argument, Value):
                moves[target] = self.registers[argument]
            else:
                others.append((target, argument))
        self._move_all(moves, {target for target, _ in others})
        for target, argument in others:
            self._into(target, argument)
        self.piece.end = operation

    def branch(self, operation: Branch) -> None:
        """A comparison."""
        left = self.registers[operation.left]  # type: ignore[index]  # legal: a value
        if isinstance(operation.right, Value):
            self.piece.end = Jumps(operation, left, self.registers[operation.right], 0)
        else:
            self.piece.end = Jumps(operation, left, None, signed(operation.right, 32))

    def may_goto(self, operation: MayGoto) -> None:
        """The kernel decides."""
        self.piece.end = operation

    def leave(self, operation: Return) -> None:
        """The result in r0."""
        self._into(0, operation.value)
        self.piece.end = Exit(operation.location)

    def _called(self, arguments: Sequence[Any], result: Value | None, *instructions: Instruction) -> None:
        moves: dict[int, int] = {}
        others: list[tuple[int, Any]] = []
        for number, argument in enumerate(arguments, start=1):
            if isinstance(argument, Value):
                moves[number] = self.registers[argument]
            else:
                others.append((number, argument))
        for target, source in in_sequence(moves, lambda: 0):
            self._write(isa.mov(target, source))
        for number, argument in others:
            self._into(number, argument)
        for instruction in instructions:
            self._write(instruction)
        if result is not None and self._result(result) != 0:
            self._write(isa.mov(self._result(result), 0))

    def _move_all(self, moves: dict[int, int], written: set[int]) -> None:
        def spare() -> int:
            busy = {*moves, *moves.values(), *written, *self.allocation.busy_behind(self.piece.block)}
            return next((number for number in _ALL if number not in busy), STACK)

        for target, source in in_sequence(moves, spare):
            if target == STACK:
                self._write(isa.store(8, FRAME_POINTER, self.frame.scratch(), source))
            elif source == STACK:
                self._write(isa.load(8, target, FRAME_POINTER, self.frame.scratch()))
            else:
                self._write(isa.mov(target, source))

    def _result(self, value: Value) -> int:
        register = self.registers[value]
        if value.name is not None:
            self.variables.append((self.piece, len(self.piece.instructions), register, value.name))
        return register

    def _place(self, base: Any, offset: int) -> tuple[int, int]:
        if isinstance(base, StackAddress):
            return FRAME_POINTER, self.frame.offset(base.slot) + base.offset + offset
        return self.registers[base], offset

    def _into(self, number: int, operand: Any, bits: int = 64) -> None:
        """Have an operand in a register."""
        match operand:
            case Value():
                if self.registers[operand] != number:
                    self._write(isa.mov(number, self.registers[operand]))
            case int():
                self._write(_constant(number, operand, bits))
            case StackAddress(slot=slot, offset=offset):
                self._write(isa.mov(number, FRAME_POINTER))
                self._write(isa.alu_imm(Alu.ADD, number, self.frame.offset(slot) + offset))
            case MapReference(map=map_spec):
                self._write(isa.load_map(number, map_spec.name))
            case MapValueAddress(map=map_spec, offset=offset):
                self._write(isa.load_map_value(number, map_spec.name, offset))
            case FunctionReference(function=function):
                self._write(isa.load_function(number, function.name))

    def _write(self, instruction: Instruction) -> None:
        self.piece.instructions.append(instruction)
        self.piece.locations.append(self._location)


def _constant(number: int, value: int, bits: int) -> Instruction:
    if bits == 32:
        return isa.mov_imm(number, signed(value, 32), bits=32)
    value = signed(value)
    if -(1 << 31) <= value < 1 << 31:
        return isa.mov_imm(number, value)
    if 0 <= value < 1 << 32:
        return isa.mov_imm(number, signed(value, 32), bits=32)
    return isa.load_imm64(number, value)


_RULES: dict[type[Operation], Callable[[Selector, Any], None]] = {
    Copy: Selector.copy,
    Binary: Selector.binary,
    Extend: Selector.extend,
    Swap: Selector.swap,
    Load: Selector.load,
    Store: Selector.store,
    AtomicUpdate: Selector.atomic,
    Call: Selector.call,
    CallKernel: Selector.call_kernel,
    CallFunction: Selector.call_function,
    Assembly: Selector.assembly,
    Goto: Selector.goto,
    Branch: Selector.branch,
    MayGoto: Selector.may_goto,
    Return: Selector.leave,
}
