"""Values in options: bytes, numbers, pairs."""

import re

from pybpfasm.cli.errors import InputError, UsageError
from pybpfasm.cli.streams import read_input, shown

_NOT_HEX = re.compile(r"[^0-9a-fA-F\s]")


def bytes_of(text: str, option: str) -> bytes:
    """`HEX`, spaces allowed, or the contents of the file in `@FILE`. Raises `UsageError` or `InputError`."""
    if text.startswith("@"):
        return read_input(text[1:])
    digits = re.sub(r"\s", "", text.removeprefix("0x"))
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", digits):
        raise UsageError(f"{option} {text!r} is no hex text: write two digits a byte, or @FILE")
    return bytes.fromhex(digits)


def hex_text(text: str, name: str) -> bytes:
    """The bytes of hex text, two digits each, with any spaces and lines between. Raises `InputError`."""
    for number, line in enumerate(text.split("\n"), start=1):
        wrong = _NOT_HEX.search(line)
        if wrong:
            place = f"line {number}, column {wrong.start() + 1}"
            shown_line = line[:1000]
            raise InputError(
                f"{shown(name)}: {place}: {wrong[0]!r} is no hex digit\n    {shown_line}\n    {' ' * wrong.start()}^"
            )
    digits = "".join(text.split())
    if len(digits) % 2:
        raise InputError(f"{shown(name)}: it has an odd number of hex digits, {len(digits)}: a byte has two")
    return bytes.fromhex(digits)


def number_of(text: str, option: str) -> int:
    """A number in decimal, or in hex behind `0x`. Raises `UsageError`."""
    if not re.fullmatch(r"[-+]?(?:0[xX][0-9a-fA-F]{1,32}|[0-9]{1,32})", text):
        raise UsageError(f"{option}: {text!r} is no number: write 12 or 0xc")
    return int(text, 0) if "x" in text.lower() else int(text)


def pair_of(text: str, option: str, form: str) -> tuple[str, str]:
    """The two sides of `left=right`. Raises `UsageError`."""
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise UsageError(f"{option} {text!r} is not of the form {form}")
    return left, right
