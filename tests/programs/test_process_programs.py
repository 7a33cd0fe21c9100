"""The programs that tell of processes, in the interpreter: what is told, what is not, what is kept of it.

A task is made of the words that the running kernel's own struct has where the programs look.
"""

import struct
from collections.abc import Mapping
from typing import Any

import pytest

from programs.processes import (
    PROC_EVENT_EXEC,
    PROC_EVENT_EXIT,
    PROC_EVENT_NONE,
    WHOLE,
    Change,
    Kind,
    Pair,
    connector,
    ended,
    executed,
    forked,
    moved,
)
from pybpfasm import Program, sim
from pybpfasm.compiler import compile_collection, compile_program
from pybpfasm.compiler.kernel_types import KernelTypes
from pybpfasm.sim.maps.queues import RingBuffer

HOST, NETNS, CGROUP = 5, 77, 4242
PID = 1000
TYPES = KernelTypes()


def record(struct_name: str, **fields: Any) -> sim.Arguments:
    """A struct of the kernel's with these fields, each 8 bytes or the first half of them."""
    places = {TYPES.member(struct_name, name).offset: value for name, value in fields.items()}
    words: list[Any] = [0] * (max(places) // 8 + 1)
    for offset, value in places.items():
        words[offset // 8] |= value << offset % 8 * 8 if isinstance(value, int) else 0
        if not isinstance(value, int):
            words[offset // 8] = value
    return sim.Arguments(words)


def task(netns: int | None = NETNS, *, cgroup: int = CGROUP, pid: int = PID, tgid: int = PID) -> sim.Arguments:
    """A task in a namespace, None for one that has left all of them."""
    kernfs = record("kernfs_node", id=cgroup)
    cgroups = record("css_set", dfl_cgrp=record("cgroup", kn=kernfs))
    fields = {"pid": pid, "tgid": tgid, "cgroups": cgroups}
    if netns is not None:
        fields["nsproxy"] = record("nsproxy", net_ns=record("net", net_cookie=netns))
    return record("task_struct", **fields)


# How each program is handed the task.
CALLS: Mapping[str, tuple[Program[Any], Any]] = {
    "fork": (forked, lambda each: [task(HOST), each]),
    "exec": (executed, lambda each: [each, 0, 0]),
    "attach": (moved, lambda each: [0, 0, each]),
    "exit": (ended, lambda each: [each]),
}


class Kernel:
    """The programs with their maps."""

    def __init__(self) -> None:
        programs = [program for program, _ in CALLS.values()]
        specs = compile_collection(programs, {"HOST_NETNS": HOST}, {"process_changes": 4096})
        self.specs = {name: specs.programs[program.name] for name, (program, _) in CALLS.items()}
        self.maps = sim.create_maps(specs)
        ring = self.maps["process_changes"]
        assert isinstance(ring, RingBuffer)
        self.ring = ring

    def run(self, name: str, each: sim.Arguments) -> None:
        """Run the program of that name on a task."""
        spec = self.specs[name]
        maps = {name: self.maps[name] for name in spec.maps}
        assert sim.run(spec, sim.Arguments(CALLS[name][1](each)), maps=maps).ret == 0

    def told(self, name: str, each: sim.Arguments) -> list[Change]:
        """What a program tells of a task."""
        self.run(name, each)
        return [Change.from_bytes(bytes(one)) for one in self.ring.consume()]


@pytest.fixture
def kernel() -> Kernel:
    """Nothing is known yet."""
    return Kernel()


@pytest.mark.parametrize("name", ["fork", "exec", "attach"])
def test_a_new_pair_is_told_once(kernel: Kernel, name: str) -> None:
    """The first process in a cgroup and a namespace is told, with both; others there are not."""
    assert kernel.told(name, task()) == [Change(pair=Pair(cgroup=CGROUP, netns=NETNS), pid=PID, kind=Kind.CAME)]
    assert kernel.told(name, task(pid=7, tgid=7)) == []
    assert [each.pid for each in kernel.told(name, task(pid=8, tgid=8, cgroup=CGROUP + 1))] == [8]
    assert [each.pid for each in kernel.told(name, task(NETNS + 1, pid=9, tgid=9))] == [9]


@pytest.mark.parametrize("name", ["fork", "exec", "attach"])
@pytest.mark.parametrize("other", [task(HOST), task(None), task(pid=PID + 1)], ids=["host", "ending", "thread"])
def test_others_are_not_told(kernel: Kernel, name: str, other: sim.Arguments) -> None:
    """The host's, a task without namespaces, a thread behind its process's first; no pair is known by them."""
    assert kernel.told(name, other) == []
    assert list(kernel.maps["pictures"].items()) == []


def test_a_witness_end_is_told(kernel: Kernel) -> None:
    """And its pair is new again; that of others, and of a witness's thread, is not."""
    kernel.told("fork", task())
    assert kernel.told("exit", task()) == []
    kernel.maps["witnesses"].update(PID, (1).to_bytes(4, "little"))
    assert kernel.told("exit", task(pid=PID + 1)) == []
    assert kernel.told("fork", task()) == []
    assert kernel.told("exit", task()) == [Change(pair=Pair(cgroup=CGROUP, netns=NETNS), pid=PID, kind=Kind.WENT)]
    assert [each.kind for each in kernel.told("fork", task())] == [Kind.CAME]


def test_a_witness_that_has_no_namespace_any_more(kernel: Kernel) -> None:
    """Its end is told all the same."""
    kernel.maps["witnesses"].update(PID, (1).to_bytes(4, "little"))
    assert [each.kind for each in kernel.told("exit", task(None))] == [Kind.WENT]


def test_what_finds_no_room_is_counted_and_stays_new(kernel: Kernel) -> None:
    """A ring that nobody reads."""
    told = 0
    while not int.from_bytes(kernel.maps["process_losses"].lookup(0) or b"", "little"):
        told += 1
        kernel.run("fork", task(pid=told, tgid=told, cgroup=told))
        assert told < 10000
    assert len(list(kernel.ring.consume())) == told - 1
    assert [each.pid for each in kernel.told("fork", task(pid=told, tgid=told, cgroup=told))] == [told]


@pytest.mark.parametrize(
    ("what", "thread", "process", "kept"),
    [
        (PROC_EVENT_NONE, 0, 0, WHOLE),
        (PROC_EVENT_EXEC, 8, 8, WHOLE),
        (PROC_EVENT_EXIT, PID, PID, WHOLE),
        (PROC_EVENT_EXIT, PID + 1, PID, 0),
        (PROC_EVENT_EXIT, 8, 8, 0),
        (1, 8, 8, 0),
    ],
    ids=["answer", "exec", "a witness's end", "its thread's end", "another's end", "fork"],
)
def test_what_is_kept_of_the_connectors_messages(what: int, thread: int, process: int, kept: int) -> None:
    """Answers, programs that are run, and ends of witnesses."""
    spec = compile_program(connector)
    maps = sim.create_maps(spec)
    maps["witnesses"].update(PID, (1).to_bytes(4, "little"))
    message = bytes(36) + struct.pack("=IIQII", what, 0, 0, thread, process) + bytes(16)
    assert sim.run(spec, sim.SkBuff(message), maps=maps).ret == kept
    # Nothing that the kernel sends is shorter.
    assert sim.run(spec, sim.SkBuff(message[:40]), maps=maps).ret == 0
