"""Helpers that format text: trace_printk, trace_vprintk, snprintf (kernel/bpf/helpers.c, bpf_bprintf_prepare)."""

import ipaddress
import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pybpfasm.sim.errors import AccessError, SimError, UninitialisedError
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.registers import M32, M64, UNSET, signed32, signed64
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_MAX_ARGUMENTS = 12  # MAX_BPRINTF_VARARGS
_MAX_PRINTK_ARGUMENTS = 3
# Classes of characters as the kernel's lib/ctype.c has them: those of Latin-1.
_END = rf"(?=[\s{re.escape(string.punctuation)}\xa0-\xbf\xd7\xf7]|$)"
_PLACE = re.compile(
    rf"%(?:%|(?P<flags>[-+ 0]*)(?P<width>[1-9]\d*)?"
    rf"(?P<kind>p(?:[iI][46]|[ku]s{_END}|[KxsSB]|{_END})|s{_END}|c|l?l?[diuxX]))"
)
_NOT_PRINTABLE = re.compile(r"[^\t-\r -~\x80-\xff]")
_ALPHANUMERIC = re.compile(r"[0-9A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\xff]*")
_MAX_STRING = 512
_MAX_WIDTH = 1000
_PRINTED = 1023  # MAX_BPRINTF_BUF, without its zero


class _FormatError(Exception):
    """A format that the kernel refuses."""


def _formatted(machine: "Machine", text: bytes, arguments: Iterator[int]) -> str:
    pattern = text.decode("latin-1")
    if _NOT_PRINTABLE.search(pattern):
        raise _FormatError
    parts: list[str] = []
    at = 0
    while (found := pattern.find("%", at)) >= 0:
        parts.append(pattern[at:found])
        place = _PLACE.match(pattern, found)
        if place is None:
            raise _FormatError
        parts.append(_one(machine, place, arguments) if place["kind"] else "%")
        at = _after(pattern, place)
    return "".join(parts) + pattern[at:]


def _after(pattern: str, place: re.Match[str]) -> int:
    """Where the format goes on: letters and digits after a pointer's are skipped (lib/vsprintf.c, bstr_printf)."""
    if (place["kind"] or "").startswith("p"):
        rest = _ALPHANUMERIC.match(pattern, place.end())
        assert rest is not None  # noqa: S101 - none at all are a match too
        return rest.end()
    return place.end()


def _one(machine: "Machine", place: re.Match[str], arguments: Iterator[int]) -> str:
    flags, width, kind = place["flags"], place["width"] or "", place["kind"]
    if width and int(width) > _MAX_WIDTH:
        raise SimError(f"{place[0]}: a width of more than {_MAX_WIDTH} is not simulated")
    value = next(arguments, None)
    if value is None:
        raise _FormatError
    if value is UNSET:
        raise UninitialisedError("an argument of the format has no value")
    if kind[0] == "p":
        return _pointer(machine, kind, value, flags, width)
    if kind in "sc":
        return _padded(_string(machine, value) if kind == "s" else chr(value & 0xFF), flags, width)
    wide, conversion = kind.startswith("l"), kind[-1]
    if conversion in "di":
        return f"%{flags}{width}d" % (signed64(value) if wide else signed32(value))
    return _unsigned(value & (M64 if wide else M32), conversion, flags, width)


def _unsigned(value: int, conversion: str, flags: str, width: str) -> str:
    """A number without a sign, also where the flags ask for one."""
    flags = flags.replace("+", "").replace(" ", "")
    return f"%{flags}{width}{'d' if conversion == 'u' else conversion}" % value


def _padded(text: str, flags: str, width: str) -> str:
    if not width:
        return text
    return text.ljust(int(width)) if "-" in flags else text.rjust(int(width))


def _string(machine: "Machine", address: int) -> str:
    try:
        return machine.memory.read_string(address, _MAX_STRING).decode("latin-1")
    except AccessError:
        return ""


def _pointer(machine: "Machine", kind: str, value: int, flags: str, width: str) -> str:
    """A pointer as a number, or what is there. The kernel hashes p and pK, and knows names for pS, ps and pB."""
    if kind in ("pks", "pus"):
        return _string(machine, value)
    if kind[1:2] in ("i", "I"):
        return _address(machine, kind, value)
    if kind == "pB":
        return f"{value:#x}"
    if kind in ("pS", "ps"):
        return _padded(f"{value:#x}", flags, width)
    return _unsigned(value, "x", flags, width) if width else _unsigned(value, "x", flags + "0", "16")


def _address(machine: "Machine", kind: str, value: int) -> str:
    """The IP address at a pointer; zeros if it cannot be read."""
    size = 4 if kind[2] == "4" else 16
    try:
        data = machine.memory.read(value, size)
    except AccessError:
        data = bytes(size)
    if size == 4:
        return str(ipaddress.IPv4Address(data)) if kind[1] == "I" else ".".join(f"{byte:03}" for byte in data)
    return ipaddress.IPv6Address(data).exploded if kind[1] == "I" else data.hex()


def _format_string(machine: "Machine", address: int, size: int) -> bytes:
    text, zero, _ = machine.memory.read(address, size).partition(b"\0")
    if not zero:
        raise _FormatError
    return text


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
    machine.observed.printed.append(text[:_PRINTED])
    return len(text)


@helper(Helper.SNPRINTF)
def snprintf(machine: "Machine", target: int, size: int, format_: int, data: int, length: int) -> int:
    """Format into a buffer, cut to fit; how many bytes the whole text takes, with its zero."""
    try:
        arguments = _words(machine, data, length)
    except _FormatError:
        return -Errno.EINVAL
    pattern = machine.memory.read_string(format_)
    try:
        text = _formatted(machine, pattern, arguments).encode("latin-1")
    except _FormatError:
        raise SimError(f"snprintf of {pattern!r}: the verifier refuses this format, or wants more arguments") from None
    machine.memory.check_writable(target, size)
    if size:
        machine.memory.write(target, text[: size - 1] + b"\0")
    return len(text) + 1
