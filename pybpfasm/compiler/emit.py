"""From operations with registers given out to instructions.

In: blocks in order, an allocation. Out: instructions with labels, and the source line that each comes from.
"""

from collections.abc import Callable, Sequence

import attrs

from pybpfasm import isa
from pybpfasm.compiler.registers import Allocation
from pybpfasm.ir import (
    Argument,
    Base,
    Binary,
    Block,
    Branch,
    Call,
    Function,
    Goto,
    Load,
    Location,
    MapAddress,
    Move,
    Operand,
    Operation,
    Register,
    Return,
    Slot,
    SlotAddress,
    Store,
    Swap,
)
from pybpfasm.isa import INVERSE, Alu, Instruction, Label

FRAME_POINTER = 10
STACK_BYTES = 512

_SCRATCH, _SECOND_SCRATCH = 4, 5
_COMMUTATIVE = {Alu.ADD, Alu.MUL, Alu.OR, Alu.AND, Alu.XOR}


@attrs.define
class Emitter:
    """Writes the instructions of one program."""

    function: Function
    order: Sequence[Block]
    allocation: Allocation
    items: list[Instruction | Label] = attrs.field(factory=list)
    locations: list[Location] = attrs.field(factory=list)
    stack_used: int = 0
    _offsets: dict[Slot, int] = attrs.field(factory=dict)
    _location: Location | None = None

    def emit(self) -> None:
        """Write all of it: `items` has the instructions and labels, `locations` one entry an instruction."""
        self._location = self.order[0].operations[0].location
        self._receive_context()
        for block, following in zip(self.order, [*self.order[1:], None], strict=True):
            self.items.append(Label(str(block)))
            for operation in block.operations:
                self._location = operation.location
                self._operation(operation, following)

    def _receive_context(self) -> None:
        context = self.function.context
        if context in self.allocation.spilled:
            self._write(isa.store(8, FRAME_POINTER, self._offset(self.allocation.spilled[context]), 1))
        elif self.allocation.registers[context] != 1:
            self._write(isa.mov(self.allocation.registers[context], 1))

    def _operation(self, operation: Operation, following: Block | None) -> None:
        match operation:
            case Move(target=target, source=source):
                self._into(target, lambda number: self._load_operand(number, source))
            case Binary():
                self._into(operation.target, lambda number: self._binary(number, operation))
            case Swap(target=target, source=source, bits=bits):
                self._into(target, lambda number: self._swap(number, source, bits))
            case Load(target=target, base=base, offset=offset, size=size):
                number, at = self._base(base, offset, _SCRATCH)
                self._into(target, lambda into: self._write(isa.load(size, into, number, at)))
            case Store():
                self._store(operation)
            case Call():
                self._call(operation)
            case Goto(block=block):
                if block is not following:
                    self._write(isa.jump(str(block)))
            case Branch():
                self._branch(operation, following)
            case Return(value=value):
                self._load_operand(0, value)
                self._write(isa.exit_program())

    def _into(self, target: Register, write: Callable[[int], None]) -> None:
        """Have `target` written: in its machine register, or in a scratch register that is then spilled."""
        if target in self.allocation.spilled:
            write(_SCRATCH)
            self._write(isa.store(8, FRAME_POINTER, self._offset(self.allocation.spilled[target]), _SCRATCH))
        elif target in self.allocation.registers:
            write(self.allocation.registers[target])

    def _binary(self, target: int, operation: Binary) -> None:
        left, right = operation.left, operation.right
        if operation.code in _COMMUTATIVE and isinstance(left, int):
            left, right = right, left
        source = self._short_immediate(right)
        if source is None:
            number = self._in_register(right, _SECOND_SCRATCH)
            if number == target and left != right:
                if operation.code in _COMMUTATIVE:
                    self._write(isa.alu(operation.code, target, self._in_register(left, _SCRATCH)))
                    return
                self._write(isa.mov(_SECOND_SCRATCH, number))
                number = _SECOND_SCRATCH
            self._load_operand(target, left)
            self._write(isa.alu(operation.code, target, number))
        else:
            self._load_operand(target, left)
            self._write(isa.alu_imm(operation.code, target, source))

    def _swap(self, target: int, source: Register, bits: int) -> None:
        self._load_operand(target, source)
        self._write(isa.to_big_endian(target, bits))

    def _store(self, operation: Store) -> None:
        base, offset = self._base(operation.base, operation.offset, _SCRATCH)
        if isinstance(operation.source, int):
            self._write(isa.store_imm(operation.size, base, offset, _signed(operation.source, operation.size)))
        else:
            source = self._in_register(operation.source, _SECOND_SCRATCH)
            self._write(isa.store(operation.size, base, offset, source))

    def _call(self, operation: Call) -> None:
        moves: dict[int, int] = {}
        others: list[tuple[int, Argument]] = []
        for number, argument in enumerate(operation.arguments, start=1):
            if isinstance(argument, Register) and argument in self.allocation.registers:
                moves[number] = self.allocation.registers[argument]
            else:
                others.append((number, argument))
        self._parallel_moves(moves)
        for number, argument in others:
            self._load_argument(number, argument)
        self._write(isa.call(operation.helper))
        if operation.target is not None and self.allocation.registers.get(operation.target) != 0:
            self._into(operation.target, lambda into: self._write(isa.mov(into, 0)))

    def _parallel_moves(self, moves: dict[int, int]) -> None:
        """Moves that happen at once: a register is overwritten only when nobody waits for it; r0 breaks a circle."""
        waiting = {target: source for target, source in moves.items() if target != source}
        while waiting:
            ready = [target for target in waiting if target not in waiting.values()]
            if not ready:
                target = next(iter(waiting))
                self._write(isa.mov(0, target))
                waiting = {into: 0 if source == target else source for into, source in waiting.items()}
                continue
            for target in ready:
                self._write(isa.mov(target, waiting.pop(target)))

    def _load_argument(self, number: int, argument: Argument) -> None:
        match argument:
            case MapAddress(map=map_spec):
                self._write(isa.load_map(number, map_spec.name))
            case SlotAddress(slot=slot, offset=offset):
                self._write(isa.mov(number, FRAME_POINTER))
                self._write(isa.alu_imm(Alu.ADD, number, self._offset(slot) + offset))
            case _:
                self._load_operand(number, argument)

    def _branch(self, operation: Branch, following: Block | None) -> None:
        left = self._in_register(operation.left, _SCRATCH)
        code, yes, no = operation.code, operation.yes, operation.no
        if yes is following:
            code, yes, no = INVERSE[code], no, yes
        immediate = self._short_immediate(operation.right, operation.bits)
        if immediate is None:
            right = self._in_register(operation.right, _SECOND_SCRATCH)
            self._write(isa.jump_if(code, left, right, str(yes), bits=operation.bits))
        else:
            self._write(isa.jump_if_imm(code, left, immediate, str(yes), bits=operation.bits))
        if no is not following:
            self._write(isa.jump(str(no)))

    def _base(self, base: Base, offset: int, scratch: int) -> tuple[int, int]:
        if isinstance(base, Slot):
            return FRAME_POINTER, self._offset(base) + offset
        return self._in_register(base, scratch), offset

    def _in_register(self, operand: Operand, scratch: int) -> int:
        """The machine register that holds the operand; `scratch`, if it has to be loaded first."""
        if isinstance(operand, Register) and operand in self.allocation.registers:
            return self.allocation.registers[operand]
        self._load_operand(scratch, operand)
        return scratch

    def _load_operand(self, number: int, operand: Operand) -> None:
        if isinstance(operand, Register):
            if operand in self.allocation.spilled:
                slot = self.allocation.spilled[operand]
                self._write(isa.load(8, number, FRAME_POINTER, self._offset(slot)))
            elif self.allocation.registers[operand] != number:
                self._write(isa.mov(number, self.allocation.registers[operand]))
        elif -(1 << 31) <= operand < 1 << 31:
            self._write(isa.mov_imm(number, operand))
        elif 0 <= operand < 1 << 32:
            self._write(isa.mov_imm(number, _signed(operand, 4), bits=32))
        else:
            self._write(isa.load_imm64(number, operand & (1 << 64) - 1))

    def _short_immediate(self, operand: Operand, bits: int = 64) -> int | None:
        """The immediate that an instruction sign-extends to the operand, if there is one."""
        if isinstance(operand, Register):
            return None
        if bits == 32:
            return _signed(operand, 4)
        value = _signed(operand, 8)
        return value if -(1 << 31) <= value < 1 << 31 else None

    def _offset(self, slot: Slot) -> int:
        """Where a slot lies, below the frame pointer; it gets its place when it is first used."""
        if slot not in self._offsets:
            self.stack_used += slot.size
            self._offsets[slot] = -self.stack_used
        return self._offsets[slot]

    def _write(self, instruction: Instruction) -> None:
        assert self._location is not None  # noqa: S101 - set before the first instruction
        self.items.append(instruction)
        self.locations.append(self._location)


def _signed(value: int, size: int) -> int:
    """The low `size` bytes of a number, as a signed number."""
    bits = size * 8
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value
