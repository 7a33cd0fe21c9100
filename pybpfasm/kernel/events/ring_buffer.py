"""The reader of ring buffers: one ring for all CPUs, read in the order in which programs reserved (Linux 5.8).

    map's pages     | consumer | producer | data …          | the same data …    |
    mapped as         writable   read-only

The data is there twice in a row, so that a record at the ring's end goes on without a break. Both positions only grow;
the kernel adds to the producer's, we to the consumer's, and the ring's free space is what lies between.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar, overload

from pybpfasm.errors import BpfError
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.events.mapping import PAGE_BYTES, SharedMemory, opening
from pybpfasm.kernel.events.ordering import order_memory
from pybpfasm.kernel.events.reader import EventReader
from pybpfasm.kernel.events.ring_records import BUSY, HEADER_BYTES, find_runs, split
from pybpfasm.kernel.maps import Map
from pybpfasm.uapi import MapCreateFlag, MapType

T = TypeVar("T")

_COUNTER_BYTES = 8


class RingBuffer(EventReader[T]):
    """Reads a map of type RINGBUF: records as bytes, or as values of `type_` (a `Struct` class, a BTF type).

    The map may be closed meanwhile. One reader a ring, in whatever process: two would spoil each other's position.
    `lost_counter` is an array, per CPU or not, in whose first entry, a 64-bit number, the programs count the records
    that they could not reserve or output: the kernel does not tell user space. Thread and fork safety: `EventReader`.

    Raises `KernelError`; `BpfError` for a map of another type, or one that overwrites old records (RB_OVERWRITE), for
    these can change while they are read.
    """

    @overload
    def __init__(self: RingBuffer[bytes], map_: Map, *, lost_counter: Map | None = None) -> None: ...

    @overload
    def __init__(self, map_: Map, type_: type[T], *, lost_counter: Map | None = None) -> None: ...

    @overload
    def __init__(self: RingBuffer[Any], map_: Map, type_: Any, *, lost_counter: Map | None = None) -> None: ...

    def __init__(self, map_: Map, type_: Any = bytes, *, lost_counter: Map | None = None) -> None:
        super().__init__(f"ring buffer {map_.spec.name}", type_)
        self._size = _ring_size(map_)
        self._lost_counter = None if lost_counter is None else _LostCounter(lost_counter)
        with opening(self._name) as opened:
            descriptor = opened.enter_context(Descriptor(os.dup(map_.fd)))
            consumer = opened.enter_context(SharedMemory(descriptor.fd, 0, PAGE_BYTES, self._name, writable=True))
            length = PAGE_BYTES + 2 * self._size
            rest = opened.enter_context(SharedMemory(descriptor.fd, PAGE_BYTES, length, self._name, writable=False))
            self._consumer = consumer.numbers("Q", 0, 8)
            self._producer = rest.numbers("Q", 0, 8)
            self._data = rest.numbers("B", PAGE_BYTES)
            self._headers = rest.numbers("I", PAGE_BYTES)
            self._position: int = self._consumer[0]
            self._start([descriptor.fd], opened)

    @property
    def lost(self) -> int:
        """How many records the programs could not get into the ring, by their `lost_counter`; 0 without one.

        Raises as `Map.lookup` does: the counter's map has to be open.
        """
        return 0 if self._lost_counter is None else self._lost_counter.count()

    @property
    def _most_records(self) -> int:
        return self._size // HEADER_BYTES

    def _is_ready(self) -> bool:
        if self._producer[0] == self._position:
            return False
        order_memory()
        return not self._headers[(self._position & self._size - 1) >> 2] & BUSY

    def _take(self, most: int) -> Sequence[bytes]:
        """How far, which are complete, copy, give the space back: in an order that docs/events.md argues."""
        while True:
            end = self._producer[0]
            order_memory()
            filled = end - self._position
            if filled > self._size:
                raise BpfError(f"{self._name} has another reader, too, which spoils this one's position")
            start = self._position & self._size - 1
            runs, behind = find_runs(self._headers, start, start + filled, most)
            if behind == start:
                return ()
            order_memory()
            chunk = bytes(self._data[start:behind])
            records = split(chunk, runs, start)
            order_memory()
            self._position += behind - start
            self._consumer[0] = self._position
            # The kernel wakes us for a record if it sees that we have come to it: before we look again, it must.
            order_memory()
            if records:
                return records


class _LostCounter:
    """Where programs count what they could not send: the first entry of an array of 64-bit numbers."""

    def __init__(self, map_: Map) -> None:
        if map_.spec.type not in (MapType.ARRAY, MapType.PERCPU_ARRAY) or map_.spec.value.size != _COUNTER_BYTES:
            raise BpfError(f"map {map_.spec.name} counts no lost records: it has to be an array of 64-bit numbers")
        self._map = map_
        self._key = bytes(map_.spec.key.size)

    def count(self) -> int:
        """The sum over all CPUs."""
        if self._map.spec.type == MapType.PERCPU_ARRAY:
            values = self._map.lookup_per_cpu(self._key) or []
        else:
            values = [self._map.lookup(self._key) or b""]
        return sum(int.from_bytes(each, "little") for each in values)


def _ring_size(map_: Map) -> int:
    """The ring's size in bytes. Raises `BpfError` for what cannot be read."""
    info = map_.info()
    if info.type != MapType.RINGBUF:
        raise BpfError(f"map {map_.spec.name} is of type {map_.kind.title}, not a ring buffer")
    if info.flags & MapCreateFlag.RB_OVERWRITE:
        text = "overwrites old records, which may change while they are read: make it without RB_OVERWRITE"
        raise BpfError(f"ring buffer {map_.spec.name} {text}")
    return info.max_entries
