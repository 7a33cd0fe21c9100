"""What SIGTERM and Ctrl-C do while a node is up, and while it is taken down."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

SIGTERM_EXIT_STATUS: Final = 128 + signal.SIGTERM
"""143: what a shell reports of a process that SIGTERM ended."""


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn the first SIGTERM in the body into SystemExit(143), so that what the body holds is taken down.

    Later ones do nothing: they must not interrupt what the first one began. The previous handler is back afterwards.
    Use it around the node, `with exit_on_sigterm(), Node("demo") as node:`, since a SIGTERM after it kills as usual.
    Raises ValueError outside the main thread, where Python lets no one handle signals.
    """
    previous = signal.signal(signal.SIGTERM, _exit_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C, and keep a SIGTERM that has a handler for the body's end; without a handler it kills as ever.

    A thread other than the main one never runs a handler anyway.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _sigterm_deferred(), _sigint_ignored():
        yield


def _exit_once(_number: int, _frame: FrameType | None) -> NoReturn:
    # A function, not SIG_IGN: programs that are started from here on would inherit that.
    signal.signal(signal.SIGTERM, _do_nothing)
    raise SystemExit(SIGTERM_EXIT_STATUS)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _sigterm_deferred() -> Iterator[None]:
    previous = signal.getsignal(signal.SIGTERM)
    if not callable(previous):
        yield
        return
    arrived = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: arrived.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
    if arrived.is_set():  # not after a failure of the body: that is the greater news, and ends the program too
        signal.raise_signal(signal.SIGTERM)
