"""Methods of each kind of map, computed in the kernel; and what the compiler refuses."""

# ruff: noqa: E501 - a case a line

from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import compile_program
from pybpfasm.errors import BpfError
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program

DECLARATIONS = """
class Data(Struct):
    a: u64
    b: u64
    ip: be32

class Stat(Struct):
    n: u64

class Prefix(Struct):
    prefixlen: u32
    address: be32

class Event(Struct):
    kind: u32
    n: u64

class Address(Union):
    ip4: be32
    words: Annotated[list[u32], Length(4)]

SEVEN = Stat(n=7)
HOME = Address(ip4=ip4("127.0.0.1"))

lru = LruHash[u32, Stat](max_entries=4)
per_cpu = PerCpuHash[u64, Stat](max_entries=4)
lru_per_cpu = LruPerCpuHash[u64, Stat](max_entries=4)
routes = LpmTrie[Prefix, Stat](max_entries=4)
table = Array[u32, Stat](max_entries=4)
queue = Queue[Stat](max_entries=2)
stack = Stack[Stat](max_entries=2)
bloom = BloomFilter[Stat](max_entries=16)
events = RingBuf(max_entries=4096)
perf = PerfEventArray()
programs = ProgArray(max_entries=2)
addresses = HashMap[Address, Stat](max_entries=4)
cgroups = CgroupArray(max_entries=2)

@bpf.subprogram
def handed_over(e: Event) -> int:
    events.submit(e)
    return 0

@bpf.inline
def fill(e: Event, n: int) -> None:
    e.kind = n
    e.n = n * n
"""

# Statements | fields before | fields after.
RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("lru.update(1, Stat(n=5))\np = lru.lookup(1)\nif p is not None:\n    v.a = p.n\nv.b = 0 - lru.delete(2)", {}, {"a": 5, "b": 2}),
    ("lru.update(1, SEVEN)\np = lru.lookup(1)\nif p is not None:\n    v.a = p.n\nv.b = 0 - events.output(SEVEN)", {}, {"a": 7}),
    ("addresses.update(HOME, SEVEN)\np = addresses.lookup(HOME)\nif p is not None:\n    v.a = p.n", {}, {"a": 7}),
    ("per_cpu.update(v.a, Stat(n=5))\np = per_cpu.lookup(3)\nif p is not None:\n    v.b = p.n", {"a": 3}, {"b": 5}),
    ("lru_per_cpu.update(v.a, Stat(n=5))\nv.b = 3 + lru_per_cpu.delete(3)", {"a": 3}, {"b": 3}),
    ("routes.update(Prefix(prefixlen=8, address=ip4('10.0.0.0')), Stat(n=8))\nroutes.update(Prefix(prefixlen=16, address=ip4('10.1.0.0')), Stat(n=16))\np = routes.lookup(Prefix(prefixlen=32, address=ip4('10.1.2.3')))\nif p is not None:\n    v.a = p.n\np = routes.lookup(Prefix(prefixlen=32, address=ip4('10.2.2.3')))\nif p is not None:\n    v.b = p.n", {}, {"a": 16, "b": 8}),
    ("table.update(2, Stat(n=4))\np = table.lookup(2)\nif p is not None:\n    v.a = p.n\nv.b = 0 - table.update(9, Stat(n=1))", {}, {"a": 4, "b": 7}),
    ("s = Stat(n=0)\nqueue.push(Stat(n=1))\nqueue.push(Stat(n=2))\nif queue.push(Stat(n=3)) < 0:\n    v.b = 100\nqueue.pop(s)\nv.a = s.n\nqueue.peek(s)\nv.b += s.n", {}, {"a": 1, "b": 102}),
    ("s = Stat(n=0)\nstack.push(Stat(n=1))\nstack.push(Stat(n=2))\nstack.push(Stat(n=3), BPF_EXIST)\nstack.pop(s)\nv.a = s.n\nstack.pop(s)\nv.b = 0 - stack.pop(s)\nif s.n == 0:\n    v.a += 10", {}, {"a": 13, "b": 2}),
    ("e = events.reserve(Event)\nif e is None:\n    return 0\nfill(e, 3)\nevents.submit(e)\nv.a = 1", {}, {"a": 1}),
    ("e = events.reserve(Event)\nif e is not None:\n    e.kind = 1\n    if v.a == 3:\n        events.discard(e)\n        v.b = 1\n    else:\n        events.submit(e)\n        v.b = 2", {"a": 3}, {"b": 1}),
    ("for i in range(3):\n    e = events.reserve(Event)\n    if e is None:\n        break\n    fill(e, i)\n    events.submit(e, 1)\n    v.a += 1", {}, {"a": 3}),
    ("v.a = 5 + events.output(Event(kind=1, n=2))\nv.b = 5 + perf.output(ctx, Event(kind=1, n=2))", {}, {"a": 5, "b": 3}),
    ("programs.tail_call(ctx, 1)\nv.a = 7", {}, {"a": 7}),
    ("addresses.update(Address(ip4=v.ip), Stat(n=3))\np = addresses.lookup(Address(words=[0x0100007F, 0, 0, 0]))\nif p is not None:\n    v.a = p.n", {"ip": "127.0.0.1"}, {"a": 3}),
    ("v.a = 20 + cgroups.has_current_task(1)", {}, {"a": 9}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), RUNS, ids=[each[0] for each in RUNS])
def test_methods(
    caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The kernel does what the method says."""
    from pybpfasm import ip4

    fields = {name: ip4(value) if isinstance(value, str) else value for name, value in before.items()}
    found = DataBench(caller, write_module).run(DECLARATIONS, body, fields)
    assert {name: getattr(found, name) for name in after} == after


def test_filters(caller: Caller, write_module: MakeModule) -> None:
    """A filter knows what was added (Linux 5.16)."""
    body = "bloom.push(Stat(n=5))\nv.a = 1 + bloom.peek(Stat(n=5))\nv.b = 0 - bloom.peek(Stat(n=6))"
    found = DataBench(caller, write_module).run(DECLARATIONS, body, {})
    assert (found.a, found.b) == (1, 2)


RESERVED = "e = events.reserve(Event)\nif e is None:\n    return 0\n"

# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    (RESERVED + "e.n = 1", "return 1 | return", "`e`, which was reserved in line"),
    (RESERVED + "if v.a == 1:\n    return 0\nevents.submit(e)", "return 0 | return", "`e`, which was reserved in line"),
    (RESERVED + "events.submit(e)\nevents.submit(e)", "events.submit(e) | events", "this may have been given back before: hand it to submit() or discard() once"),
    (RESERVED + "if v.a == 1:\n    events.discard(e)\nevents.submit(e)", "events.submit(e) | events", "this may have been given back before"),
    (RESERVED + "events.submit(e)\nv.a = e.n", "v.a = e.n | e", "this was reserved in line"),
    (RESERVED + "events.submit(e)\ne.n = 5", "e.n = 5 | e", "this was reserved in line"),
    ("events.reserve(Event)", "return 1 | return", "what was reserved in line"),
    ("for i in range(3):\n    e = events.reserve(Event)\n    if e is not None:\n        e.n = 1", "return 1 | return", "`e`, which was reserved in line"),
    ("events.submit(v)", "events.submit(v) | events", "this is nothing that was reserved"),
    ("e = events.reserve(Event)\nevents.submit(e)", "events.submit(e) | e)", "this may be None: test it first"),
    (RESERVED + "handed_over(e)\nevents.submit(e)", "events.submit(e) | events", "this is nothing that was reserved"),
    ("events.submit(5)", "events.submit(5) | 5", "what reserve() gave is wanted here, this is int"),
    ("e = events.reserve(5)", "e = events.reserve(5) | 5", "a Struct is wanted"),
    ("queue.push(5)", "queue.push(5) | 5", "Stat is wanted here, this is int"),
    ("queue.pop(v)", "queue.pop(v) | v", "Stat is wanted here, this is Data"),
    ("queue.delete(5)", "queue.delete(5) | queue.delete", "Queue has no attribute `delete`"),
    ("perf.output(v, v)", "perf.output(v, v) | v, v", "this is Data where Context is wanted"),
    ("events.output(5)", "events.output(5) | 5", "a struct, an array, text or a number in network order is wanted here, this is int"),
    (RESERVED + "programs.tail_call(ctx, 1)\nevents.submit(e)", "programs.tail_call(ctx, 1) | programs", "what was reserved in line"),
    ("programs.tail_call(ctx)", "programs.tail_call(ctx) | programs", "tail_call(): missing a required argument: 'index'"),
    ("x = routes.lookup(1)", "x = routes.lookup(1) | 1", "Prefix is wanted here, this is int"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken, with what to write instead."""
    module = write_module(with_statements(DECLARATIONS, body))
    assert_refused(module, marked, reason)


def test_a_ring_buffer_has_whole_pages() -> None:
    """A size that no kernel takes is refused before one is asked."""
    from pybpfasm import RingBuf

    with pytest.raises(BpfError, match="power of two and whole pages, not 1000 bytes"):
        RingBuf(max_entries=1000).spec("events")


def test_targets_of_packets_are_maps(write_module: MakeModule) -> None:
    """Maps of devices, CPUs and sockets can be made as they are declared."""
    module = write_module(
        "maps = (DevMap(max_entries=2), DevMapHash(max_entries=2), CpuMap(max_entries=1), XskMap(max_entries=2), SockMap(max_entries=2), ReuseportSockArray(max_entries=2), StackTrace(max_entries=4))\n"
    )
    for declaration in module.maps:
        with Map.create(declaration.spec("made")):
            pass


def test_tail_calls(caller: Caller, write_module: MakeModule) -> None:
    """The program at the index goes on in the place of this one."""
    other = "\n@bpf.connect4\ndef other(ctx: SockAddr) -> int:\n    v = data.lookup(0)\n    if v is not None:\n        v.b = 9\n    return 1\n"
    source = with_statements(DECLARATIONS, "v.a = 1\nprograms.tail_call(ctx, 1)\nv.a = 7") + other
    module = write_module(source)
    first, second = compile_program(module.prog), compile_program(module.other)
    maps = {name: Map.create(each) for name, each in first.maps.items()}
    try:
        from semantics_bench import attached

        from pybpfasm.kernel.maps import TypedMap

        with Program.load(first, maps) as program, Program.load(second, maps) as target:
            TypedMap.of(maps["programs"])[1] = target
            with attached(program, caller.cgroup):
                caller.connect()
        found = TypedMap(module.data, maps["data"])[0]
        assert (found.a, found.b) == (1, 9)
    finally:
        for each in maps.values():
            each.close()
