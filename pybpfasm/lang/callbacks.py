"""Functions that the kernel calls back: rounds of a loop, entries of a map."""

from collections.abc import Callable
from typing import TypeVar, overload

C = TypeVar("C")


@overload
def loop(rounds: int, body: Callable[[int], int]) -> int: ...
@overload
def loop(rounds: int, body: Callable[[int, C], int], context: C) -> int: ...
def loop(rounds: int, body: Callable[..., int], context: object = None) -> int:
    """Call `body(index, context)` so many times, until it returns 1 (Linux 5.17); how many rounds there were.

    `body` is a `@callback`, `context` a struct that it reads and writes. The verifier looks at the body once.
    """
    for index in range(rounds):
        if body(index) if context is None else body(index, context):
            return index + 1
    return rounds
