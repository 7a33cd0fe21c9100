"""Records in a ring buffer's memory: where the complete ones are, and their contents (kernel/bpf/ringbuf.c).

    position (a multiple of 8)
    |
    v   4 bytes                             4 bytes         length bytes     to a multiple of 8
    +----------------------------------+---------------+----------------+---------+
    | BUSY 1 bit, DISCARD 1 bit, length| for the kernel| the record     | padding |
    +----------------------------------+---------------+----------------+---------+

A record is busy until its program submits or discards it; none behind a busy one is read, so the order stays.
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from pybpfasm.uapi import RingbufHeader

HEADER_BYTES = int(RingbufHeader.HDR_SZ)
BUSY = int(RingbufHeader.BUSY_BIT)
DISCARD = int(RingbufHeader.DISCARD_BIT)
_LENGTH = DISCARD - 1

# So many headers are compared at once; programs mostly send records of one size.
_WINDOW = 256


class Run(NamedTuple):
    """`records` complete records of the same length, one behind the other, from byte `start` of the memory on."""

    start: int
    length: int
    records: int

    @property
    def stride(self) -> int:
        """Bytes from one of its records to the next."""
        return stride_of(self.length)


def stride_of(length: int) -> int:
    """How many bytes of the ring a record of that length takes."""
    return HEADER_BYTES + length + 7 & ~7


def find_runs(headers: memoryview, start: int, end: int, most: int) -> tuple[list[Run], int]:
    """The complete records between two bytes of the memory, at most so many, and the byte behind the last of them.

    `headers` is the ring's memory as 32-bit integers. Records that were discarded are passed over.
    """
    runs: list[Run] = []
    while start < end and most > 0:
        header = headers[start >> 2]
        if header & BUSY:
            break
        length = header & _LENGTH
        count = 1
        if header & DISCARD:
            start += stride_of(length)
            continue
        stride = stride_of(length)
        window = min(_WINDOW, most, (end - start) // stride)
        if window > 1 and start + stride < end and headers[start + stride >> 2] == header:
            count = _equal(headers[start >> 2 : start + window * stride >> 2 : stride >> 2].tolist(), header)
        runs.append(Run(start, length, count))
        start += count * stride
        most -= count
    return runs, start


def _equal(found: list[int], header: int) -> int:
    """How many headers from the first on are the same. What follows another one is perhaps no header at all."""
    if found.count(header) == len(found):
        return len(found)
    return next(index for index, each in enumerate(found) if each != header)


def split(chunk: bytes, runs: Sequence[Run], start: int) -> list[bytes]:
    """The records' contents; `chunk` is a copy of the memory from byte `start` on."""
    records: list[bytes] = []
    for run in runs:
        at = run.start - start
        if run.records == 1:
            records.append(chunk[at + HEADER_BYTES : at + HEADER_BYTES + run.length])
            continue
        padding = run.stride - HEADER_BYTES - run.length
        one = Struct(f"{HEADER_BYTES}x{run.length}s{padding}x")
        records += [record for (record,) in one.iter_unpack(memoryview(chunk)[at : at + run.records * run.stride])]
    return records
