"""Instructions of the classes ALU and ALU64."""

from typing import TYPE_CHECKING

from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import ADDR_SPACE_CAST_OFFSET, PER_CPU_OFFSET, SIGNED_OFFSET, Alu, Class, X
from pybpfasm.sim import alu
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.memory import ByteOrder
from pybpfasm.sim.operation import Operation, Place
from pybpfasm.sim.registers import M32, M64, Registers

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine


def operation(instruction: Instruction, place: Place, order: ByteOrder) -> Operation:
    """The closure of an ALU or ALU64 instruction. Raises `SimError` for one that is not simulated."""
    opcode, dst, src, offset, imm, _ = instruction
    wide = opcode & 7 == Class.ALU64
    code = opcode & 0xF0
    if code == Alu.MOV:
        return _move(instruction, place, wide)
    if code == Alu.NEG:
        return _unary(alu.negate(64 if wide else 32), dst, dst, place.following)
    if code == Alu.END:
        return _unary(_swap(wide, bool(opcode & X), imm, order), dst, dst, place.following)
    signed = offset == SIGNED_OFFSET
    table = (alu.SIGNED64 if signed else alu.ALU64) if wide else (alu.SIGNED32 if signed else alu.ALU32)
    if opcode & X:
        return _binary(table[code], dst, src, place.following)
    return _binary_constant(table[code], dst, imm & (M64 if wide else M32), place.following)


def _move(instruction: Instruction, place: Place, wide: bool) -> Operation:
    opcode, dst, src, offset, imm, _ = instruction
    bits = 64 if wide else 32
    if not opcode & X:
        return _constant(dst, imm & ((1 << bits) - 1), place.following)
    if offset == 0:
        return _copy(dst, src, place.following) if wide else _unary(alu.truncate(32), dst, src, place.following)
    if offset == PER_CPU_OFFSET:
        raise SimError("the kernel's own instruction for per-CPU addresses is not simulated")
    if offset == ADDR_SPACE_CAST_OFFSET:
        raise SimError("address spaces (arenas) are not simulated")
    return _unary(alu.extend(offset, bits), dst, src, place.following)


def _swap(wide: bool, to_big: bool, bits: int, order: ByteOrder) -> alu.Unary:
    if wide or to_big != (order == "big"):
        return alu.swap(bits)
    return alu.truncate(bits)


def _constant(dst: int, value: int, following: int) -> Operation:
    def run(registers: Registers, _: "Machine") -> int:
        registers[dst] = value
        return following

    return run


def _copy(dst: int, src: int, following: int) -> Operation:
    def run(registers: Registers, _: "Machine") -> int:
        registers[dst] = +registers[src]  # the sign refuses an unset register
        return following

    return run


def _unary(compute: alu.Unary, dst: int, src: int, following: int) -> Operation:
    def run(registers: Registers, _: "Machine") -> int:
        registers[dst] = compute(registers[src])
        return following

    return run


def _binary(compute: alu.Binary, dst: int, src: int, following: int) -> Operation:
    def run(registers: Registers, _: "Machine") -> int:
        registers[dst] = compute(registers[dst], registers[src])
        return following

    return run


def _binary_constant(compute: alu.Binary, dst: int, constant: int, following: int) -> Operation:
    def run(registers: Registers, _: "Machine") -> int:
        registers[dst] = compute(registers[dst], constant)
        return following

    return run
