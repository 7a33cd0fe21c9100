"""What all readers of events can do, whatever ring the records come from.

    the kernel's ring ──_take──> a batch of raw records ──> waiting ones ──> iterator, callback, `async for`, drain

Whoever stops in the middle of a batch loses nothing: what it has not got is handed out first the next time.
"""

from __future__ import annotations

import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pybpfasm.errors import BpfError
from pybpfasm.kernel.events.decoding import decoder_of
from pybpfasm.kernel.events.waiting import Waiting

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# So many records are taken out of a ring at once: large enough for the price of a batch, small enough for memory.
BATCH_RECORDS = 4096

# How long to look away while the oldest record is still being written; a program does that in microseconds.
_BUSY_PAUSE_SECONDS = 0.0002


class EventReader(ABC, Generic[T]):
    """Reads records as values of one type, until it is closed; owns its descriptors and mappings.

    Several threads may read at once: each record goes to one of them. Closing is safe at any moment and from anywhere:
    who waits returns, iterations end. After fork(2) the reader belongs to the parent; in the child reading raises
    `BpfError`, and closing only frees what the child has of it.
    """

    def __init__(self, name: str, type_: Any) -> None:
        self._name = name
        self._decode: Callable[[bytes], T] = decoder_of(type_, name)
        self._left: deque[bytes] = deque()
        # A signal handler may close the reader in the middle of a read: hence one that its thread may take again.
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._task_waits = False
        self._waiting: Waiting | None = None

    def _start(self, fds: Iterable[int], opened: ExitStack) -> None:
        """To be called at the end of the constructor: what is `opened` is the reader's from then on."""
        owned = ExitStack()
        self._waiting = Waiting(fds, select.EPOLLIN, self._lock, owned.close)
        owned.push(opened.pop_all())

    @abstractmethod
    def _take(self, most: int) -> Sequence[bytes]:
        """Complete records, oldest first, out of the ring; the lock is held."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether `_take` would get on; the lock is held."""

    @property
    @abstractmethod
    def _most_records(self) -> int:
        """How many records there can be in the ring, at most."""

    @property
    @abstractmethod
    def lost(self) -> int:
        """How many records did not fit into the ring, as far as it is known; see docs/events.md."""

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_raw(self, most: int = BATCH_RECORDS) -> list[bytes]:
        """The records that are there now, at most so many, each as its bytes; empty if there are none.

        Raises `BpfError` in a process that fork(2) made, ValueError once the reader is closed.
        """
        self._check_process()
        with self._held() as held:
            if not held:
                raise ValueError(f"the reader of {self._name} is closed")
            if not self._left:
                return list(self._take(most))
            return [self._left.popleft() for _ in range(min(most, len(self._left)))]

    def drain(self) -> list[T]:
        """All records that are there now; of those that come meanwhile some may be among them.

        Raises as `read_raw`, and `LayoutError` for a record that is shorter than its type.
        """
        records: list[T] = []
        while len(records) <= self._most_records and (batch := self.read_raw()):
            records += map(self._decode, batch)
        return records

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until a record can be read: True; False if the time is up or the reader is closed.

        Signals do not end the wait, but for a handler that raises. Raises `BpfError` in a process that fork(2) made.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._check_process()
        woken = False
        with self._open_waiting.inside() as entered:
            while entered and not self._is_readable():
                left = None if deadline is None else deadline - time.monotonic()
                if self.closed or (left is not None and left <= 0):
                    return False
                if woken:  # for a record that is still being written
                    time.sleep(_BUSY_PAUSE_SECONDS)
                woken = self._open_waiting.wait(left)
            return entered

    def poll(self, callback: Callable[[T], object], timeout_seconds: float | None = None) -> int:
        """Wait for records and call `callback` with each of a batch; how many there were, 0 if the time is up.

        What the callback raises comes out here; the records that it has not seen come first the next time.
        """
        if not self.wait(timeout_seconds):
            return 0
        return self._hand_out(callback)

    def __iter__(self) -> Iterator[T]:
        """Each record as it comes; ends when the reader is closed. Raises as `read_raw` and `drain`."""
        left, decode = self._left, self._decode
        while self.wait():
            self._refill()
            while left:
                try:
                    record = left.popleft()
                except IndexError:  # another thread was quicker
                    break
                yield decode(record)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Each record as it comes, in asyncio; ends when the reader is closed. One task at a time may iterate.

        Raises as `read_raw` and `drain`, and `BpfError` where a second task would wait.
        """
        while not self.closed:
            self._refill()
            while self._left:
                yield self._decode(self._left.popleft())
            await self._wait_in_loop()

    # --- ending -------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._waiting is None or self._waiting.ended

    def fileno(self) -> int:
        """A descriptor for select, poll and epoll: readable when records are there, or the reader was closed.

        It is also readable while the oldest record is still being written. Raises ValueError once the reader is closed.
        """
        return self._open_waiting.fileno()

    def close(self) -> None:
        """Stop reading: what is in the ring stays there. Closing twice does nothing."""
        if self._waiting is None:
            return
        if os.getpid() == self._process:
            self._waiting.end()
        elif not self._waiting.ended:
            self._waiting.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_waiting"):
            self.close()

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def _open_waiting(self) -> Waiting:
        if self._waiting is None:
            raise ValueError(f"the reader of {self._name} is closed")
        return self._waiting

    @contextmanager
    def _held(self) -> Iterator[bool]:
        """The ring for this thread alone, kept open meanwhile; False if the reader is closed."""
        with self._open_waiting.inside() as entered, self._lock:
            yield entered

    def _is_readable(self) -> bool:
        with self._held() as held:
            return held and (bool(self._left) or self._is_ready())

    def _refill(self) -> None:
        """Take a batch, if none is left over."""
        self._check_process()
        with self._held() as held:
            if held and not self._left:
                self._left.extend(self._take(BATCH_RECORDS))

    def _hand_out(self, callback: Callable[[T], object]) -> int:
        """Call it for each record of a batch; how many there were."""
        self._refill()
        left, decode, count = self._left, self._decode, 0
        for _ in range(len(left)):
            try:
                record = left.popleft()
            except IndexError:  # another thread was quicker
                break
            count += 1
            callback(decode(record))
        return count

    async def _wait_in_loop(self) -> None:
        import asyncio  # seldom needed

        loop = asyncio.get_running_loop()
        with self._open_waiting.inside() as entered:
            if not entered or self._is_readable():
                return
            if self._task_waits:
                raise BpfError(f"another task waits for {self._name}: one at a time can")
            ready: asyncio.Future[None] = loop.create_future()
            descriptor = self._open_waiting.fileno()
            loop.add_reader(descriptor, _resolve, ready)
            self._task_waits = True
            try:
                await ready
            finally:
                self._task_waits = False
                loop.remove_reader(descriptor)
            if not self.closed and not self._is_readable():
                await asyncio.sleep(_BUSY_PAUSE_SECONDS)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise BpfError(f"the reader of {self._name} is the parent process's: open one after fork, in one process")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
