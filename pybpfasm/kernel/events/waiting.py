"""Waiting for a reader's descriptors, in a way that another thread, or a callback, can end at any moment.

wait()  ──> epoll: data's descriptors, and an eventfd that `end` makes readable for good
end()   ──> all who wait return; the last one out closes the descriptors, or `end` itself if there is none
"""

import os
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

# epoll_wait takes milliseconds in an int.
_LONGEST_WAIT_SECONDS = 1_000_000.0


class Waiting:
    """Who waits for the descriptors `fds`, or uses what is behind them; `last` is called when the last has left.

    It does not own `fds`, which `last` may close; `lock` guards it, and is held while `last` is called.
    """

    def __init__(self, fds: Iterable[int], events: int, lock: threading.RLock, last: Callable[[], None]) -> None:
        self._lock = lock
        self._last = last
        self._waiters = 0
        self._released = False
        self.ended = False
        self._epoll = select.epoll()
        self._bell = -1
        try:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._epoll.register(self._bell, select.EPOLLIN)
            for fd in fds:
                self._epoll.register(fd, events)
        except BaseException:
            self._close()
            raise

    def fileno(self) -> int:
        """Readable when there is data, or when it has ended. Raises ValueError after that."""
        if self.ended:
            raise ValueError("the reader is closed")
        return self._epoll.fileno()

    @contextmanager
    def inside(self) -> Iterator[bool]:
        """Keeps the descriptors open meanwhile; False if it has ended already."""
        with self._lock:
            entered = not self.ended
            self._waiters += entered
        try:
            yield entered
        finally:
            if entered:
                with self._lock:
                    self._waiters -= 1
                    self._release_if_last()

    def wait(self, timeout_seconds: float | None) -> bool:
        """Return when there is data or it has ended: True; False after the time. Only `inside`; signals are no end."""
        limit = None if timeout_seconds is None else min(max(timeout_seconds, 0.0), _LONGEST_WAIT_SECONDS)
        return bool(self._epoll.poll(limit))

    def end(self) -> None:
        """Wake all who wait, for good. A second time changes nothing."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
            if self._waiters:
                os.eventfd_write(self._bell, 1)
            self._release_if_last()

    def abandon(self) -> None:
        """End it without regard to other threads: in a process that fork(2) made, they do not exist."""
        self.ended = True
        self._waiters = 0
        self._release_if_last()

    def _release_if_last(self) -> None:
        if self.ended and not self._waiters and not self._released:
            self._released = True
            self._close()
            self._last()

    def _close(self) -> None:
        self._epoll.close()
        if self._bell >= 0:
            os.close(self._bell)
