"""How long do threads wait for a CPU after they were woken? A histogram, each row twice as long as the one above.

    python examples/runqlat.py

Needs root and Linux 5.5.
"""

import argparse
from contextlib import suppress
from signal import pause

import pybpfasm as bpf
from pybpfasm import Array, HashMap, KernelStruct, Struct, atomic_add, i32, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap
from pybpfasm.scripts import run_script

ROWS = 32
BAR = 40


class Task(KernelStruct, name="task_struct"):
    """A thread; its `pid` is what user space calls a thread id."""

    pid: i32


class Woken(Struct):
    """When."""

    at_ns: u64


class Row(Struct):
    """How many waits were that long."""

    waits: u64


woken = HashMap[u32, Woken](max_entries=65536)
rows = Array[u32, Row](max_entries=ROWS)


@bpf.inline
def log2(number: int) -> int:
    """The place of the highest bit that is set; 0 for 0."""
    place = 0
    for shift in bpf.unroll((32, 16, 8, 4, 2, 1)):
        if number >> shift != 0:
            number >>= shift
            place += shift
    return place


@bpf.inline
def begin(task: Task) -> int:
    """The thread can run from now on."""
    woken.update(task.pid, Woken(at_ns=h.ktime_get_ns()))
    return 0


@bpf.tp_btf("sched_wakeup")
def wakeup(task: Task) -> int:
    """A thread was woken."""
    return begin(task)


@bpf.tp_btf("sched_wakeup_new")
def first_wakeup(task: Task) -> int:
    """A thread was made."""
    return begin(task)


@bpf.tp_btf("sched_switch")
def switch(preempt: bool, previous: Task, following: Task) -> int:
    """A CPU goes over to a thread: how long has it waited?"""
    entry = woken.lookup(following.pid)
    if entry is None:
        return 0
    microseconds = (h.ktime_get_ns() - entry.at_ns) // 1000
    woken.delete(following.pid)
    row = rows.lookup(min(log2(microseconds), ROWS - 1))
    if row is not None:
        atomic_add(row.waits, 1)
    return 0


def print_histogram(waits: list[int]) -> None:
    """Rows up to the last that has something, with a bar each."""
    last = max((index for index, each in enumerate(waits) if each), default=0)
    print(f"{'microseconds':>19}  {'waits':>8}")
    for index, each in enumerate(waits[: last + 1]):
        bar = "#" * (BAR * each // max(1, *waits))
        print(f"{0 if index == 0 else 1 << index:>8} .. {(2 << index) - 1:<7}  {each:>8}  {bar}")


def main() -> None:
    """Attach, wait, print the histogram."""
    parser = argparse.ArgumentParser(description="How long threads wait for a CPU, as a histogram.")
    parser.parse_args()
    with Collection.load(compile_collection([wakeup, first_wakeup, switch])) as loaded:
        loaded.attach_all()
        with suppress(KeyboardInterrupt):
            print("measuring; Ctrl-C ends it")
            pause()
        view = TypedMap(rows, loaded.maps["rows"])
        print_histogram([view[index].waits for index in range(ROWS)])


if __name__ == "__main__":
    run_script(main)
