"""Many readers at once, each with its callback: one epoll over all."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from pybpfasm.kernel.events.mapping import opening
from pybpfasm.kernel.events.reader import EventReader

T = TypeVar("T")


class Poller:
    """Waits for several readers and calls back for each record; owns none of them.

    `add`, `remove`, `stop` and the readers' `close` may come from other threads and from callbacks; `run` belongs to
    one thread. For asyncio use `async for` instead.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, tuple[EventReader[Any], Callable[[Any], object]]] = {}
        self._stopped = False
        with opening("a poller") as opened:
            self._epoll = select.epoll()
            opened.callback(self._epoll.close)
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            opened.callback(os.close, self._bell)
            self._epoll.register(self._bell, select.EPOLLIN)
            self._opened = opened.pop_all()

    def add(self, reader: EventReader[T], callback: Callable[[T], object]) -> None:
        """Call `callback` with each record of `reader` from now on, until it is removed or closed."""
        descriptor = reader.fileno()
        # A closed reader's descriptor has left the epoll, and its number may be another's by now.
        known = self._callbacks.pop(descriptor, None)
        if known is not None and known[0] is reader:
            self._epoll.unregister(descriptor)
        self._callbacks[descriptor] = (reader, callback)
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, reader: EventReader[Any]) -> None:
        """Leave the reader alone from now on; nothing happens if it is not there."""
        for descriptor, (known, _) in list(self._callbacks.items()):
            if known is reader:
                del self._callbacks[descriptor]
                if not reader.closed:
                    self._epoll.unregister(descriptor)

    def run_once(self, timeout_seconds: float | None = None) -> int:
        """Wait until a reader has records, call back for a batch of each that has; how many records there were.

        0 if the time is up or `stop` was called. What a callback raises comes out here, and nothing is lost by it.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self._stopped:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            count = sum(self._hand_out(descriptor) for descriptor, _ in self._epoll.poll(left))
            if count or left == 0.0:
                return count
        return 0

    def run(self) -> None:
        """Go on until `stop` is called. What a callback raises comes out here."""
        while not self._stopped:
            self.run_once()

    def stop(self) -> None:
        """Have `run` and `run_once` return soon, now and in future."""
        self._stopped = True
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Free the descriptors; closing twice does nothing. The readers stay open. Not while `run` is under way."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_opened"):
            self.close()

    def _hand_out(self, descriptor: int) -> int:
        """Call back for a batch of the reader behind the descriptor, if it is one's still."""
        reader, callback = self._callbacks.get(descriptor, (None, None))
        if reader is None or callback is None:
            return 0
        if reader.closed:
            self._callbacks.pop(descriptor, None)
            return 0
        return reader.poll(callback, timeout_seconds=0)
