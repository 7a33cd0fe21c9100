"""Arithmetic and comparison, as RFC 9669 section 4 has them: plain functions of unsigned numbers.

A function of 64 bits takes and gives 64 bits, one of 32 bits takes and gives 32: the upper half of the register
becomes zero. A division by zero gives 0, its modulo the dividend; shifts use the low 6 or 5 bits of the distance.
"""

import operator
from collections.abc import Callable

from pybpfasm.isa.opcodes import Alu, Jump
from pybpfasm.sim.registers import M32, M64, signed32, signed64

Binary = Callable[[int, int], int]
Unary = Callable[[int], int]
Comparison = Callable[[int, int], bool]

_SIGN64 = 1 << 63
_SIGN32 = 1 << 31


def _divide(a: int, b: int) -> int:
    return a // b if b else 0


def _modulo(a: int, b: int) -> int:
    return a % b if b else a


def _signed_divide(a: int, b: int) -> int:
    # Towards zero; the smallest number by -1 overflows to itself, which the caller's mask does.
    if b == 0:
        return 0
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _signed_modulo(a: int, b: int) -> int:
    # The sign is the dividend's.
    if b == 0:
        return a
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


ALU64: dict[int, Binary] = {
    Alu.ADD: lambda a, b: (a + b) & M64,
    Alu.SUB: lambda a, b: (a - b) & M64,
    Alu.MUL: lambda a, b: (a * b) & M64,
    Alu.DIV: _divide,
    Alu.OR: operator.or_,
    Alu.AND: operator.and_,
    Alu.LSH: lambda a, b: (a << (b & 63)) & M64,
    Alu.RSH: lambda a, b: a >> (b & 63),
    Alu.MOD: _modulo,
    Alu.XOR: operator.xor,
    Alu.ARSH: lambda a, b: (signed64(a) >> (b & 63)) & M64,
}

ALU32: dict[int, Binary] = {
    Alu.ADD: lambda a, b: (a + b) & M32,
    Alu.SUB: lambda a, b: (a - b) & M32,
    Alu.MUL: lambda a, b: (a * b) & M32,
    Alu.DIV: lambda a, b: _divide(a & M32, b & M32),
    Alu.OR: lambda a, b: (a | b) & M32,
    Alu.AND: lambda a, b: a & b & M32,
    Alu.LSH: lambda a, b: ((a & M32) << (b & 31)) & M32,
    Alu.RSH: lambda a, b: (a & M32) >> (b & 31),
    Alu.MOD: lambda a, b: _modulo(a & M32, b & M32),
    Alu.XOR: lambda a, b: (a ^ b) & M32,
    Alu.ARSH: lambda a, b: (signed32(a) >> (b & 31)) & M32,
}

SIGNED64: dict[int, Binary] = {
    Alu.DIV: lambda a, b: _signed_divide(signed64(a), signed64(b)) & M64,
    Alu.MOD: lambda a, b: _signed_modulo(signed64(a), signed64(b)) & M64,
}

SIGNED32: dict[int, Binary] = {
    Alu.DIV: lambda a, b: _signed_divide(signed32(a), signed32(b)) & M32,
    Alu.MOD: lambda a, b: _signed_modulo(signed32(a), signed32(b)) & M32,
}

# Flipping the sign bit maps the order of signed numbers to that of unsigned ones.
JUMP64: dict[int, Comparison] = {
    Jump.JEQ: operator.eq,
    Jump.JNE: operator.ne,
    Jump.JGT: operator.gt,
    Jump.JGE: operator.ge,
    Jump.JLT: operator.lt,
    Jump.JLE: operator.le,
    Jump.JSET: lambda a, b: a & b != 0,
    Jump.JSGT: lambda a, b: a ^ _SIGN64 > b ^ _SIGN64,
    Jump.JSGE: lambda a, b: a ^ _SIGN64 >= b ^ _SIGN64,
    Jump.JSLT: lambda a, b: a ^ _SIGN64 < b ^ _SIGN64,
    Jump.JSLE: lambda a, b: a ^ _SIGN64 <= b ^ _SIGN64,
}

JUMP32: dict[int, Comparison] = {
    Jump.JEQ: lambda a, b: a & M32 == b & M32,
    Jump.JNE: lambda a, b: a & M32 != b & M32,
    Jump.JGT: lambda a, b: a & M32 > b & M32,
    Jump.JGE: lambda a, b: a & M32 >= b & M32,
    Jump.JLT: lambda a, b: a & M32 < b & M32,
    Jump.JLE: lambda a, b: a & M32 <= b & M32,
    Jump.JSET: lambda a, b: a & b & M32 != 0,
    Jump.JSGT: lambda a, b: a & M32 ^ _SIGN32 > b & M32 ^ _SIGN32,
    Jump.JSGE: lambda a, b: a & M32 ^ _SIGN32 >= b & M32 ^ _SIGN32,
    Jump.JSLT: lambda a, b: a & M32 ^ _SIGN32 < b & M32 ^ _SIGN32,
    Jump.JSLE: lambda a, b: a & M32 ^ _SIGN32 <= b & M32 ^ _SIGN32,
}


def negate(bits: int) -> Unary:
    """Two's complement of the low `bits`; the bits above become zero."""
    mask = (1 << bits) - 1
    return lambda a: -a & mask


def extend(width: int, bits: int) -> Unary:
    """The low `width` bits, their sign extended to `bits`; the bits above become zero."""
    low, sign, mask = (1 << width) - 1, 1 << (width - 1), (1 << bits) - 1
    return lambda a: ((a & low ^ sign) - sign) & mask


def swap(bits: int) -> Unary:
    """The low `bits`, their bytes reversed; the bits above become zero."""
    mask, size = (1 << bits) - 1, bits // 8
    return lambda a: int.from_bytes((a & mask).to_bytes(size, "little"), "big")


def truncate(bits: int) -> Unary:
    """The low `bits`; the bits above become zero."""
    mask = (1 << bits) - 1
    return lambda a: a & mask
