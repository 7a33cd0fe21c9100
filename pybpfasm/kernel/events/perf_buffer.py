"""The reader of perf buffers: a ring for each CPU behind a perf event array, older than ring buffers (Linux 4.4).

    program on CPU n ── bpf_perf_event_output(…, BPF_F_CURRENT_CPU) ──> array[n] ──> ring of CPU n ──┐
                                                                                                     ├─> reader
Records of one CPU come in their order, those of several CPUs in none. New programs do better with a ring buffer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from struct import pack
from typing import Any, TypeVar, overload

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.events.mapping import PAGE_BYTES, opening
from pybpfasm.kernel.events.perf_ring import PerfRing
from pybpfasm.kernel.events.reader import EventReader
from pybpfasm.kernel.maps import Map
from pybpfasm.uapi import Command, MapType

T = TypeVar("T")

_ONLINE = Path("/sys/devices/system/cpu/online")

# A sample's header and its size.
_LEAST_RECORD_BYTES = 16


class PerfBuffer(EventReader[T]):
    """Reads what programs put out through a map of type PERF_EVENT_ARRAY: bytes, or values of `type_`.

    Each CPU has a ring of `pages` (a power of 2) of its own. As bytes a record has up to 7 bytes of padding at its end,
    as the kernel hands it over. A waiter is woken when `wakeup_records` are in a ring, or so many bytes if
    `wakeup_bytes` is given; what is there can be read before. `cpus` are those online unless given; one that comes
    online later needs a new reader, and until then programs there get ENOENT.

    One reader an array: a second one takes the CPUs over. The entries are removed when the reader is closed. Needs
    CAP_PERFMON beside what the map needed. Raises `KernelError`: ENODEV for a CPU that was asked for and is offline;
    `BpfError` for a map of another type. Thread and fork safety: `EventReader`.
    """

    @overload
    def __init__(
        self: PerfBuffer[bytes],
        map_: Map,
        *,
        pages: int = ...,
        wakeup_records: int = ...,
        wakeup_bytes: int | None = ...,
        cpus: Iterable[int] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        map_: Map,
        type_: type[T],
        *,
        pages: int = ...,
        wakeup_records: int = ...,
        wakeup_bytes: int | None = ...,
        cpus: Iterable[int] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: PerfBuffer[Any],
        map_: Map,
        type_: Any,
        *,
        pages: int = ...,
        wakeup_records: int = ...,
        wakeup_bytes: int | None = ...,
        cpus: Iterable[int] | None = ...,
    ) -> None: ...

    def __init__(
        self,
        map_: Map,
        type_: Any = bytes,
        *,
        pages: int = 64,
        wakeup_records: int = 1,
        wakeup_bytes: int | None = None,
        cpus: Iterable[int] | None = None,
    ) -> None:
        super().__init__(f"perf buffer {map_.spec.name}", type_)
        if map_.info().type != MapType.PERF_EVENT_ARRAY:
            raise BpfError(f"map {map_.spec.name} is of type {map_.kind.title}, not a perf event array")
        if pages < 1 or pages & pages - 1:
            raise BpfError(f"{self._name}: pages is a power of 2, not {pages}")
        self._pages = pages
        self._turn = 0
        with opening(self._name) as opened:
            self._map = opened.enter_context(Descriptor(os.dup(map_.fd)))
            self._rings: list[PerfRing] = []
            wanted = online_cpus() if cpus is None else list(cpus)
            for cpu in wanted:
                try:
                    ring = PerfRing(cpu, pages, wakeup_records, wakeup_bytes)
                except KernelError as error:
                    if cpus is None and error.errno == errno.ENODEV:  # it went offline just now
                        continue
                    raise
                opened.callback(ring.close)
                opened.callback(self._disconnect, ring)
                self._rings.append(ring)
                self._connect(ring)
            self._start([ring.fileno() for ring in self._rings], opened)

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that are read."""
        return tuple(ring.cpu for ring in self._rings)

    @property
    def lost(self) -> int:
        """How many records did not fit, as far as they have been told: a ring tells with the next one that fits."""
        return sum(ring.lost for ring in self._rings)

    @property
    def lost_by_cpu(self) -> dict[int, int]:
        """The same for each CPU that is read."""
        return {ring.cpu: ring.lost for ring in self._rings}

    @property
    def _most_records(self) -> int:
        return len(self._rings) * self._pages * PAGE_BYTES // _LEAST_RECORD_BYTES

    def _is_ready(self) -> bool:
        return any(ring.is_ready() for ring in self._rings)

    def _take(self, most: int) -> Sequence[bytes]:
        """From each ring in turn, beginning with another one each time, so that a busy CPU does not hide the others."""
        records: list[bytes] = []
        self._turn += 1
        for index in range(len(self._rings)):
            ring = self._rings[(self._turn + index) % len(self._rings)]
            if len(records) < most:
                records += ring.take(most - len(records))
        return records

    def _connect(self, ring: PerfRing) -> None:
        self._entry(Command.MAP_UPDATE_ELEM, ring, f"connect CPU {ring.cpu} to {self._name}")

    def _disconnect(self, ring: PerfRing) -> None:
        # In a process that fork(2) made the entries are the parent's.
        if os.getpid() == self._process:
            with suppress(KernelError):
                self._entry(Command.MAP_DELETE_ELEM, ring, f"disconnect CPU {ring.cpu} from {self._name}")

    def _entry(self, command: Command, ring: PerfRing, attempted: str) -> None:
        key, value = sys.buffer(pack("=I", ring.cpu)), sys.buffer(pack("=i", ring.fileno()))
        attributes = sys.new("map_elem", map_fd=self._map.fd, key=sys.address(key))
        if command == Command.MAP_UPDATE_ELEM:
            attributes.value_or_next_key = sys.address(value)
        try:
            sys.bpf(command, attributes, attempted)
        except KernelError as error:
            if error.errno != errno.E2BIG:
                raise
            raise sys.failure(errno.E2BIG, attempted, "the map has no entry for it: give it one a CPU") from None


def online_cpus() -> list[int]:
    """The CPUs that run now, by number."""
    found: list[int] = []
    for part in _ONLINE.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
