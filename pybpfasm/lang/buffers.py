"""Bytes on a program's stack, to be filled one by one or by a helper."""

from typing import Any

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
