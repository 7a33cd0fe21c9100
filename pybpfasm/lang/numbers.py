"""Functions of numbers that Python's operators have no sign for; outside a program they compute the same."""

from typing import Any

from pybpfasm.lang.types import IntType, value_type

_LOWEST = -(1 << 63)


def cast(to: Any, number: int) -> int:
    """The low bits of a number, as a type has them: `cast(u32, n)`, `cast(i8, n)`; u64, i64 change the sign."""
    type_ = value_type(to)
    if not isinstance(type_, IntType):
        raise TypeError(f"cast makes numbers: u8 to u64 or i8 to i64, not {type_}")
    low = number & (1 << type_.bits) - 1
    return low - (1 << type_.bits) if type_.signed and low >> type_.bits - 1 else low


def sdiv(left: int, right: int) -> int:
    """A signed number divided, cut towards 0, as C has it; by 0 it is 0, and -2**63 by -1 is -2**63."""
    if right == 0:
        return 0
    quotient = abs(left) // abs(right)
    quotient = -quotient if (left < 0) != (right < 0) else quotient
    return _LOWEST if quotient == -_LOWEST else quotient


def smod(left: int, right: int) -> int:
    """The rest of `sdiv`, with the sign of `left`; by 0 it is `left`."""
    return left if right == 0 else left - sdiv(left, right) * right if (left, right) != (_LOWEST, -1) else 0


def can_loop() -> bool:
    """Whether the kernel lets the program go on: as the condition of a loop that has no bound of its own (6.9)."""
    return True
