"""Maps without keys: queue, stack, bloom filter, and the ring buffers whose records go to user space."""

from collections import deque

from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps.base import Map
from pybpfasm.uapi import MapUpdateFlag

# A record of a ring buffer has a header of 8 bytes and takes a multiple of 8 (kernel/bpf/ringbuf.c).
_HEADER_BYTES = 8
_RECORD_LIMIT = (1 << 30) - 1


class _Waiting(Map):
    """A queue or a stack."""

    def set_up(self) -> None:
        """Make the map empty."""
        self._values: deque[bytes] = deque()

    def push(self, value: bytes, flags: int) -> None:
        """Add a value; BPF_EXIST makes a full map drop its oldest."""
        if flags not in (MapUpdateFlag.ANY, MapUpdateFlag.EXIST):
            self.refuse(Errno.EINVAL, f"flags {flags:#x} are not known")
        if len(self._values) >= self.max_entries:
            if flags != MapUpdateFlag.EXIST:
                self.refuse(Errno.E2BIG, f"it is full, it holds {self.max_entries} values")
            self._values.popleft()
        self._values.append(value)

    def push_value(self, value: bytes | int) -> None:
        """Add a value, from user space."""
        self.push(self.value_bytes(value), 0)

    def values(self) -> list[bytes]:
        """All values, the oldest first."""
        return list(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _check_not_empty(self) -> None:
        if not self._values:
            self.refuse(Errno.ENOENT, "it is empty")


class QueueMap(_Waiting):
    """QUEUE: first in, first out."""

    def pop(self) -> bytes:
        """Take the oldest value."""
        self._check_not_empty()
        return self._values.popleft()

    def peek(self, value: bytes = b"") -> bytes:
        """The oldest value, which stays."""
        del value
        self._check_not_empty()
        return self._values[0]


class StackMap(_Waiting):
    """STACK: last in, first out."""

    def pop(self) -> bytes:
        """Take the newest value."""
        self._check_not_empty()
        return self._values.pop()

    def peek(self, value: bytes = b"") -> bytes:
        """The newest value, which stays."""
        del value
        self._check_not_empty()
        return self._values[-1]


class BloomFilter(Map):
    """BLOOM_FILTER: says whether a value may have been added. This one never errs, the kernel's sometimes says yes."""

    def set_up(self) -> None:
        """Make the map empty."""
        self._values: set[bytes] = set()

    def push(self, value: bytes, flags: int) -> None:
        """Add a value."""
        if flags != MapUpdateFlag.ANY:
            self.refuse(Errno.EINVAL, f"flags {flags:#x} are not known")
        self._values.add(value)

    def push_value(self, value: bytes | int) -> None:
        """Add a value, from user space."""
        self.push(self.value_bytes(value), 0)

    def peek(self, value: bytes) -> bytes:
        """The value itself if it was added. Raises `MapError`: ENOENT."""
        if value not in self._values:
            self.refuse(Errno.ENOENT, "the value was not added")
        return value

    def __len__(self) -> int:
        return len(self._values)


class RingBuffer(Map):
    """RINGBUF: records go to user space in the order in which they were reserved. `max_entries` is its size in bytes.

    `records` are those that user space can read; `consume` takes them. `discarded` counts the others.
    """

    def set_up(self) -> None:
        """Make the map empty."""
        self.discarded = 0
        self._records: list[bytearray] = []
        self._states: list[str] = []

    @property
    def records(self) -> list[bytes]:
        """The records that were submitted, up to the first that is still being written."""
        found = []
        for data, state in zip(self._records, self._states, strict=True):
            if state == "reserved":
                break
            if state == "submitted":
                found.append(bytes(data))
        return found

    def consume(self) -> list[bytes]:
        """Take the records that user space can read; their room is free again."""
        found = self.records
        count = self._states.index("reserved") if "reserved" in self._states else len(self._states)
        del self._records[:count], self._states[:count]
        return found

    @property
    def used(self) -> int:
        """How many bytes the records take, each with its header."""
        return sum(_HEADER_BYTES + len(data) + -len(data) % 8 for data in self._records)

    def reserve(self, size: int) -> bytearray | None:
        """A record of `size` bytes, to be written; None if there is no room."""
        # One byte stays free: a ring that is full to the last cannot be told from an empty one.
        if size > _RECORD_LIMIT or self.used + _HEADER_BYTES + size + -size % 8 >= self.max_entries:
            return None
        data = bytearray(size)
        self._records.append(data)
        self._states.append("reserved")
        return data

    def commit(self, data: bytearray, *, discard: bool) -> None:
        """Hand a record over, or drop it."""
        for index, each in enumerate(self._records):
            if each is data:
                self._states[index] = "discarded" if discard else "submitted"
                self.discarded += discard

    def __len__(self) -> int:
        return len(self.records)


class PerfEventArray(Map):
    """PERF_EVENT_ARRAY: records go to user space, a ring for each CPU. `records` are those that came, by CPU."""

    def set_up(self) -> None:
        """Make the map empty."""
        self.records: list[tuple[int, bytes]] = []
        self.counters: dict[int, tuple[int, int, int]] = {}

    def __len__(self) -> int:
        return len(self.records)


class StackTraces(Map):
    """STACK_TRACE: stacks by id, as get_stackid stored them: addresses, the innermost first."""

    def set_up(self) -> None:
        """Make the map empty."""
        self.stacks: dict[int, tuple[int, ...]] = {}

    def store(self, stack: tuple[int, ...]) -> int:
        """The id of a stack, which is kept. Raises `MapError`: EEXIST if there is no room."""
        for number, known in self.stacks.items():
            if known == stack:
                return number
        if len(self.stacks) >= self.max_entries:
            self.refuse(Errno.EEXIST, f"it is full, it holds {self.max_entries} stacks")
        number = len(self.stacks)
        self.stacks[number] = stack
        return number

    def __len__(self) -> int:
        return len(self.stacks)
