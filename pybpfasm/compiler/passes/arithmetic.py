"""What operations compute, for constants: the rules of RFC 9669, section 4."""

from pybpfasm.ir.operations import Binary, Copy, Extend
from pybpfasm.isa import Alu, Jump

MASK64 = (1 << 64) - 1

SHIFTS = (Alu.LSH, Alu.RSH, Alu.ARSH)  # the verifier refuses a constant count that is not below the width


def signed(number: int, bits: int = 64) -> int:
    """The low bits of a number, as a signed one."""
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number


def reversed_bytes(number: int, bits: int) -> int:
    """The low bits of a number with their bytes in the other order."""
    return int.from_bytes((number & (1 << bits) - 1).to_bytes(bits // 8, "little"), "big")


def compute(code: Alu, left: int, right: int, bits: int, is_signed: bool) -> int:
    """left code right, from 0 to 2**bits - 1."""
    mask = (1 << bits) - 1
    left &= mask
    right &= mask
    match code:
        case Alu.ADD:
            return left + right & mask
        case Alu.SUB:
            return left - right & mask
        case Alu.MUL:
            return left * right & mask
        case Alu.OR:
            return left | right
        case Alu.AND:
            return left & right
        case Alu.XOR:
            return left ^ right
        case Alu.LSH:
            return left << (right & bits - 1) & mask
        case Alu.RSH:
            return left >> (right & bits - 1)
        case Alu.ARSH:
            return signed(left, bits) >> (right & bits - 1) & mask
        case Alu.DIV | Alu.MOD if is_signed:
            return _signed_division(code, signed(left, bits), signed(right, bits)) & mask
        case Alu.DIV:
            return left // right if right else 0
        case Alu.MOD:
            return left % right if right else left
        case _:
            raise AssertionError(f"{code.name} computes nothing from two numbers")


def _signed_division(code: Alu, left: int, right: int) -> int:
    if right == 0:
        return 0 if code is Alu.DIV else left
    quotient = abs(left) // abs(right)
    if (left < 0) != (right < 0):
        quotient = -quotient
    return quotient if code is Alu.DIV else left - quotient * right


def compare(code: Jump, left: int, right: int, bits: int) -> bool:
    """Whether left code right, of so many bits."""
    mask = (1 << bits) - 1
    left &= mask
    right &= mask
    signed_left, signed_right = signed(left, bits), signed(right, bits)
    return {
        Jump.JEQ: left == right,
        Jump.JNE: left != right,
        Jump.JSET: bool(left & right),
        Jump.JGT: left > right,
        Jump.JGE: left >= right,
        Jump.JLT: left < right,
        Jump.JLE: left <= right,
        Jump.JSGT: signed_left > signed_right,
        Jump.JSGE: signed_left >= signed_right,
        Jump.JSLT: signed_left < signed_right,
        Jump.JSLE: signed_left <= signed_right,
    }[code]


def by_zero(operation: Binary) -> Copy | Extend:
    """Division by a constant 0, which the verifier refuses (check_alu_op), is 0; the rest is what there was."""
    left = operation.left
    if operation.code is Alu.DIV:
        return Copy(operation.result, 0, operation.location)
    if operation.bits == 64:
        return Copy(operation.result, left, operation.location)
    return Extend(operation.result, left, operation.bits, False, operation.location)
