"""Timers: a field of a map's value that lets the kernel call a function later (Linux 5.15)."""

from collections.abc import Callable
from typing import Annotated, Any

from pybpfasm.lang.layout import Length
from pybpfasm.lang.maps import MapDeclaration, only_in_program
from pybpfasm.lang.types import Struct, u64

CLOCK_REALTIME = 0
CLOCK_MONOTONIC = 1
CLOCK_BOOTTIME = 7


class Timer(Struct, name="bpf_timer"):
    """A field of a map's value, `timer: Timer = Timer()`: one in a value."""

    opaque: Annotated[list[u64], Length(2)] = [0, 0]  # noqa: RUF012 - the default of a field


def timer_init(timer: Timer, entries: MapDeclaration[Any, Any], clock: int = CLOCK_MONOTONIC) -> int:
    """Prepare the timer of a value of `entries`, by a clock: 0, or -EBUSY if it was before."""
    del timer, entries, clock
    only_in_program("timer_init")


def timer_set_callback(timer: Timer, entries: MapDeclaration[Any, Any], body: Callable[[Any, Any], int]) -> int:
    """Have `body(key, value)`, a `@callback` that returns 0, called when a value's timer expires: 0, or an errno."""
    del timer, entries, body
    only_in_program("timer_set_callback")


def timer_start(timer: Timer, nanoseconds: int, flags: int = 0) -> int:
    """Let it expire in so many nanoseconds; with TimerFlag.ABS at that time. 0, or a negative errno."""
    del timer, nanoseconds, flags
    only_in_program("timer_start")


def timer_cancel(timer: Timer) -> int:
    """Stop it: 1 if it was running, 0 if not, or a negative errno."""
    del timer
    only_in_program("timer_cancel")
