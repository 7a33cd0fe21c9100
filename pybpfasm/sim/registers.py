"""Registers: eleven numbers of 64 bits, some of which nobody has set yet."""

from typing import NoReturn, cast

M32 = 0xFFFFFFFF
M64 = 0xFFFFFFFF_FFFFFFFF

Registers = list[int]

FRAME_POINTER = 10


class UnsetRegisterRead(Exception):  # noqa: N818 - a signal of the interpreter to itself
    """An unset register took part in an operation; the machine finds out which one."""


class _Unset:
    """What an unset register holds: it has no operation, so that the reading instructions need no test."""

    __slots__ = ()

    def _refuse(self, *_: object) -> NoReturn:
        raise UnsetRegisterRead

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = _refuse
    __mod__ = __rmod__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __neg__ = __pos__ = __invert__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __index__ = __int__ = __bool__ = _refuse
    __eq__ = __ne__ = _refuse  # comparing never has an answer
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "unset"


UNSET = cast(int, _Unset())

# r1 to r5 after a call.
UNSET_ARGUMENTS = [UNSET] * 5
# r6 to r9 at the begin of a function.
UNSET_SAVED = [UNSET] * 4


def signed64(value: int) -> int:
    """The number that 64 bits mean as two's complement."""
    return value - (1 << 64) if value >> 63 else value


def signed32(value: int) -> int:
    """The number that the low 32 bits mean as two's complement."""
    value &= M32
    return value - (1 << 32) if value >> 31 else value
