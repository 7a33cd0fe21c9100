"""Moves that happen at once, one after the other: nothing is overwritten that is still to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

# In the place of a register: eight bytes of the stack.
STACK = -1


def in_sequence(moves: dict[int, int], spare: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """The moves (to a register, from a register) in an order that works.

    A circle is opened by way of what `spare` names: a register that nothing is in, or the stack.
    """
    waiting = {target: source for target, source in moves.items() if target != source}
    while waiting:
        ready = [target for target in waiting if target not in waiting.values()]
        for target in ready:
            yield target, waiting.pop(target)
        if not ready:
            opened = next(iter(waiting))
            through = spare()
            yield through, opened
            waiting = {target: through if source == opened else source for target, source in waiting.items()}
