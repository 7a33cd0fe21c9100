"""Helpers of strings: strtol, strtoul, strncmp."""

import re
from typing import TYPE_CHECKING

from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

# What isspace() of the kernel takes (lib/ctype.c): also the no-break space of Latin-1.
_SPACES = b" \t\n\v\f\r\xa0"
_DIGITS = {8: re.compile(rb"[0-7]+"), 10: re.compile(rb"[0-9]+"), 16: re.compile(rb"[0-9a-fA-F]+")}
_LONGEST = 63


@helper(Helper.STRTOL)
def strtol(machine: "Machine", text: int, size: int, flags: int, result: int) -> int:
    """A signed number at the begin of a text; how many characters it takes. `flags` is its base, 0 finds it out."""
    return _parse(machine, text, size, flags, result, signed=True)


@helper(Helper.STRTOUL)
def strtoul(machine: "Machine", text: int, size: int, flags: int, result: int) -> int:
    """An unsigned number at the begin of a text; how many characters it takes."""
    return _parse(machine, text, size, flags, result, signed=False)


def _parse(machine: "Machine", text: int, size: int, flags: int, result: int, *, signed: bool) -> int:
    machine.memory.check_writable(result, 8)
    machine.memory.write(result, bytes(8))
    if flags not in (0, 8, 10, 16) or not size:
        return -Errno.EINVAL
    data = machine.memory.read(text, size)
    stripped = data.lstrip(_SPACES)
    negative = stripped.startswith(b"-")
    digits = stripped[negative:][:_LONGEST]
    base = flags or _base(digits)
    begin = 2 if base == 16 and digits[:2].lower() == b"0x" else 0
    found = _DIGITS[base].match(digits, begin)
    if found is None:
        return -Errno.EINVAL
    number = int(found[0], base)
    if number >= 1 << 64 or (signed and number > (1 << 63) - (not negative)):
        return -Errno.ERANGE
    if negative and not signed:
        return -Errno.EINVAL
    value = (-number if negative else number) & (1 << 64) - 1
    machine.memory.write(result, value.to_bytes(8, machine.world.byteorder))
    return len(data) - len(stripped) + negative + found.end()


def _base(digits: bytes) -> int:
    if re.match(rb"0[xX][0-9a-fA-F]", digits):
        return 16
    return 8 if digits.startswith(b"0") else 10


@helper(Helper.STRNCMP)
def strncmp(machine: "Machine", first: int, size: int, second: int) -> int:
    """Compare a text of at most `size` bytes with a constant one: below zero, zero, or above."""
    left = machine.memory.read(first, size).partition(b"\0")[0]
    right = machine.memory.read_string(second)[:size]
    return (left > right) - (left < right)
