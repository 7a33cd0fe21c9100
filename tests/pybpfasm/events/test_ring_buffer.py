"""Ring buffers, from the kernel into Python."""

import os
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from event_programs import (
    PACKET_HEADER,
    counted_output,
    counter,
    number,
    reserve,
    ring,
    ring_output,
    send,
    slow_halves,
)

from pybpfasm import Struct, btf, u32
from pybpfasm.errors import BpfError
from pybpfasm.kernel import features
from pybpfasm.kernel.events import RingBuffer
from pybpfasm.kernel.maps import Map
from pybpfasm.lang.types import LayoutError
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Helper, MapType, RingbufFlag

pytestmark = pytest.mark.needs(features.RING_BUFFER)


class Pair(Struct):
    """A record of 8 bytes."""

    one: u32
    two: u32


@pytest.fixture
def events() -> Iterator[Map]:
    """A ring of one page."""
    with ring() as made:
        yield made


def test_records_come_in_their_order(events: Map) -> None:
    """What a program sends is what is read, once."""
    with ring_output(events) as program, RingBuffer(events) as reader:
        assert reader.drain() == []
        send(program, b"first...", b"second..", b"third...")
        assert reader.drain() == [b"first...", b"second..", b"third..."]
        assert reader.read_raw() == []


@pytest.mark.parametrize("length", [1, 7, 8, 9, 12, 47, 56])
def test_records_of_any_size_around_the_ring(events: Map, length: int) -> None:
    """Record after record, many times around the ring's end: each comes whole."""
    with ring_output(events, length) as program, RingBuffer(events) as reader:
        for index in range(700):
            record = (index.to_bytes(8, "little") * 7)[:length]
            send(program, record)
            assert reader.drain() == [record]


def test_records_of_mixed_sizes_around_the_ring(events: Map) -> None:
    """Batches of several sizes, the ring's end in the middle of them."""
    with ring_output(events, 5) as small, ring_output(events, 33) as large, RingBuffer(events) as reader:
        for index in range(200):
            wanted = []
            for program, length in ((small, 5), (small, 5), (large, 33), (small, 5), (large, 33)):
                record = (index.to_bytes(4, "little") * 9)[:length]
                send(program, record)
                wanted.append(record)
            assert reader.read_raw() == wanted


def test_a_ring_filled_to_the_brim(events: Map) -> None:
    """A full ring refuses, its records are all there, and once read there is room again."""
    with ring_output(events) as program, RingBuffer(events) as reader:
        # As full as it gets: positions may differ by the size less one record's header.
        fitting = 0
        while program.run(bytes(PACKET_HEADER) + number(fitting).ljust(50, b"\0")).retval == 0:
            fitting += 1
        assert fitting == 4096 // 16 - 1
        assert reader.drain() == [number(index) for index in range(fitting)]
        send(program, number(1000))
        assert reader.drain() == [number(1000)]


def test_batches_are_as_large_as_asked_for(events: Map) -> None:
    """A batch ends after so many records; the others wait in the ring."""
    with ring_output(events) as program, RingBuffer(events) as reader:
        send(program, *map(number, range(10)))
        assert [len(reader.read_raw(4)) for _ in range(4)] == [4, 4, 2, 0]


def test_discarded_records_are_not_seen(events: Map) -> None:
    """A reserved record that the program discards takes no place in what is read."""
    with (
        reserve(events, 8, Helper.RINGBUF_DISCARD) as discard,
        reserve(events, 8, Helper.RINGBUF_SUBMIT) as submit,
        RingBuffer(events) as reader,
    ):
        send(discard, number(1), number(2))
        assert reader.drain() == []
        send(submit, number(3))
        send(discard, number(4))
        send(submit, number(5))
        assert reader.drain() == [number(3), number(5)]


def test_a_record_is_never_half_written(events: Map) -> None:
    """A program that takes its time between a record's halves, on another CPU: no record comes with one half only."""
    count = 2000
    with slow_halves(events) as program, RingBuffer(events) as reader:
        packet = bytes(PACKET_HEADER)

        def produce() -> None:
            for index in range(1, count + 1):
                program.run(packet + number(index).ljust(50, b"\0"))

        producer = threading.Thread(target=produce)
        producer.start()
        seen: list[int] = []
        while len(seen) < count and reader.wait(20):
            for record in reader.read_raw():
                first, second = struct.unpack("<QQ", record)
                assert first == second
                seen.append(first)
        producer.join()
    assert seen == list(range(1, count + 1))


def test_typed_records(events: Map) -> None:
    """By a struct class, a BTF type, or a type of the language, a record is a value."""
    pair = btf.Struct("pair", 8, (btf.Member("low", btf.Int("u32", 4), 0), btf.Member("high", btf.Int("u32", 4), 4)))
    readings: tuple[tuple[Any, Any], ...] = ((Pair, Pair(one=1, two=2)), (pair, {"low": 1, "high": 2}), (u32, 1))
    with ring_output(events) as program:
        for type_, wanted in readings:
            with RingBuffer(events, type_) as reader:
                send(program, bytes(Pair(one=1, two=2)))
                assert reader.drain() == [wanted]


def test_a_record_that_is_too_short_for_its_type(events: Map) -> None:
    """It is an error that tells both sizes, not a value made of something else."""
    with ring_output(events, 4) as program, RingBuffer(events, Pair) as reader:
        send(program, b"abcd")
        with pytest.raises(LayoutError, match=r"^a record of ring buffer events has 4 bytes, and its type 8$"):
            reader.drain()


@pytest.mark.parametrize("kind", [MapType.ARRAY, MapType.PERCPU_ARRAY])
def test_what_does_not_fit_is_counted(events: Map, kind: MapType) -> None:
    """By the counter that the program keeps, every record is either read or lost."""
    with (
        counter(kind) as lost,
        counted_output(events, lost) as program,
        RingBuffer(events, lost_counter=lost) as reader,
    ):
        assert reader.lost == 0
        program.run(bytes(64), repeat=1000)
        assert reader.lost == 1000 - len(reader.drain()) > 0
    with ring() as alone, RingBuffer(alone) as reader:
        assert reader.lost == 0


def test_waiting_without_a_wakeup(events: Map) -> None:
    """A record sent with NO_WAKEUP is found by whoever looks before it waits."""
    with ring_output(events, flags=int(RingbufFlag.NO_WAKEUP)) as program, RingBuffer(events) as reader:
        assert not reader.wait(0.01)
        send(program, number(1))
        assert reader.wait(0)
        assert reader.drain() == [number(1)]


def test_the_map_may_be_closed() -> None:
    """The reader has descriptors of its own."""
    with ring() as events, ring_output(events) as program, RingBuffer(events) as reader:
        events.close()
        send(program, number(7))
        assert reader.drain() == [number(7)]


def test_a_second_reader_goes_on_where_the_first_stopped(events: Map) -> None:
    """What one reader has not read is there for the next."""
    with ring_output(events) as program:
        with RingBuffer(events) as first:
            send(program, *map(number, range(5)))
            assert first.read_raw(2) == [number(0), number(1)]
        with RingBuffer(events) as second:
            assert second.drain() == [number(2), number(3), number(4)]


def test_other_maps_are_refused() -> None:
    """One line says which map is none that can be read so; nothing stays open."""
    before = os.listdir("/proc/self/fd")
    with counter() as other:
        with pytest.raises(BpfError, match=r"^map lost is of type .*, not a ring buffer$"):
            RingBuffer(other)
        with ring() as events, pytest.raises(BpfError, match=r"^map events counts no lost records: "):
            RingBuffer(events, lost_counter=events)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.needs(features.RING_BUFFER)
def test_a_ring_that_overwrites_is_refused() -> None:
    """Old records that change while they are read cannot be handed out; kernels before 6.19 have no such rings."""
    spec = MapSpec("events", MapType.RINGBUF, Untyped(0), Untyped(0), 4096, flags=1 << 19)
    try:
        events = Map.create(spec)
    except BpfError:
        return
    with events, pytest.raises(BpfError, match="overwrites old records"):
        RingBuffer(events)
