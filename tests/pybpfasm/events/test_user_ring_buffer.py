"""User ring buffers, from Python into a program."""

import errno
import os
import threading
from collections.abc import Iterator

import pytest
from event_programs import PACKET_HEADER, counter, draining, ring

from pybpfasm import Struct, u32
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.events import RingFullError, UserRingBuffer
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.lang.types import LayoutError
from pybpfasm.uapi import MapType

pytestmark = pytest.mark.needs(features.MAP_TYPES[MapType.USER_RINGBUF])


class Pair(Struct):
    """A record of 8 bytes."""

    one: u32
    two: u32


@pytest.fixture
def events() -> Iterator[Map]:
    """A ring of one page."""
    with ring(kind=MapType.USER_RINGBUF) as made:
        yield made


@pytest.fixture
def seen() -> Iterator[Map]:
    """Where the program leaves the last record."""
    with counter(MapType.ARRAY) as made:
        yield made


@pytest.fixture
def program(events: Map, seen: Map) -> Iterator[Program]:
    """Drains the ring."""
    with draining(events, seen) as made:
        yield made


def drain(program: Program) -> int:
    """Run the program; how many records it saw."""
    return program.run(bytes(PACKET_HEADER + 50)).retval


def last(seen: Map) -> bytes | None:
    """The last record."""
    return seen.lookup(bytes(4))


def test_records_reach_the_program(events: Map, seen: Map, program: Program) -> None:
    """As many as were written, whole, many times around the ring; and none twice."""
    with UserRingBuffer(events) as writer:
        assert drain(program) == 0
        for index in range(600):
            record = index.to_bytes(8, "little") + b"x" * (index % 40)
            writer.write(record)
            if index % 3 == 2:
                assert drain(program) == 3
                assert last(seen) == record[:8]
        assert drain(program) == 0


def test_typed_records(events: Map, seen: Map, program: Program) -> None:
    """A struct is written with its layout; something else is refused."""
    with UserRingBuffer(events, Pair) as writer:
        writer.write(Pair(one=1, two=2))
        assert drain(program) == 1
        assert last(seen) == bytes(Pair(one=1, two=2))
        with pytest.raises(LayoutError):
            writer.write(5)  # type: ignore[arg-type]  # what is to be refused
    with UserRingBuffer(events) as raw, pytest.raises(LayoutError, match="is no bytes"):
        raw.write(5)  # type: ignore[arg-type]  # likewise


def test_a_full_ring(events: Map, program: Program) -> None:
    """It refuses at once or after the time, has room again once it is drained, and lost nothing."""
    with UserRingBuffer(events) as writer:
        count = 0
        while writer.free_bytes:
            writer.write(bytes(8))
            count += 1
        assert count == 4096 // 16
        with pytest.raises(RingFullError, match=r"^cannot write to user ring buffer events: it is full \(ENOSPC\)$"):
            writer.write(bytes(8))
        with pytest.raises(RingFullError):
            writer.write(bytes(8), timeout_seconds=0.05)
        assert drain(program) == count
        writer.write(bytes(8))
        assert drain(program) == 1


def test_waiting_for_room(events: Map, program: Program) -> None:
    """A writer that waits goes on when a program has drained the ring."""
    with UserRingBuffer(events) as writer:
        writer.write(bytes(4088))
        timer = threading.Timer(0.1, drain, [program])
        timer.start()
        writer.write(bytes(4088), timeout_seconds=30)
        timer.join()
        assert drain(program) == 1


def test_closing_wakes_a_writer_that_waits(events: Map) -> None:
    """It is told by ValueError."""
    writer = UserRingBuffer(events)
    writer.write(bytes(4088))
    timer = threading.Timer(0.1, writer.close)
    timer.start()
    with pytest.raises(ValueError, match="is closed"):
        writer.write(bytes(8), timeout_seconds=30)
    timer.join()


def test_a_record_larger_than_the_ring(events: Map) -> None:
    """It can never fit, and the error says how large the ring is."""
    with UserRingBuffer(events) as writer:
        with pytest.raises(
            KernelError, match="a record of 4089 bytes is larger than the ring, which has 4088"
        ) as caught:
            writer.write(bytes(4089), timeout_seconds=None)
        assert caught.value.errno == errno.E2BIG


def test_other_maps_are_refused() -> None:
    """A ring that programs write to is none to write to."""
    with ring() as events, pytest.raises(BpfError, match=r"^map events is of type .*, not a user ring buffer$"):
        UserRingBuffer(events)


def test_after_fork_the_writer_is_the_parents(events: Map, program: Program) -> None:
    """The child is refused, its close frees its own descriptors only, and the parent writes on."""
    with UserRingBuffer(events) as writer:
        child = os.fork()
        if not child:
            status = 1
            try:
                with pytest.raises(BpfError, match="open one after fork"):
                    writer.write(b"no")
                writer.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        writer.write(b"from the parent")
        assert drain(program) == 1
