"""How quickly Python reads and writes maps, beside the bare system call in the same run. Needs root.

    python benchmarks/maps.py [--rounds N] [--entries N] [--cpu-time] [--check]

A hash and an array with keys of 4 bytes and values of 8. Each row is an operation: entries a second through the
library, through the bare call (bpf(2) by cffi with everything prepared, in a loop; for batches, one call on packed
memory), and what the library adds for each entry. The two take turns; the numbers are medians of the rounds.
`--cpu-time` counts this thread's CPU time instead of the time on the wall: for a machine that has other things to do.
`--check` fails where a goal is missed that the bare call reaches: 250,000 single operations a second, 3,000,000 in
batches. What an update of a hash costs in the kernel can be more than that alone; the system call lets go of the
interpreter, so that two threads, half of the entries each, take about half the time.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import attrs

from pybpfasm import u32, u64
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import Map, TypedMap
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Command, MapType, MapUpdateFlag

SINGLE_GOAL, BATCH_GOAL = 250_000, 3_000_000
KEY, VALUE = 4, 8


@attrs.frozen
class Row:
    """An operation of the library on all entries, and the bare call that does the same."""

    name: str
    ours: Callable[[], object]
    bare: Callable[[], object]
    goal: int | None = None


def main() -> int:
    """Measure and print; 1 if a goal is missed and that was asked for."""
    options = _options()
    clock = time.thread_time if options.cpu_time else time.perf_counter
    missed = []
    for type_ in (MapType.HASH, MapType.ARRAY):
        spec = MapSpec("benchmark", type_, Untyped(KEY), Untyped(VALUE), options.entries)
        with Map.create(spec) as measured, ThreadPoolExecutor(2) as two:
            print(f"{type_.name}, {options.entries} entries of {KEY} + {VALUE} bytes")
            print(f"  {'':28} {'library/s':>12} {'bare/s':>12} {'adds ns':>8}")
            for row in _rows(measured, options, two):
                ours, bare = _measure(row, options.rounds, options.entries, clock)
                goal = "" if row.goal is None else f"   goal {row.goal:,}"
                print(f"  {row.name:28} {ours:12,.0f} {bare:12,.0f} {1e9 / ours - 1e9 / bare:8.0f}{goal}")
                if row.goal is not None and ours < row.goal:
                    by = "the kernel" if bare < row.goal else "the library"
                    missed.append(f"{type_.name} {row.name} (by {by})")
    if missed:
        print("goals missed:", ", ".join(missed))
    return 1 if options.check and any("library" in each for each in missed) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How quickly Python reads and writes maps.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, not time on the wall")
    parser.add_argument("--check", action="store_true", help="fail if a goal is missed")
    return parser.parse_args()


def _measure(row: Row, rounds: int, entries: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Entries a second, of ours and of the bare call."""
    times: dict[Callable[[], object], list[float]] = {row.ours: [], row.bare: []}
    for _ in range(rounds):
        for operation, taken in times.items():
            before = clock()
            operation()
            taken.append(clock() - before)
    ours, bare = (entries / statistics.median(taken) for taken in times.values())
    return ours, bare


def _rows(measured: Map, options: argparse.Namespace, two: Executor) -> list[Row]:
    entries = options.entries
    keys = [number.to_bytes(KEY, sys.byteorder) for number in range(entries)]
    values = [number.to_bytes(VALUE, sys.byteorder) for number in range(entries)]
    packed_keys, packed_values = b"".join(keys), b"".join(values)
    pairs = list(zip(keys, values, strict=True))
    numbers = dict(enumerate(range(entries)))
    typed = TypedMap.of(measured, u32, u64)
    batch = _Batches(measured, packed_keys, packed_values)
    lookup, update = (_single(measured, each, keys[1]) for each in (Command.MAP_LOOKUP_ELEM, Command.MAP_UPDATE_ELEM))

    def update_typed() -> None:
        for number in range(entries):
            typed[number] = number

    def lookup_typed() -> None:
        for number in range(entries):
            typed[number]

    def update_bytes() -> None:
        for key, value in pairs:
            measured.update(key, value)

    def lookup_bytes() -> None:
        for key in keys:
            measured.lookup(key)

    def update_with_a_flag() -> None:
        for key, value in pairs:
            measured.update(key, value, MapUpdateFlag.EXIST)

    def update_packed_by_two() -> None:
        list(two.map(lambda half: measured.update_packed(*half), halves))

    half = entries // 2
    halves = [
        (packed_keys[: half * KEY], packed_values[: half * VALUE]),
        (packed_keys[half * KEY :], packed_values[half * VALUE :]),
    ]
    bare_update, bare_lookup = _loop(update, entries), _loop(lookup, entries)
    return [
        Row("update", update_bytes, bare_update, SINGLE_GOAL),
        Row("lookup", lookup_bytes, bare_lookup, SINGLE_GOAL),
        Row("update, EXIST", update_with_a_flag, bare_update, SINGLE_GOAL),
        Row("update, u32 to u64", update_typed, bare_update),
        Row("lookup, u32 to u64", lookup_typed, bare_lookup),
        Row("update_packed", lambda: measured.update_packed(packed_keys, packed_values), batch.update, BATCH_GOAL),
        *([] if options.cpu_time else [Row("update_packed, two threads", update_packed_by_two, batch.update)]),
        Row("walk_packed", lambda: list(measured.walk_packed()), batch.lookup, BATCH_GOAL),
        Row("update_batch", lambda: measured.update_batch(pairs), batch.update),
        Row("items", lambda: list(measured.items()), batch.lookup),
        Row("update_batch, u32 to u64", lambda: typed.update_batch(numbers), batch.update),
        Row("read_all, u32 to u64", typed.read_all, batch.lookup),
    ]


def _single(measured: Map, command: Command, key: bytes) -> Callable[[], int]:
    held = kernel.buffer(key), kernel.buffer(VALUE)
    attributes = kernel.new(
        "map_elem", map_fd=measured.fd, key=kernel.address(held[0]), value_or_next_key=kernel.address(held[1])
    )
    _HELD.append(held)
    return kernel.prepared(command, attributes)


def _loop(call: Callable[[], int], entries: int) -> Callable[[], None]:
    def bare() -> None:
        for _ in range(entries):
            call()

    return bare


# Memory that prepared calls point into.
_HELD: list[Any] = []


class _Batches:
    """The bare batch calls on all entries."""

    def __init__(self, measured: Map, keys: bytes, values: bytes) -> None:
        self._count = len(keys) // KEY
        self._held = kernel.buffer(keys), kernel.buffer(values), kernel.buffer(8)
        held_keys, held_values, place = map(kernel.address, self._held)
        # A lookup of all of a hash takes room for one bucket more than there are entries: it is read, not written.
        self._update = kernel.new("map_batch", map_fd=measured.fd, keys=held_keys, values=held_values)
        room = kernel.buffer(2 * len(keys)), kernel.buffer(2 * len(values))
        _HELD.append(room)
        out_keys, out_values = map(kernel.address, room)
        self._lookup = kernel.new("map_batch", map_fd=measured.fd, keys=out_keys, values=out_values, out_batch=place)
        self._call_update = kernel.prepared(Command.MAP_UPDATE_BATCH, self._update)
        self._call_lookup = kernel.prepared(Command.MAP_LOOKUP_BATCH, self._lookup)

    def update(self) -> None:
        """Write all."""
        self._update.count = self._count
        self._call_update()

    def lookup(self) -> None:
        """Read all."""
        self._lookup.count = 2 * self._count
        self._call_lookup()


if __name__ == "__main__":
    sys.exit(main())
