"""The writer of user ring buffers: from user space to a program that drains the ring (Linux 6.1).

    map's pages     | consumer | producer | data …          | the same data …    |
    mapped as         read-only  writable

A program reads it with bpf_user_ringbuf_drain, when it runs: writing does not start it.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Generic, Self, TypeVar, overload

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.events.mapping import PAGE_BYTES, SharedMemory, opening
from pybpfasm.kernel.events.ordering import order_memory
from pybpfasm.kernel.events.ring_records import HEADER_BYTES, stride_of
from pybpfasm.kernel.events.waiting import Waiting
from pybpfasm.kernel.maps import Map, codec_of
from pybpfasm.lang.types import LayoutError, value_type
from pybpfasm.uapi import MapType

T = TypeVar("T")

_LOOK_AGAIN_SECONDS = 0.05


class RingFullError(KernelError):
    """A record did not fit into the ring: no program has drained it."""


class UserRingBuffer(Generic[T]):
    """Writes to a map of type USER_RINGBUF: bytes, or values of `type_` (a `Struct` class, a BTF type).

    The map may be closed meanwhile. Several threads may write, and closing ends their waits; one writer a ring, in
    whatever process: after fork(2) it is the parent's, writing in the child raises `BpfError`.

    Raises `KernelError`; `BpfError` for a map of another type.
    """

    @overload
    def __init__(self: UserRingBuffer[bytes], map_: Map) -> None: ...

    @overload
    def __init__(self, map_: Map, type_: type[T]) -> None: ...

    @overload
    def __init__(self: UserRingBuffer[Any], map_: Map, type_: Any) -> None: ...

    def __init__(self, map_: Map, type_: Any = bytes) -> None:
        info = map_.info()
        if info.type != MapType.USER_RINGBUF:
            raise BpfError(f"map {map_.spec.name} is of type {map_.kind.title}, not a user ring buffer")
        self._name = f"user ring buffer {map_.spec.name}"
        self._size = info.max_entries
        self._pack: Callable[[Any], bytes] = _packer(type_)
        self._lock = threading.RLock()
        self._process = os.getpid()
        with opening(self._name) as opened:
            descriptor = opened.enter_context(Descriptor(os.dup(map_.fd)))
            consumer = opened.enter_context(SharedMemory(descriptor.fd, 0, PAGE_BYTES, self._name, writable=False))
            length = PAGE_BYTES + 2 * self._size
            rest = opened.enter_context(SharedMemory(descriptor.fd, PAGE_BYTES, length, self._name, writable=True))
            self._consumer = consumer.numbers("Q", 0, 8)
            self._producer = rest.numbers("Q", 0, 8)
            self._data = rest.numbers("B", PAGE_BYTES)
            self._position: int = self._producer[0]
            owned = ExitStack()
            # Edge-triggered: there is almost always some room, and only more of it is news. A drain tells each time.
            self._waiting = Waiting([descriptor.fd], select.EPOLLOUT | select.EPOLLET, self._lock, owned.close)
            owned.push(opened.pop_all())

    @property
    def free_bytes(self) -> int:
        """Room in the ring; a record takes 8 bytes more than it has, to a multiple of 8. ValueError once closed."""
        with self._held():
            return self._size - (self._position - self._consumer[0])

    def write(self, record: T, timeout_seconds: float | None = 0.0) -> None:
        """Put a record into the ring; if it is full, wait so long for a program to drain it (None: without end).

        Raises `RingFullError` if it stays full, `KernelError` (E2BIG) for a record larger than the ring, `LayoutError`
        for a value that does not fit the type, `BpfError` in a process that fork(2) made, ValueError once closed.
        """
        data = self._pack(record)
        if stride_of(len(data)) > self._size:
            text = f"a record of {len(data)} bytes is larger than the ring, which has {self._size - HEADER_BYTES}"
            raise KernelError(errno.E2BIG, f"cannot write to {self._name}: {text} (E2BIG)")
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._waiting.inside():
            while not self._try(data):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise RingFullError(errno.ENOSPC, f"cannot write to {self._name}: it is full (ENOSPC)")
                # One drain wakes one of several threads: the others look again by themselves.
                self._waiting.wait(_LOOK_AGAIN_SECONDS if left is None else min(left, _LOOK_AGAIN_SECONDS))

    def close(self) -> None:
        """Stop writing; what is in the ring stays there. Closing twice does nothing."""
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

    def _held(self) -> threading.RLock:
        """The lock, for a writer that is still open."""
        if os.getpid() != self._process:
            raise BpfError(f"the writer of {self._name} is the parent process's: open one after fork, in one process")
        if self._waiting.ended:
            raise ValueError(f"the writer of {self._name} is closed")
        return self._lock

    def _try(self, data: bytes) -> bool:
        """Write the record if there is room: the whole of it first, then the position by which the kernel sees it."""
        with self._held():
            used = self._position - self._consumer[0]
            order_memory()
            stride = stride_of(len(data))
            if used + stride > self._size:
                return False
            start = self._position & self._size - 1
            self._data[start : start + HEADER_BYTES] = len(data).to_bytes(4, "little") + bytes(4)
            self._data[start + HEADER_BYTES : start + HEADER_BYTES + len(data)] = data
            order_memory()
            self._position += stride
            self._producer[0] = self._position
            return True


def _packer(type_: Any) -> Callable[[Any], bytes]:
    if type_ is bytes:
        return _as_it_is
    return codec_of(type_, type_.size if isinstance(type_, btf.Type) else value_type(type_).size).pack


def _as_it_is(record: Any) -> bytes:
    if not isinstance(record, bytes | bytearray | memoryview):
        raise LayoutError(f"{record!r} is no bytes: name the type of the records")
    return bytes(record)
