"""Names of maps and programs, as the kernel stores them."""

import re

from pybpfasm.errors import BpfError

# Object names in the kernel: 15 characters and a zero (BPF_OBJ_NAME_LEN).
NAME_BYTES = 15

_OBJECT_NAME = re.compile(r"[A-Za-z0-9_.]+")


def object_name(name: str) -> bytes:
    """A name as the kernel stores it, cut to what it keeps. Raises `BpfError` for characters that it refuses."""
    if not _OBJECT_NAME.fullmatch(name):
        raise BpfError(f"{name!r} is no name for a map or a program: letters, digits, `_` and `.` are possible")
    return name.encode()[:NAME_BYTES]
