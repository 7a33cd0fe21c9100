"""Helpers of strings: strtol, strtoul, strncmp."""

import re
from typing import TYPE_CHECKING

from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_DIGITS = {8: re.compile(rb"0?[0-7]+"), 10: re.compile(rb"[0-9]+"), 16: re.compile(rb"(?:0[xX])?[0-9a-fA-F]+")}
_LONGEST = 64  # _BPF_MAX_STR_LEN


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
    data = machine.memory.read(text, size).partition(b"\0")[0][:_LONGEST]
    stripped = data.lstrip(b" \t\n\v\f\r")
    consumed = len(data) - len(stripped)
    negative = signed and stripped.startswith(b"-")
    if negative:
        stripped, consumed = stripped[1:], consumed + 1
    base = flags or _base(stripped)
    found = _DIGITS[base].match(stripped)
    if found is None:
        return -Errno.EINVAL
    number = int(found[0], base)
    if number >= 1 << 64 or (signed and number > (1 << 63) - (not negative)):
        return -Errno.ERANGE
    value = (-number if negative else number) & (1 << 64) - 1
    machine.memory.write(result, value.to_bytes(8, machine.world.byteorder))
    return consumed + found.end()


def _base(text: bytes) -> int:
    if re.match(rb"0[xX][0-9a-fA-F]", text):
        return 16
    return 8 if text.startswith(b"0") else 10


@helper(Helper.STRNCMP)
def strncmp(machine: "Machine", first: int, size: int, second: int) -> int:
    """Compare a text of at most `size` bytes with a constant one: below zero, zero, or above."""
    left = machine.memory.read(first, size).partition(b"\0")[0]
    right = machine.memory.read_string(second)[:size]
    return (left > right) - (left < right)
