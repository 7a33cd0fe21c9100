"""Waiting for descriptors, whatever their numbers: select(2) knows those below 1024 alone."""

import select
from collections.abc import Collection


def readable(descriptors: Collection[int], seconds: float) -> list[int]:
    """Which of them are readable, or at their end, within so many seconds."""
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return [each for each, _ in poll.poll(max(seconds, 0.0) * 1000)]
