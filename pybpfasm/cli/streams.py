"""What a command reads and writes: a file by name, or with `-` standard input and output."""

import os
import sys
from contextlib import suppress

from pybpfasm.cli.errors import InputError

STANDARD = "-"

# No program, object or kernel's BTF is near it; a device that never ends is.
_MOST_BYTES = 256 << 20


def shown(name: str) -> str:
    """How an input is called in a message."""
    return "standard input" if name == STANDARD else name


def read_input(name: str) -> bytes:
    """All of a file, or of standard input. Raises `InputError` if it cannot be read, or is empty."""
    try:
        data = _standard_input() if name == STANDARD else _contents(name)
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: this is a directory: name a file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(name)} cannot be read: {_reason(error)}") from None
    if len(data) > _MOST_BYTES:
        raise InputError(f"{shown(name)}: it has more than {_MOST_BYTES >> 20} MiB")
    if not data:
        raise InputError(f"{shown(name)}: it is empty")
    return data


def read_text(name: str) -> str:
    """A file, or standard input, as UTF-8 text. Raises `InputError`."""
    data = read_input(name)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{shown(name)}: line {line}: this is no text in UTF-8") from None


def write_output(name: str, data: bytes | str) -> None:
    """Write a file, or standard output; text as UTF-8. What fails leaves no half file behind."""
    encoded = data.encode(errors="replace") if isinstance(data, str) else data
    if name == STANDARD:
        if sys.stdout is None:
            raise InputError("standard output is closed: say -o FILE")
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded)
        sys.stdout.buffer.flush()
        return
    existed = os.path.exists(name)
    try:
        with open(name, "wb") as file:
            file.write(encoded)
    except (OSError, ValueError) as error:
        if not existed:
            with suppress(OSError, ValueError):
                os.unlink(name)
        raise InputError(f"{name} cannot be written: {_reason(error)}") from None


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise InputError("standard input is closed: name a file")
    return sys.stdin.buffer.read(_MOST_BYTES + 1)


def _contents(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read(_MOST_BYTES + 1)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
