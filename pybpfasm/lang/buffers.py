"""Bytes on a program's stack, to be filled one by one or by a helper."""

from typing import Annotated, Any

from pybpfasm.lang.contexts import Context
from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.types import LayoutError, Record, be16, be32, be64

MOST_BYTES = 512


class Buffer:
    """`Buffer(16)`: so many bytes, all zero at first."""

    def __init__(self, size: int) -> None:
        if not 1 <= size <= MOST_BYTES:
            raise LayoutError(f"a buffer has 1 to {MOST_BYTES} bytes, not {size}")
        self._bytes = bytearray(size)

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index: int) -> int:
        return self._bytes[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._bytes[index] = value & 0xFF


# What a helper reads as bytes: a struct, an array, text, a buffer, or a number in network order as it lies there.
Data = Record | bytes | list[Any] | Buffer | be16 | be32 | be64

# What a helper writes to, or reads and writes; its size goes with it.
Into = Annotated[Record | bytes | list[Any] | Buffer, "into"]

# The same where the kernel knows the size: a struct of its own, a number of 8 bytes.
Exact = Annotated[Record | bytes | list[Any] | Buffer, "exact"]

# A constant text, which is handed over with a zero at its end.
Text = Annotated[bytes, "text"]

# An object of the kernel's, by pointer: a socket, a struct of the kernel, a context where the helper takes one.
KernelObject = Annotated[KernelStruct | Context, "object"]
