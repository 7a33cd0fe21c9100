"""Helpers that format text: trace_printk, trace_vprintk, snprintf (kernel/bpf/helpers.c, bpf_bprintf_prepare)."""

import ipaddress
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybpfasm.sim.errors import AccessError, UninitialisedError
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.registers import M32, M64, UNSET, signed32, signed64
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_MAX_ARGUMENTS = 12  # MAX_BPRINTF_VARARGS
_MAX_PRINTK_ARGUMENTS = 3
_PLACE = re.compile(r"%([-+ #0]*)(\d*)(?:(p(?:[iI][46]|[kux]s|[KxsSB])?|ll?[diuxX]|[diuxXsc])|(%))")
_MAX_STRING = 512
_MAX_WIDTH = 1000


class _FormatError(Exception):
    """A format that the kernel refuses with EINVAL."""


def _formatted(machine: "Machine", text: bytes, arguments: Iterator[int]) -> str:
    pattern = text.decode("latin-1")
    parts: list[str] = []
    at = 0
    while (found := pattern.find("%", at)) >= 0:
        parts.append(pattern[at:found])
        place = _PLACE.match(pattern, found)
        if place is None:
            raise _FormatError
        parts.append("%" if place[4] else _one(machine, place, arguments))
        at = place.end()
    return "".join(parts) + pattern[at:]


def _one(machine: "Machine", place: re.Match[str], arguments: Iterator[int]) -> str:
    flags, width, kind = place[1], place[2], place[3]
    if width and int(width) > _MAX_WIDTH:
        raise _FormatError
    value = next(arguments, None)
    if value is None:
        raise _FormatError
    if value is UNSET:
        raise UninitialisedError("an argument of the format has no value")
    if kind in ("s", "pks", "pus"):
        return _padded(_string(machine, value), flags, width)
    if kind == "c":
        return _padded(chr(value & 0xFF), flags, width)
    if kind[0] == "p":
        return _padded(_pointer(machine, kind, value), flags, width)
    wide, conversion = kind.startswith("l"), kind[-1]
    if conversion in "di":
        return f"%{flags}{width}d" % (signed64(value) if wide else signed32(value))
    return f"%{flags}{width}{'d' if conversion == 'u' else conversion}" % (value & (M64 if wide else M32))


def _padded(text: str, flags: str, width: str) -> str:
    if not width:
        return text
    return text.ljust(int(width)) if "-" in flags else text.rjust(int(width))


def _string(machine: "Machine", address: int) -> str:
    try:
        return machine.memory.read_string(address, _MAX_STRING).decode("latin-1")
    except AccessError:
        return ""


def _pointer(machine: "Machine", kind: str, value: int) -> str:
    if kind[1:] in ("i4", "I4", "i6", "I6"):
        data = machine.memory.read(value, 4 if kind[2] == "4" else 16)
        if kind[2] == "4":
            dotted = str(ipaddress.IPv4Address(data))
            return dotted if kind[1] == "I" else ".".join(f"{byte:03}" for byte in data)
        return ipaddress.IPv6Address(data).exploded if kind[1] == "I" else data.hex()
    return f"{value & M64:016x}"


def _format_string(machine: "Machine", address: int, size: int) -> bytes:
    data = machine.memory.read(address, size)
    if not data.endswith(b"\0"):
        raise _FormatError
    return data.partition(b"\0")[0]


def _words(machine: "Machine", address: int, length: int) -> Iterator[int]:
    if length % 8 or length > _MAX_ARGUMENTS * 8 or (length and not address):
        raise _FormatError
    data = machine.memory.read(address, length)
    order = machine.world.byteorder
    return iter([int.from_bytes(data[at : at + 8], order) for at in range(0, length, 8)])


@helper(Helper.TRACE_PRINTK)
def trace_printk(machine: "Machine", format_: int, size: int, *arguments: int) -> int:
    """Print with up to three arguments; how many characters were printed."""
    return _print(machine, format_, size, iter(arguments[:_MAX_PRINTK_ARGUMENTS]))


@helper(Helper.TRACE_VPRINTK)
def trace_vprintk(machine: "Machine", format_: int, size: int, data: int, length: int) -> int:
    """Print with arguments from an array of 64-bit numbers."""
    try:
        return _print(machine, format_, size, _words(machine, data, length))
    except _FormatError:
        return -Errno.EINVAL


def _print(machine: "Machine", format_: int, size: int, arguments: Iterator[int]) -> int:
    try:
        text = _formatted(machine, _format_string(machine, format_, size), arguments)
    except _FormatError:
        return -Errno.EINVAL
    machine.observed.printed.append(text)
    return len(text)


@helper(Helper.SNPRINTF)
def snprintf(machine: "Machine", target: int, size: int, format_: int, data: int, length: int) -> int:
    """Format into a buffer, cut to fit; how many bytes the whole text takes, with its zero."""
    try:
        arguments = _words(machine, data, length)
        text = _formatted(machine, machine.memory.read_string(format_), arguments).encode("latin-1")
    except _FormatError:
        return -Errno.EINVAL
    machine.memory.check_writable(target, size)
    if size:
        machine.memory.write(target, text[: size - 1] + b"\0")
    return len(text) + 1
