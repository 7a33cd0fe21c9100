"""Loops that the kernel counts: the verifier looks at their bodies until nothing new is learnt, not once a round."""

from collections.abc import Iterator
from typing import overload


@overload
def numbers(stop: int, /) -> Iterator[int]: ...
@overload
def numbers(start: int, stop: int, /) -> Iterator[int]: ...
def numbers(start: int, stop: int | None = None, /) -> Iterator[int]:
    """`for i in numbers(n):`, `for i in numbers(2, n):`, up to 8,388,608 rounds (Linux 6.4)."""
    return iter(range(start) if stop is None else range(start, stop))
