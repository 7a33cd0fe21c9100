"""Global variables, constants that the verifier knows, and lines in the trace: in the kernel, and what is refused."""

# ruff: noqa: E501 - a case a line

import os
from collections.abc import Iterator
from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from semantics_bench import attached
from tracing_mount import mounted_tracefs
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import Target, compile_collection
from pybpfasm.kernel import running_target
from pybpfasm.kernel.maps import Map, TypedMap
from pybpfasm.kernel.programs import Program

DECLARATIONS = """
class Pair(Struct):
    x: u32
    y: u64

class Data(Struct):
    a: u64
    s: i64
    b: u64
    port: be16
    name: Annotated[bytes, Length(8)]

count = Global[u64]()
small = Global[i8](-3)
limit = ReadOnly[u32](64)
port = ReadOnly[be16](htons(80))
pair = Global[Pair](Pair(x=1, y=2))
zero_pair = Global[Pair]()
fixed = ReadOnly[Pair](Pair(x=3, y=4))
table = ReadOnly[Annotated[list[u32], Length(4)]]([1, 2, 3, 4])
seen = Global[Annotated[list[u8], Length(8)]]()
title = ReadOnly[Annotated[bytes, Length(8)]](b"title")
untyped = Global(5)
unfit = Global[u8](300)

@bpf.inline
def total(p: Pair) -> int:
    return p.x + p.y

@bpf.inline
def double(p: Pair) -> None:
    p.y *= 2
"""

# Statements | fields before | fields after.
RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("count.value += 5\nv.a = count.value", {}, {"a": 5}),
    ("v.s = small.value\nsmall.value = v.a\nv.b = small.value + 10", {"a": 0x105}, {"s": -3, "b": 15}),
    ("v.a = limit.value * 2\nif port.value == v.port:\n    v.b = 1", {"port": 80}, {"a": 128, "b": 1}),
    ("v.a = pair.value.x + pair.value.y\npair.value.y = 9\nv.b = pair.value.y", {}, {"a": 3, "b": 9}),
    ("p = pair.value\np.x += 1\nv.a = total(p) + total(pair.value)", {}, {"a": 8}),
    ("pair.value = Pair(x=7, y=v.a)\nv.b = total(pair.value)", {"a": 5}, {"a": 5, "b": 12}),
    ("double(pair.value)\nv.a = pair.value.y", {}, {"a": 4}),
    ("zero_pair.value.x = 3\nv.a = total(zero_pair.value)", {}, {"a": 3}),
    ("v.a = total(fixed.value)", {}, {"a": 7}),
    ("v.b = table.value[v.a & 3]\nv.a = len(table.value)", {"a": 2}, {"b": 3, "a": 4}),
    ("seen.value[v.a % 8] += 7\nv.b = seen.value[1]", {"a": 9}, {"b": 7}),
    ("v.name = title.value\nif title.value == b'title':\n    v.a = 1", {}, {"name": b"title", "a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), RUNS, ids=[each[0] for each in RUNS])
def test_variables(
    caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The kernel computes what the page says."""
    from pybpfasm import htons

    fields = {name: htons(value) if name == "port" else value for name, value in before.items()}
    found = DataBench(caller, write_module).run(DECLARATIONS, body, fields)
    assert {name: getattr(found, name) for name in after} == after


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    ("limit.value = 5", "limit.value = 5 | limit", "this is read-only: make it a Global"),
    ("fixed.value.x = 5", "fixed.value.x = 5 | fixed", "this is read-only"),
    ("table.value[1] = 5", "table.value[1] = 5 | table", "this is read-only"),
    ("p = fixed.value", "p = fixed.value | fixed", "what is read-only cannot be given another name"),
    ("double(fixed.value)", "p.y *= 2 | p", "this is read-only"),
    ("small.value = 300", "small.value = 300 | 300", "300 does not fit small.value, which is i8"),
    ("count.value = v.port", "count.value = v.port | v.port", "count.value is u64, this is be16"),
    ("x = count + 1", "x = count + 1 | count", "a number is wanted, this is Global"),
    ("x = count.nope", "x = count.nope | count", "Global has no attribute `nope`"),
    ("x = untyped.value", "x = untyped.value | untyped", "variable `untyped`: Global needs its type: Global[u64](…)"),
    ("x = unfit.value", "x = unfit.value | unfit", "variable `unfit`: 300 does not fit u8"),
    ("printk('a %d')", "printk('a %d') | printk", "the format takes 1 arguments, here are 0"),
    ("printk('a', 1)", "printk('a', 1) | printk", "the format takes 0 arguments, here are 1"),
    ("printk('a %f', 1)", "printk('a %f', 1) | 'a", "`%f` is no conversion: %d, %u, %x, %X, %c, %s and %% are"),
    ("printk('a %1024d', 1)", "printk('a %1024d', 1) | 'a", "`%1024d` is wider than a line can be: 1023 at most"),
    ("printk('é', 1)", "printk('é', 1) | 'é", "the kernel prints ASCII only, without control characters: '\\xe9' is none"),
    ("printk('a %', 1)", "printk('a %', 1) | 'a", "`%` is no conversion"),
    ("printk('%d', v.port)", "printk('%d', v.port) | v.port", "%d takes a number, this is be16"),
    ("printk('%d', v.name)", "printk('%d', v.name) | v.name", "%d takes a number, this is char[8]: %s takes it"),
    ("printk('%s', 5)", "printk('%s', 5) | 5", "%s takes text, this is int"),
    ("printk(v.name)", "printk(v.name) | v.name", "this has to be known when the program is compiled"),
    ("printk(5)", "printk(5) | 5", "a constant format is wanted, this is int"),
    ("printk()", "printk() | printk", "printk() takes a format"),
    ("printk('%d %d %d %d', 1, 2, 3, 4)", "printk('%d %d %d %d', 1, 2, 3, 4) | printk", "printk() of more than 3 arguments needs Linux 5.16, this is compiled for 5.10"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken, with what to write instead."""
    module = write_module(with_statements(DECLARATIONS, body))
    assert_refused(module, marked, reason, Target())


def test_programs_share_their_variables(caller: Caller, write_module: MakeModule) -> None:
    """Programs of a collection have one map a section; user space sees the variables by name."""
    source = with_statements(DECLARATIONS, "count.value += 1\nv.a = count.value + limit.value")
    other = "\n@bpf.connect4\ndef other(ctx: SockAddr) -> int:\n    pair.value.x += 10\n    count.value += 100\n    return 1\n"
    module = write_module(source + other)
    spec = compile_collection([module.prog, module.other], {}, {})
    assert set(spec.maps) == {"data", ".bss", ".data", ".rodata"}
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        TypedMap(module.data, maps["data"])[0] = module.Data.from_bytes(bytes(module.Data.__layout__.size))
        for each in spec.programs.values():
            with Program.load(each, maps) as program, attached(program, caller.cgroup):
                caller.connect()
        assert TypedMap.of(maps[".bss"])[0] == {"count": 101}
        assert TypedMap.of(maps[".data"])[0] == {"pair": {"x": 11, "y": 2}}
        assert TypedMap(module.data, maps["data"])[0].a == 65
    finally:
        for each in maps.values():
            each.close()


def test_they_are_ordinary_values_in_python(write_module: MakeModule) -> None:
    """Outside of programs a variable holds what it is given."""
    module = write_module(DECLARATIONS)
    module.count.value += 2
    assert (module.count.value, module.limit.value, module.zero_pair.value.y) == (2, 64, 0)


@pytest.fixture
def trace() -> Iterator[int]:
    """The kernel's trace, to be read without waiting."""
    with mounted_tracefs() as place:
        pipe = os.open(place / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            yield pipe
        finally:
            os.close(pipe)


def read_all(pipe: int) -> str:
    """What is in the trace."""
    found = b""
    while True:
        try:
            piece = os.read(pipe, 4096)
        except BlockingIOError:
            return found.decode()
        if not piece:
            return found.decode()
        found += piece


def test_lines_in_the_trace(trace: int, caller: Caller, write_module: MakeModule) -> None:
    """Numbers have all their 64 bits, with few arguments and with many; text is written up to its end."""
    body = (
        "printk('few %d %x %s 100%%', v.s, v.a, v.name)\n"
        "printk('many %d %d %d %u %s', 1, v.s, 3, v.a, v.name)\n"
        "printk('none')\n"
    )
    read_all(trace)
    before = {"s": -5, "a": 0xFEDCBA9876543210, "name": b"name"}
    DataBench(caller, write_module).run(DECLARATIONS, body, before, running_target())
    written = read_all(trace)
    assert "few -5 fedcba9876543210 name 100%" in written
    assert f"many 1 -5 3 {0xFEDCBA9876543210} name" in written
    assert "none" in written
