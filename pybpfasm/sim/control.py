"""Instructions that go elsewhere: jumps, calls, exit."""

from typing import TYPE_CHECKING

from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import (
    CALL,
    CALL_REGISTER,
    EXIT,
    JA,
    JA_LONG,
    JA_REGISTER,
    MAY_GOTO,
    CallKind,
    Class,
    X,
)
from pybpfasm.sim import alu
from pybpfasm.sim.coverage import NOT_TAKEN, TAKEN
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.operation import Operation, Place
from pybpfasm.sim.registers import M32, M64, Registers

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine


def operation(instruction: Instruction, place: Place) -> Operation:
    """The closure of a JMP or JMP32 instruction. Raises `SimError` for a target outside the program, or for gotox."""
    opcode, dst, _, offset, imm, symbol = instruction
    if symbol is not None and not (opcode == CALL and instruction.src == CallKind.KFUNC):
        raise SimError(f"label {symbol!r} is not resolved: see isa.resolve_labels")
    if opcode == EXIT:
        return lambda _registers, machine: machine.leave()
    if opcode == CALL:
        return _call(instruction, place)
    if opcode == CALL_REGISTER:
        return lambda registers, machine: machine.call_register(+registers[dst], place.following)
    if opcode in (JA, JA_LONG):
        return go_to(place.target(offset if opcode == JA else imm))
    if opcode == JA_REGISTER:
        raise SimError("a jump to an address in a register is not simulated")
    if opcode == MAY_GOTO:
        return _may_goto(place, place.target(offset))
    return _conditional(instruction, place)


def go_to(target: int) -> Operation:
    """Nothing but going on at `target`."""
    return lambda _registers, _machine: target


def _call(instruction: Instruction, place: Place) -> Operation:
    following, imm, symbol = place.following, instruction.imm, instruction.symbol
    if instruction.src == CallKind.FUNCTION:
        target = place.target(imm)
        return lambda _, machine: machine.enter(target, following)
    if instruction.src == CallKind.KFUNC:
        return lambda _, machine: machine.call_kernel(symbol, imm, following)
    return lambda _, machine: machine.call_helper(imm, following)


def _may_goto(place: Place, target: int) -> Operation:
    slot, following = place.slot, place.following

    def run(_: Registers, machine: "Machine") -> int:
        if machine.may_go_on():
            machine.edges[slot] |= NOT_TAKEN
            return following
        machine.edges[slot] |= TAKEN
        return target

    return run


def _conditional(instruction: Instruction, place: Place) -> Operation:
    opcode, dst, src, offset, imm, _ = instruction
    wide = opcode & 7 == Class.JMP
    holds = (alu.JUMP64 if wide else alu.JUMP32)[opcode & 0xF0]
    slot, following, target = place.slot, place.following, place.target(offset)
    constant = imm & (M64 if wide else M32)

    def compare_registers(registers: Registers, machine: "Machine") -> int:
        if holds(registers[dst], registers[src]):
            machine.edges[slot] |= TAKEN
            return target
        machine.edges[slot] |= NOT_TAKEN
        return following

    def compare_constant(registers: Registers, machine: "Machine") -> int:
        if holds(registers[dst], constant):
            machine.edges[slot] |= TAKEN
            return target
        machine.edges[slot] |= NOT_TAKEN
        return following

    return compare_registers if opcode & X else compare_constant
