"""Perf buffers, one ring a CPU."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from event_programs import PACKET_HEADER, counter, number, perf_array, perf_output, ring, send

from pybpfasm import Struct, u32
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.events import PerfBuffer, perf_buffer
from pybpfasm.kernel.events.perf_buffer import online_cpus
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program

# What a program gets that puts out where nobody reads.
_NO_RING = (1 << 32) - errno.ENOENT


class Pair(Struct):
    """A record of 8 bytes."""

    one: u32
    two: u32


@pytest.fixture
def events() -> Iterator[Map]:
    """An array with an entry for each CPU."""
    with perf_array() as made:
        yield made


@pytest.fixture
def program(events: Map) -> Iterator[Program]:
    """Puts out records of 8 bytes."""
    with perf_output(events) as made:
        yield made


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """This thread runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def test_records_of_every_cpu(events: Map, program: Program) -> None:
    """Each CPU's records come in their order, with the padding that the kernel adds."""
    with PerfBuffer(events) as reader:
        assert reader.cpus == tuple(online_cpus())
        for cpu in reader.cpus:
            with on_cpu(cpu):
                send(program, number(cpu), number(cpu + 100))
        records = reader.drain()
        assert {len(record) for record in records} == {12}
        for cpu in reader.cpus:
            mine = [record[:8] for record in records if record[:8] in (number(cpu), number(cpu + 100))]
            assert mine == [number(cpu), number(cpu + 100)]
        assert reader.lost == 0


@pytest.mark.parametrize("length", [1, 4, 8, 13, 56])
def test_records_of_any_size_around_the_ring(events: Map, length: int) -> None:
    """Many times around the ring's end, which a record may lie across: each comes whole."""
    with perf_output(events, length) as program, PerfBuffer(events, pages=1) as reader:
        for index in range(400):
            record = (index.to_bytes(8, "little") * 7)[:length]
            send(program, record)
            (found,) = reader.drain()
            assert found[:length] == record
            assert len(found) - length < 8


def test_typed_records(events: Map, program: Program) -> None:
    """By its type a record is a value, without the padding."""
    with PerfBuffer(events, Pair) as reader:
        send(program, bytes(Pair(one=1, two=2)))
        assert reader.drain() == [Pair(one=1, two=2)]


def test_what_does_not_fit_is_counted(events: Map, program: Program) -> None:
    """Every record is either read or counted as lost, which the kernel tells with the next that fits."""
    cpu = online_cpus()[0]
    with on_cpu(cpu), PerfBuffer(events, pages=1) as reader:
        program.run(bytes(64), repeat=1000)
        read = len(reader.drain())
        assert 0 < read < 1000
        assert reader.lost == 0
        send(program, number(1))
        read += len(reader.drain())
        assert reader.lost == 1001 - read
        assert reader.lost_by_cpu[cpu] == reader.lost


def test_waiting_for_many(events: Map, program: Program) -> None:
    """A waiter sleeps until as many are there as it was opened for; they can be read before."""
    cpu = online_cpus()[0]
    with on_cpu(cpu), PerfBuffer(events, wakeup_records=3) as reader:
        thread_done = threading.Event()

        def wait() -> None:
            reader._open_waiting.wait(30)  # the kernel's wakeup alone, without a look at what is there
            thread_done.set()

        thread = threading.Thread(target=wait)
        thread.start()
        send(program, number(1), number(2))
        time.sleep(0.1)
        assert not thread_done.is_set()
        assert reader.wait(0)
        send(program, number(3))
        assert thread_done.wait(10)
        thread.join()
        assert len(reader.drain()) == 3


def test_waiting_for_bytes(events: Map, program: Program) -> None:
    """The same with a number of bytes."""
    cpu = online_cpus()[0]
    with on_cpu(cpu), PerfBuffer(events, wakeup_bytes=60) as reader:
        send(program, number(1), number(2))
        assert not reader._open_waiting.wait(0)
        send(program, number(3))
        assert reader._open_waiting.wait(10)
        assert len(reader.drain()) == 3


def test_iteration_and_closing(events: Map, program: Program) -> None:
    """The same manners as a ring buffer's reader: what comes later is waited for, closing ends it."""
    reader = PerfBuffer(events, Pair)

    def produce() -> None:
        send(program, bytes(Pair(one=1, two=2)))
        time.sleep(0.1)
        reader.close()

    timer = threading.Timer(0.05, produce)
    timer.start()
    assert list(reader) == [Pair(one=1, two=2)]
    timer.join()


def test_only_some_cpus(events: Map, program: Program) -> None:
    """A CPU that is not read has no ring, and the program there is told."""
    cpu = online_cpus()[0]
    with on_cpu(cpu):
        with PerfBuffer(events, cpus=[]):
            assert program.run(bytes(PACKET_HEADER + 50)).retval == _NO_RING
        with PerfBuffer(events, cpus=[cpu]) as reader:
            assert program.run(bytes(PACKET_HEADER + 50)).retval == 0
            assert len(reader.drain()) == 1
        assert program.run(bytes(PACKET_HEADER + 50)).retval == _NO_RING


def test_cpus_that_cannot_be_read(events: Map) -> None:
    """A CPU that is not there, and an array without an entry for one: a line each, and nothing stays open."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(
        KernelError, match=r"^cannot open the events of CPU 4000: (there is no such CPU|the CPU is off)"
    ):
        PerfBuffer(events, cpus=[0, 4000])
    assert os.listdir("/proc/self/fd") == before
    if len(online_cpus()) > 1:
        with perf_array(1) as small, pytest.raises(KernelError, match="the map has no entry for it: give it one a CPU"):
            PerfBuffer(small)


def test_a_cpu_that_goes_offline_meanwhile(events: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was online a moment ago is passed over, as the kernel's answer for an offline CPU is."""
    opened = kernel.perf_event_open

    def refuse(attributes: object, pid: int, cpu: int, attempted: str) -> int:
        if cpu == 4000:
            raise kernel.failure(errno.ENODEV, attempted)
        return opened(attributes, pid, cpu, attempted)

    monkeypatch.setattr(kernel, "perf_event_open", refuse)
    monkeypatch.setattr(perf_buffer, "online_cpus", lambda: [0, 4000])
    with PerfBuffer(events) as reader:
        assert reader.cpus == (0,)
    with pytest.raises(KernelError, match=r"^cannot open the events of CPU 4000: the CPU is offline \(ENODEV\)$"):
        PerfBuffer(events, cpus=[4000])


def test_wrong_sizes_and_maps(events: Map) -> None:
    """Pages are a power of 2, the map is a perf event array."""
    with pytest.raises(BpfError, match=r"^perf buffer events: pages is a power of 2, not 3$"):
        PerfBuffer(events, pages=3)
    with counter() as other, pytest.raises(BpfError, match="not a perf event array"):
        PerfBuffer(other)
    with ring() as other, pytest.raises(BpfError, match="not a perf event array"):
        PerfBuffer(other)


def test_after_fork_the_reader_is_the_parents(events: Map, program: Program) -> None:
    """The child's close leaves the array's entries; the parent reads on."""
    with PerfBuffer(events) as reader:
        child = os.fork()
        if not child:
            status = 1
            try:
                with pytest.raises(BpfError, match="open one after fork"):
                    reader.read_raw()
                reader.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        send(program, number(1))
        assert len(reader.drain()) == 1
