"""One CPU's ring of perf events (uapi linux/perf_event.h, struct perf_event_mmap_page).

    page 0: … data_head (at byte 1024, the kernel's), data_tail (1032, ours) …      pages 1 to 2^n: data

    a record: type 4 bytes, misc 2, size 2 (with these 8, a multiple of 8), then
        SAMPLE  size of what follows 4 bytes, the record and padding
        LOST    id 8 bytes, how many were lost 8 bytes

A record may go on at the data's start. What lies between tail and head is complete.
"""

import errno
import fcntl
import struct
from contextlib import ExitStack

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.events.mapping import PAGE_BYTES, SharedMemory
from pybpfasm.kernel.events.ordering import order_memory

# uapi linux/perf_event.h.
_TYPE_SOFTWARE = 1
_COUNT_SW_BPF_OUTPUT = 10
_SAMPLE_RAW = 1 << 10
_ATTR_WATERMARK = 1 << 14
_IOC_ENABLE = 0x2400
_RECORD_LOST = 2
_RECORD_SAMPLE = 9
_DATA_HEAD = 1024
_DATA_TAIL = 1032

_HEADER = struct.Struct("=IHH")
_SAMPLE = struct.Struct("=IHHI")
_LOST = struct.Struct("=IHHQQ")


class PerfRing:
    """The events that programs put out on one CPU; owns their descriptor and mapping.

    `pages` is a power of 2. A waiter is woken for every so many records, or bytes. Raises `KernelError`: ENODEV if the
    CPU is offline.
    """

    def __init__(self, cpu: int, pages: int, wakeup_records: int, wakeup_bytes: int | None) -> None:
        self.cpu = cpu
        self.lost = 0
        self._size = pages * PAGE_BYTES
        attempted = f"open the events of CPU {cpu}"
        attributes = sys.new(
            "perf_event_attr",
            type=_TYPE_SOFTWARE,
            config=_COUNT_SW_BPF_OUTPUT,
            sample_period=1,
            sample_type=_SAMPLE_RAW,
            flags=0 if wakeup_bytes is None else _ATTR_WATERMARK,
            wakeup=wakeup_records if wakeup_bytes is None else wakeup_bytes,
        )
        with ExitStack() as opened:
            self._event = opened.enter_context(Descriptor(_open(attributes, cpu, attempted)))
            length = PAGE_BYTES + self._size
            what = f"the events of CPU {cpu}"
            memory = opened.enter_context(SharedMemory(self._event.fd, 0, length, what, writable=True))
            self._head = memory.numbers("Q", _DATA_HEAD, 8)
            self._tail = memory.numbers("Q", _DATA_TAIL, 8)
            self._data = memory.numbers("B", PAGE_BYTES)
            fcntl.ioctl(self._event.fd, _IOC_ENABLE, 0)
            self._opened = opened.pop_all()

    def fileno(self) -> int:
        """The event's descriptor, readable as the wakeup settings say."""
        return self._event.fd

    def is_ready(self) -> bool:
        """Whether there are records."""
        found: bool = self._head[0] != self._tail[0]
        return found

    def take(self, most: int) -> list[bytes]:
        """So many records at most, oldest first, each with its padding; what was lost is added to `lost`."""
        head, tail = self._head[0], self._tail[0]
        order_memory()
        chunk = self._copy(tail, head)
        records, used = self._split(chunk, most)
        order_memory()
        self._tail[0] = tail + used
        return records

    def close(self) -> None:
        """Free it; closing twice does nothing."""
        self._opened.close()

    def _copy(self, tail: int, head: int) -> bytes:
        start, length = tail & self._size - 1, head - tail
        first = bytes(self._data[start : start + length])
        return first if len(first) == length else first + bytes(self._data[: length - len(first)])

    def _split(self, chunk: bytes, most: int) -> tuple[list[bytes], int]:
        """The records, and how many bytes they take."""
        records: list[bytes] = []
        at = 0
        while at < len(chunk) and len(records) < most:
            kind, _, size = _HEADER.unpack_from(chunk, at)
            if kind == _RECORD_SAMPLE:
                length = _SAMPLE.unpack_from(chunk, at)[3]
                records.append(chunk[at + _SAMPLE.size : at + _SAMPLE.size + length])
            elif kind == _RECORD_LOST:
                self.lost += _LOST.unpack_from(chunk, at)[4]
            at += size
        return records, at


def _open(attributes: object, cpu: int, attempted: str) -> int:
    try:
        return sys.perf_event_open(attributes, -1, cpu, attempted)
    except KernelError as error:
        if error.errno == errno.ENODEV:
            raise sys.failure(errno.ENODEV, attempted, "the CPU is offline") from None
        if error.errno == errno.EINVAL:
            raise sys.failure(errno.EINVAL, attempted, "there is no such CPU") from None
        raise
