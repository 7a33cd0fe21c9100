"""How fast records of a ring buffer arrive in Python, sent from all CPUs at once: `python benchmarks/ring_buffer.py`.

A process on each CPU runs a program that sends numbered records of 16 bytes, as fast as the ring is emptied. What did
not fit is counted by the program; a round fails unless every record sent was either delivered or counted as lost. The
senders take their share of the same CPUs. Numbers are medians of the rounds, in thousands of records a second. Needs
root and Linux 5.8. libbpf is driven by ctypes, its callback a Python function that copies the record, as bcc's is.
"""

import argparse
import ctypes
import ctypes.util
import importlib.util
import os
import signal
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pybpfasm import Struct, isa, u32, u64
from pybpfasm.isa import Alu, Jump, Label
from pybpfasm.kernel.events import RingBuffer
from pybpfasm.kernel.events.perf_buffer import online_cpus
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType, RingbufQuery

RING_BYTES = 1 << 24
BURST = 2000
GOALS = {"a callable a record": 300, "raw batches": 1000}


class Event(Struct):
    """A record: the CPU that sent it, and its number there."""

    cpu: u32
    unused: u32
    number: u64


class Count(Struct):
    """What a CPU has sent, and what of that did not fit."""

    sent: u64
    lost: u64


def sender(events: Map, counts: Map) -> Program:
    """Sends a record; returns how many bytes wait in the ring."""
    code = (
        isa.store_imm(4, 10, -4, 0),
        isa.load_map(1, "counts"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -4),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.mov(6, 0),
        isa.call(Helper.GET_SMP_PROCESSOR_ID),
        isa.store(8, 10, -24, 0),
        isa.load(8, 1, 6, 0),
        isa.store(8, 10, -16, 1),
        isa.alu_imm(Alu.ADD, 1, 1),
        isa.store(8, 6, 0, 1),
        isa.load_map(1, "events"),
        isa.mov(2, 10),
        isa.alu_imm(Alu.ADD, 2, -24),
        isa.mov_imm(3, 16),
        isa.mov_imm(4, 0),
        isa.call(Helper.RINGBUF_OUTPUT),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "sent"),
        isa.load(8, 1, 6, 8),
        isa.alu_imm(Alu.ADD, 1, 1),
        isa.store(8, 6, 8, 1),
        Label("sent"),
        isa.load_map(1, "events"),
        isa.mov_imm(2, RingbufQuery.AVAIL_DATA),
        isa.call(Helper.RINGBUF_QUERY),
        Label("out"),
        isa.exit_program(),
    )
    spec = ProgramSpec("send", ProgramType.SCHED_CLS, AttachType(0), "__sk_buff", tuple(isa.resolve_labels(code)), {})
    return Program.load(spec, {"events": events, "counts": counts})


def send_on(program: Program, cpu: int, parent: int) -> None:
    """Send bursts from a CPU; while the ring is half full, leave the CPU to the reader and try one at a time."""
    os.sched_setaffinity(0, {cpu})
    burst = BURST
    while os.getppid() == parent:
        if program.run(bytes(64), repeat=burst).retval > RING_BYTES // 2:
            time.sleep(0.001)
            burst = 1
        else:
            burst = BURST


@contextmanager
def senders(program: Program) -> Iterator[Callable[[], None]]:
    """A sending process on each CPU; gives what stops them."""
    children = []
    parent = os.getpid()
    for cpu in online_cpus():
        child = os.fork()
        if not child:
            try:
                send_on(program, cpu, parent)
            finally:
                os._exit(1)
        children.append(child)

    def stop() -> None:
        while children:
            child = children.pop()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    try:
        yield stop
    finally:
        stop()


# --- ways to read: each reads until `wanted` records are there, and goes on in `rest` until the ring is empty ---------


class Reading:
    """A way to read: `some` handles records that are there or come soon, and says how many there were."""

    def __init__(self, reader: RingBuffer[object], some: Callable[[], int]) -> None:
        self.some = some
        self.close = reader.close


def callable_a_record(events: Map) -> Reading:
    """A Python function is called with each record, as bytes."""
    reader = RingBuffer(events)
    last = [b""]

    def take(record: bytes) -> None:
        last[0] = record

    return Reading(reader, lambda: reader.poll(take, 0.1))  # type: ignore[arg-type]  # only closed by it


def typed_callable(events: Map) -> Reading:
    """A Python function is called with each record, as a struct."""
    reader = RingBuffer(events, Event)
    last = [Event(cpu=0, unused=0, number=0)]

    def take(event: Event) -> None:
        last[0] = event

    return Reading(reader, lambda: reader.poll(take, 0.1))  # type: ignore[arg-type]  # only closed by it


def raw_batches(events: Map) -> Reading:
    """Lists of bytes objects, one a record."""
    reader = RingBuffer(events)
    return Reading(reader, lambda: len(reader.read_raw()) if reader.wait(0.1) else 0)  # type: ignore[arg-type]  # likewise


def checked(events: Map) -> Reading:
    """Raw batches, and each record's number is looked at: they have to grow by one, but for what was lost."""
    reader = RingBuffer(events)
    next_numbers: dict[int, int] = {}
    gaps = [0]

    def some() -> int:
        records = reader.read_raw() if reader.wait(0.1) else []
        for cpu, number in struct.iter_unpack("<QQ", b"".join(records)):
            expected = next_numbers.get(cpu, 0)
            if number < expected:
                raise SystemExit(f"record {number} of CPU {cpu} came after {expected - 1}")
            gaps[0] += number - expected
            next_numbers[cpu] = number + 1
        return len(records)

    return Reading(reader, some)  # type: ignore[arg-type]  # likewise


class Libbpf:
    """libbpf's reader, called through ctypes."""

    def __init__(self, events: Map) -> None:
        name = ctypes.util.find_library("bpf")
        if name is None:
            raise FileNotFoundError
        self._library = ctypes.CDLL(name, use_errno=True)
        self._last = b""
        self._count = 0
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        self._callback = kind(self._take)
        self._library.ring_buffer__new.restype = ctypes.c_void_p
        self._ring = ctypes.c_void_p(self._library.ring_buffer__new(events.fd, self._callback, None, None))

    def _take(self, _: int, data: int, size: int) -> int:
        self._last = ctypes.string_at(data, size)
        self._count += 1
        # It goes on until the ring is empty, which it never is here, but for a callback that fails.
        return -1 if not self._count % 4096 else 0

    def some(self) -> int:
        """Call back for what is there."""
        before = self._count
        self._library.ring_buffer__poll(self._ring, 100)
        return self._count - before

    def close(self) -> None:
        """Free it."""
        self._library.ring_buffer__free(self._ring)


WAYS: dict[str, Callable[[Map], Reading | Libbpf]] = {
    "a callable a record": callable_a_record,
    "a callable a record, typed": typed_callable,
    "raw batches": raw_batches,
    "raw batches, each number checked": checked,
    "libbpf, a callable a record": Libbpf,
}


def round_of(way: Callable[[Map], Reading | Libbpf], wanted: int) -> tuple[float, int]:
    """Records a second, and how many of them were lost, all of them counted."""
    ring = MapSpec("events", MapType.RINGBUF, Untyped(0), Untyped(0), RING_BYTES)
    array = MapSpec("counts", MapType.PERCPU_ARRAY, Untyped(4), Untyped(Count.__layout__.size), 1)
    with Map.create(ring) as events, Map.create(array) as counts, sender(events, counts) as program:
        reading = way(events)
        try:
            with senders(program) as stop:
                start = time.perf_counter()
                read = 0
                while read < wanted:
                    read += reading.some()
                seconds = time.perf_counter() - start
                speed = read / seconds
                stop()
                while more := reading.some():
                    read += more
        finally:
            reading.close()
        totals = [Count.from_bytes(each) for each in counts.lookup_per_cpu(bytes(4)) or ()]
        sent, lost = sum(each.sent for each in totals), sum(each.lost for each in totals)
        if read + lost != sent or not all(totals[cpu].sent for cpu in online_cpus()):
            raise SystemExit(
                f"{sent} records sent, {read} read, {lost} counted as lost: {sent - read - lost} are missing"
            )
        return speed, lost


def main() -> None:
    """Print a line for each way to read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=5_000_000, help="records a round (5,000,000)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.records:,} records of 16 bytes from {len(online_cpus())} CPUs; thousands of records a second")
    for name, way in WAYS.items():
        try:
            rounds = [round_of(way, arguments.records) for _ in range(arguments.rounds)]
        except FileNotFoundError:
            print(f"{name:34} not installed")
            continue
        median = statistics.median(speed for speed, _ in rounds) / 1000
        lost = statistics.median(lost for _, lost in rounds)
        goal = f"  (goal {GOALS[name]})" if name in GOALS else ""
        print(f"{name:34} {median:8.0f}   lost and counted {lost:.0f}{goal}", flush=True)
    if importlib.util.find_spec("bcc") is None:
        print("bcc's reader                       not installed (python3-bpfcc)")


if __name__ == "__main__":
    main()
