"""How readers are used and ended: iteration, callbacks, asyncio, threads, signals, fork, closing at any moment."""

import asyncio
import os
import re
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from event_programs import number, ring, ring_output, send

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import features
from pybpfasm.kernel.events import Poller, RingBuffer
from pybpfasm.kernel.events.ordering import barrier_for
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program

pytestmark = pytest.mark.needs(features.RING_BUFFER)


@pytest.fixture
def events() -> Iterator[Map]:
    """A ring of four pages."""
    with ring(4) as made:
        yield made


@pytest.fixture
def program(events: Map) -> Iterator[Program]:
    """Sends records of 8 bytes."""
    with ring_output(events) as made:
        yield made


@pytest.fixture
def reader(events: Map) -> Iterator[RingBuffer[bytes]]:
    """Reads them."""
    with RingBuffer(events) as made:
        yield made


def later(action: Callable[[], object], seconds: float = 0.1) -> threading.Timer:
    """Do it from another thread, a little later."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


# --- ways to read -----------------------------------------------------------------------------------------------------


def test_iteration_waits_and_ends_with_the_reader(program: Program, reader: RingBuffer[bytes]) -> None:
    """Records that come later are waited for; `close` ends the loop."""
    send(program, number(0))

    def finish() -> None:
        send(program, number(1))
        time.sleep(0.05)
        reader.close()

    timer = later(finish)
    assert list(reader) == [number(0), number(1)]
    timer.join()


def test_leaving_a_loop_loses_nothing(program: Program, reader: RingBuffer[bytes]) -> None:
    """What a loop that was left had not handed out comes first the next time, whatever way of reading that is."""
    send(program, *map(number, range(6)))
    for record in reader:
        assert record == number(0)
        break
    iterator = iter(reader)
    assert next(iterator) == number(1)
    assert reader.read_raw(1) == [number(2)]
    found: list[bytes] = []
    assert reader.poll(found.append, 0) == 3
    assert found == [number(3), number(4), number(5)]


def test_a_callback_that_raises_loses_nothing(program: Program, reader: RingBuffer[bytes]) -> None:
    """Its exception comes out, the records behind the one that it was given stay."""
    send(program, *map(number, range(3)))

    def fail(record: bytes) -> None:
        raise ValueError(record)

    with pytest.raises(ValueError, match="x00"):
        reader.poll(fail, 0)
    assert reader.drain() == [number(1), number(2)]


def test_poll_comes_back_when_the_time_is_up(reader: RingBuffer[bytes]) -> None:
    """No record, no call."""
    start = time.monotonic()
    assert reader.poll(print, 0.05) == 0
    assert 0.05 <= time.monotonic() - start < 5


def test_async_iteration(program: Program, reader: RingBuffer[bytes]) -> None:
    """`async for` waits without keeping other tasks from running, and ends when the reader is closed."""

    async def main() -> list[bytes]:
        async def produce() -> None:
            for index in range(5):
                await asyncio.sleep(0.01)
                send(program, number(index))
            await asyncio.sleep(0.05)
            reader.close()

        task = asyncio.create_task(produce())
        found = [record async for record in reader]
        await task
        return found

    assert asyncio.run(main()) == [number(index) for index in range(5)]


def test_async_iteration_by_two_tasks_is_refused(reader: RingBuffer[bytes]) -> None:
    """The second to wait is told so, the first goes on; cancelling it leaves the reader usable."""

    async def main() -> None:
        async def following() -> bytes:
            return await anext(aiter(reader))

        first = asyncio.create_task(following())
        await asyncio.sleep(0.05)
        with pytest.raises(BpfError, match="another task waits for ring buffer events"):
            await anext(aiter(reader))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())
    assert reader.drain() == []


def test_the_descriptor_works_with_poll(program: Program, reader: RingBuffer[bytes]) -> None:
    """`fileno` is readable exactly while there is something to read."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    assert poll.poll(0) == []
    send(program, number(1))
    assert poll.poll(1000)
    reader.drain()
    assert poll.poll(0) == []


# --- many readers -----------------------------------------------------------------------------------------------------


def test_a_poller_over_many_readers() -> None:
    """Each reader's records go to its own callback; one that is removed or closed is left alone."""
    rings = [ring(name=f"events{index}") for index in range(3)]
    found: list[tuple[int, bytes]] = []
    with Poller() as poller:
        readers = [RingBuffer(each) for each in rings]
        for index, reader in enumerate(readers):
            poller.add(reader, lambda record, index=index: found.append((index, record)))  # type: ignore[misc]  # the default binds
        for index, each in enumerate(rings):
            with sender(each) as program:
                send(program, number(index))
        while len(found) < 3:
            poller.run_once(5)
        assert sorted(found) == [(index, number(index)) for index in range(3)]
        poller.remove(readers[0])
        readers[1].close()
        for each in rings:
            with sender(each) as program:
                send(program, number(9))
        assert poller.run_once(5) == 1
        assert found[3:] == [(2, number(9))]
        assert poller.run_once(0.01) == 0
        timer = later(poller.stop)
        poller.run()
        timer.join()
    for reader in readers:
        reader.close()
    for each in rings:
        each.close()


def sender(events: Map) -> Program:
    """A sender for one of several rings."""
    return ring_output(events)


# --- closing, signals, threads, processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["wait", "iterate", "poll"])
def test_closing_wakes_a_thread_that_waits(reader: RingBuffer[bytes], way: str) -> None:
    """Without a record and without a timeout, closing from another thread ends each way of waiting."""
    ways: dict[str, Callable[[], object]] = {
        "wait": reader.wait,
        "iterate": lambda: list(reader),
        "poll": lambda: reader.poll(print),
    }
    thread = threading.Thread(target=ways[way])
    thread.start()
    time.sleep(0.05)
    reader.close()
    thread.join(10)
    assert not thread.is_alive()


def test_closing_while_another_thread_reads(program: Program, events: Map) -> None:
    """Reading and closing at the same time, again and again: no crash, and the reading thread ends."""
    for _ in range(50):
        reader = RingBuffer(events)
        thread = threading.Thread(target=lambda reader=reader: list(reader))
        thread.start()
        send(program, *map(number, range(20)))
        reader.close()
        thread.join(10)
        assert not thread.is_alive()


def test_a_callback_may_close_the_reader(program: Program, reader: RingBuffer[bytes]) -> None:
    """The batch that was read is still handed out, then it is over."""
    send(program, *map(number, range(3)))
    found = []
    for record in reader:
        reader.close()
        found.append(record)
    assert found == [number(0), number(1), number(2)]


def test_a_closed_reader_says_so(reader: RingBuffer[bytes]) -> None:
    """Reading is a ValueError, waiting is over at once, closing again is nothing."""
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="is closed"):
        reader.read_raw()
    with pytest.raises(ValueError, match="is closed"):
        reader.fileno()
    assert not reader.wait()
    assert list(reader) == []


def test_a_signal_in_the_middle_of_a_wait(program: Program, reader: RingBuffer[bytes]) -> None:
    """EINTR again and again does not end the wait, nor lengthen it; the record that comes ends it."""
    count = 0

    def handle(*_: object) -> None:
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        start = time.monotonic()
        assert not reader.wait(0.2)
        assert 0.2 <= time.monotonic() - start < 5
        timer = later(lambda: send(program, number(1)))
        assert reader.wait(30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    timer.join()
    assert reader.drain() == [number(1)]
    assert count > 5


def test_a_signal_handler_may_close_the_reader(reader: RingBuffer[bytes]) -> None:
    """The usual way to end on SIGTERM: the loop that waits comes to its end."""
    before = signal.signal(signal.SIGALRM, lambda *_: reader.close())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert list(reader) == []
    finally:
        signal.signal(signal.SIGALRM, before)


def test_several_threads_share_a_reader(program: Program, reader: RingBuffer[bytes]) -> None:
    """Each record goes to exactly one of them."""
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.extend(reader)) for _ in range(3)]
    for thread in threads:
        thread.start()
    wanted = [number(index) for index in range(600)]
    for start in range(0, 600, 20):
        send(program, *wanted[start : start + 20])
    while len(found) < 600 and reader.wait(0.01):
        pass
    deadline = time.monotonic() + 20
    while len(found) < 600 and time.monotonic() < deadline:
        time.sleep(0.01)
    reader.close()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == sorted(wanted)


def test_after_fork_the_reader_is_the_parents(program: Program, reader: RingBuffer[bytes]) -> None:
    """The child is refused, its close frees its own descriptors only, and the parent reads on."""
    child = os.fork()
    if not child:
        status = 1
        try:
            for way in (reader.read_raw, reader.wait, reader.drain, lambda: next(iter(reader))):
                with pytest.raises(BpfError, match="open one after fork"):
                    way()
            reader.close()
            with pytest.raises(ValueError, match="closed"):
                reader.fileno()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    send(program, number(1))
    assert reader.wait(5)
    assert reader.drain() == [number(1)]


def test_nothing_stays_open(events: Map) -> None:
    """Every descriptor and mapping of a reader is gone with it, also of one that was forgotten."""

    def state() -> tuple[list[str], int]:
        with open("/proc/self/maps") as maps:
            return os.listdir("/proc/self/fd"), sum("bpf-map" in line for line in maps)

    before = state()
    for _ in range(20):
        RingBuffer(events).close()
        RingBuffer(events)
        Poller()
    assert state() == before


def test_out_of_descriptors_in_the_middle(events: Map) -> None:
    """A reader that cannot be opened whole is an error with the reason, and leaves nothing open."""
    before = os.listdir("/proc/self/fd")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(1000) if str(number) not in before]
    refused = 0
    for limit in free[1:8]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
        try:
            RingBuffer(events).close()
        except KernelError as error:
            text = str(error)
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert re.fullmatch(r"cannot .*ring buffer events.*: .* out of file descriptors: .* \(EMFILE\)", text)
        assert os.listdir("/proc/self/fd") == before
    assert refused >= 3


# --- barriers ---------------------------------------------------------------------------------------------------------


def test_the_barrier_of_machines_that_need_one(program: Program, events: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    """arm64's barrier is a system call that this kernel has, and reading works with it."""
    monkeypatch.setattr("pybpfasm.kernel.events.ring_buffer.order_memory", barrier_for("aarch64"))
    with RingBuffer(events) as reader:
        send(program, number(1))
        assert reader.drain() == [number(1)]
