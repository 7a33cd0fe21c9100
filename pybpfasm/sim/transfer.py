"""Instructions that load and store: LDX, ST, STX, and of LD ld_imm64 and the legacy packet loads."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import BYTES_OF_SIZE, FETCH, LD_IMM64, Alu, Atomic, Class, Mode, Size, WideKind
from pybpfasm.sim import alu
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.operation import Operation, Place
from pybpfasm.sim.registers import M32, M64, UNSET_ARGUMENTS, Registers, signed32

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_SIZE_BITS = 0x18
_MODE_BITS = 0xE0
_CONTEXT_REGISTER = 6

_COMBINE = {Atomic.ADD: Alu.ADD, Atomic.OR: Alu.OR, Atomic.AND: Alu.AND, Atomic.XOR: Alu.XOR}


def operation(instruction: Instruction, place: Place) -> Operation:
    """The closure of an LD, LDX, ST or STX instruction. Raises `SimError` for one that cannot be."""
    opcode = instruction.opcode
    group, mode = opcode & 7, opcode & _MODE_BITS
    size = BYTES_OF_SIZE[Size(opcode & _SIZE_BITS)]
    if group == Class.LD:
        if opcode == LD_IMM64:
            return _wide(instruction, place)
        return _load_packet(instruction, size, place.following)
    if group == Class.LDX:
        return (_load if mode == Mode.MEM else _load_signed)(instruction, size, place.following)
    if group == Class.ST:
        return _store_constant(instruction, size, place.following)
    if mode == Mode.ATOMIC:
        return _atomic(instruction, size, place.following)
    return _store(instruction, size, place.following)


def _load(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, src, offset, _, _ = instruction

    def run(registers: Registers, machine: "Machine") -> int:
        registers[dst] = machine.memory.load((registers[src] + offset) & M64, size)
        return following

    return run


def _load_signed(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, src, offset, _, _ = instruction
    extend = alu.extend(size * 8, 64)

    def run(registers: Registers, machine: "Machine") -> int:
        registers[dst] = extend(machine.memory.load((registers[src] + offset) & M64, size))
        return following

    return run


def _store(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, src, offset, _, _ = instruction

    def run(registers: Registers, machine: "Machine") -> int:
        machine.memory.store((registers[dst] + offset) & M64, size, +registers[src])
        return following

    return run


def _store_constant(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, _, offset, imm, _ = instruction

    def run(registers: Registers, machine: "Machine") -> int:
        machine.memory.store((registers[dst] + offset) & M64, size, imm)
        return following

    return run


def _atomic(instruction: Instruction, size: int, following: int) -> Operation:
    code = instruction.imm
    if code == Atomic.LOAD_ACQUIRE:
        return _load_acquire(instruction, size, following)
    if code == Atomic.STORE_RELEASE:
        return _store_release(instruction, size, following)
    if code == Atomic.CMPXCHG:
        return _compare_exchange(instruction, size, following)
    if code == Atomic.XCHG:
        return _combine(instruction, size, following, lambda _old, new: new, fetch=True)
    compute = alu.ALU64[_COMBINE[Atomic(code & ~FETCH)]]
    return _combine(instruction, size, following, compute, fetch=bool(code & FETCH))


def _load_acquire(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, src, offset, _, _ = instruction

    def run(registers: Registers, machine: "Machine") -> int:
        address = (registers[src] + offset) & M64
        registers[dst] = machine.memory.atomic(address, size, "read").load(address & M32, size)
        return following

    return run


def _store_release(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, src, offset, _, _ = instruction

    def run(registers: Registers, machine: "Machine") -> int:
        address = (registers[dst] + offset) & M64
        machine.memory.atomic(address, size).store(address & M32, size, +registers[src])
        return following

    return run


def _combine(
    instruction: Instruction, size: int, following: int, compute: Callable[[int, int], int], *, fetch: bool
) -> Operation:
    _, dst, src, offset, _, _ = instruction

    def run(registers: Registers, machine: "Machine") -> int:
        address = (registers[dst] + offset) & M64
        operand = +registers[src]
        region = machine.memory.atomic(address, size)
        old = region.load(address & M32, size)
        region.store(address & M32, size, compute(old, operand))
        if fetch:
            registers[src] = old
        return following

    return run


def _compare_exchange(instruction: Instruction, size: int, following: int) -> Operation:
    _, dst, src, offset, _, _ = instruction
    mask = (1 << size * 8) - 1

    def run(registers: Registers, machine: "Machine") -> int:
        address = (registers[dst] + offset) & M64
        expected, new = registers[0] & mask, +registers[src]
        region = machine.memory.atomic(address, size)
        old = region.load(address & M32, size)
        region.store(address & M32, size, new if old == expected else old)
        registers[0] = old
        return following

    return run


def _wide(instruction: Instruction, place: Place) -> Operation:
    _, dst, kind, _, imm, symbol = instruction
    imm &= M64
    if kind == WideKind.FUNC:
        if symbol is not None:
            raise SimError(f"function {symbol!r} is not resolved: see isa.resolve_labels")
        target = place.target(signed32(imm) - 1)  # a distance from the first of the two slots' successor

        def function(registers: Registers, machine: "Machine") -> int:
            registers[dst] = machine.function_address(target)
            return place.following

        return function
    if kind == WideKind.IMM:
        if symbol is not None:
            raise SimError(f"{symbol!r} is not resolved: the number or the address that it stands for is not known")

        def constant(registers: Registers, _: "Machine") -> int:
            registers[dst] = imm
            return place.following

        return constant

    def refer(registers: Registers, machine: "Machine") -> int:
        registers[dst] = machine.reference(WideKind(kind), symbol, imm)
        return place.following

    return refer


def _load_packet(instruction: Instruction, size: int, following: int) -> Operation:
    indirect = instruction.opcode & _MODE_BITS == Mode.IND
    src, imm = instruction.src, instruction.imm

    def run(registers: Registers, machine: "Machine") -> int:
        offset = registers[src] + imm if indirect else imm
        loaded = machine.load_packet(+registers[_CONTEXT_REGISTER], offset & M32, size)
        registers[1:6] = UNSET_ARGUMENTS
        if loaded is None:
            # Past the packet's end the function returns 0 (net/core/filter.c, bpf_gen_ld_abs).
            registers[0] = 0
            return machine.leave()
        registers[0] = loaded
        return following

    return run
