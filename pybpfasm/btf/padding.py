"""The bits between a struct's members: unnamed bit fields that make the C compiler leave the same holes.

How holes are filled follows libbpf's btf_dump.c (commit 04312c5dfca4), so that dumps can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator


def padding(start: int, end: int, alignment: int, *, after_bit_field: bool, long_bits: int) -> Iterator[str]:
    """Members that move the compiler from bit `start` to bit `end`.

    There are none where the compiler goes there by itself: what comes at `end` is aligned to `alignment` bytes.
    """
    if start >= end:
        return
    units = (("long", long_bits), ("int", 32), ("short", 16), ("char", 8))
    unit, bits = next((each for each in units if _round_up(start, each[1]) <= end), units[-1])
    boundary = _round_up(start, bits)
    if start < boundary <= end:
        if after_bit_field:
            yield f"{unit}: {boundary - start}"
        elif _needs_mark(start, boundary, end, alignment):
            yield f"{unit}: 0"
        start = boundary
    for _ in range((end - start) // bits):
        yield f"{unit}: {bits}"
    rest = (end - start) % bits
    if rest:
        unit = next(name for name, width in reversed(units) if width >= rest)
        yield f"{unit}: {rest}"


def _needs_mark(start: int, boundary: int, end: int, alignment: int) -> bool:
    """Whether the compiler has to be told to go to the boundary: by itself it would stay before it."""
    if boundary == end:
        return _round_up(start, alignment * 8) != boundary
    return end - boundary <= boundary - start


def _round_up(bits: int, unit: int) -> int:
    return -(-bits // unit) * unit
