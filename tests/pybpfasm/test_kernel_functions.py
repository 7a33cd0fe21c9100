"""Functions of the kernel, loops that it counts, what is held for a block, and inline assembly: in the kernel."""

# ruff: noqa: E501 - a case a line

import os
import struct
from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import named_target, running_target

DECLARATIONS = """
class Data(Struct):
    a: u64
    b: u64
    lock: SpinLock = SpinLock()
    n: u32 = 7

class Two(Struct):
    x: u32
    y: u32

class task_struct(KernelStruct):
    pid: i32
    tgid: i32

@bpf.kfunc(acquire=True)
def bpf_task_from_pid(pid: i32) -> task_struct | None:
    raise NotImplementedError

@bpf.kfunc(release=True)
def bpf_task_release(p: task_struct) -> None: ...

@bpf.inline
def locked_sum(v: Data) -> int:
    with spin_lock(v.lock):
        if v.a == 3:
            return v.a + 100
        v.b += 1
    return v.a + v.b

@bpf.inline
def in_lock(v: Data) -> bool:
    with spin_lock(v.lock):
        return v.a == 3 or v.b == 4

@bpf.inline
def first_multiple(n: int, of: int) -> int:
    for i in numbers(1, 50):
        if i % of == 0 and i > n:
            return i
    return 0

@bpf.subprogram
def in_subprogram(n: u8) -> int:
    total = 0
    for i in numbers(n):
        if i == 3:
            return total
        total += 2
    return total
"""


@pytest.fixture
def bench(caller: Caller, write_module: MakeModule) -> DataBench:
    """Where the bodies run."""
    return DataBench(caller, write_module)


# Statements | fields before | fields after.
LOOPS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("for i in numbers(5):\n    v.a += i", {}, {"a": 10}),
    ("for i in numbers(2, 5):\n    v.a += i", {}, {"a": 9}),
    ("for i in numbers(v.n):\n    v.a += i\nelse:\n    v.b = 1", {"n": 4}, {"a": 6, "b": 1}),
    ("total = 0\nfor i in numbers(min(v.a, 1000)):\n    total += 1\nv.b = total", {"a": 600}, {"b": 600}),
    ("for i in numbers(9):\n    if i == 4:\n        break\n    v.a += 1\nelse:\n    v.b = 1", {}, {"a": 4, "b": 0}),
    ("for i in numbers(9):\n    if i % 2:\n        continue\n    v.a += i", {}, {"a": 20}),
    ("for i in numbers(9):\n    v.a = i\n    if i == 3:\n        return 1", {}, {"a": 3}),
    ("for i in numbers(3):\n    for j in numbers(i):\n        v.a += 1\n        if j == 1:\n            break", {}, {"a": 3}),
    ("for i in numbers(-3, 2):\n    if i < 0:\n        v.a += 1\n    else:\n        v.b += 1", {}, {"a": 3, "b": 2}),
    ("v.a = first_multiple(20, 7)\nv.b = in_subprogram(200)", {}, {"a": 21, "b": 6}),
]  # fmt: skip


# Both at once: what is held last is given back first.
LOOPS += [
    ("for i in numbers(5):\n    with spin_lock(v.lock):\n        v.a += 1\n        if i == 2:\n            return 1\n        if i == 1:\n            continue\n    v.b += 1", {}, {"a": 3, "b": 1}),
    ("for i in numbers(5):\n    with spin_lock(v.lock):\n        v.a += 1\n        if i == 2:\n            break\nelse:\n    v.b = 5", {}, {"a": 3, "b": 0}),
]  # fmt: skip


@pytest.mark.needs(features.KFUNCS)
@pytest.mark.parametrize(("body", "before", "after"), LOOPS, ids=[each[0] for each in LOOPS])
def test_iterators(bench: DataBench, body: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """The kernel counts; on each way out the iterator is ended, or the verifier would refuse it."""
    body = body.replace("v.n", "cast(u8, v.n)")
    found = bench.run(DECLARATIONS, body, before, running_target())
    assert {name: getattr(found, name) for name in after} == after


LOCKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("with spin_lock(v.lock):\n    v.a += 1\n    v.b = v.a + 1", {"a": 4}, {"a": 5, "b": 6}),
    ("with spin_lock(v.lock):\n    v.a = 1\n    if v.b == 1:\n        return 1\n    v.a = 2\nv.n = 3", {"b": 1}, {"a": 1, "n": 0}),
    ("with spin_lock(v.lock):\n    v.a = 1\n    if v.b == 1:\n        return 1\n    v.a = 2\nv.n = 3", {}, {"a": 2, "n": 3}),
    ("for i in range(3):\n    with spin_lock(v.lock):\n        if i == 1:\n            continue\n        v.a += 1\n        if i == 2:\n            break\n    v.b += 1", {}, {"a": 2, "b": 1}),
    ("v.n = locked_sum(v)", {"a": 3}, {"n": 103, "b": 0}),
    ("v.n = locked_sum(v)", {"a": 5}, {"n": 6, "b": 1}),
    ("if in_lock(v):\n    v.n = 1\nelse:\n    v.n = 2", {"a": 3}, {"n": 1}),
    ("if in_lock(v):\n    v.n = 1\nelse:\n    v.n = 2", {"b": 4}, {"n": 1}),
    ("if in_lock(v):\n    v.n = 1\nelse:\n    v.n = 2", {"b": 5}, {"n": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), LOCKS, ids=[each[0] for each in LOCKS])
def test_locks(bench: DataBench, body: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """A lock is held for the block, and given back on each way out of it."""
    found = bench.run(DECLARATIONS, body, before)
    assert {name: getattr(found, name) for name in after} == after


ASSEMBLY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ('v.a = asm("r0 = r1\\nr0 *= r2", v.b, 3)', {"b": 5}, {"a": 15}),
    ('v.a = asm("r0 = r1; r0 = be16 r0", 0x0102)', {}, {"a": 0x0201}),
    ('x = v.b\nv.a = asm("r1 += 1\\nr5 = 9\\nr0 = r1", x) + x', {"b": 5}, {"a": 11}),
    ('t = Two(x=1, y=2)\nv.a = asm("r0 = *(u32 *)(r1 +4)", t)\nasm("*(u64 *)(r1 +0) = r2\\nr0 = 0", v, 7)\nv.b = v.a + 1', {}, {"a": 7, "b": 8}),
    ('v.a = asm("call 5") >> 63', {}, {"a": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), ASSEMBLY, ids=[each[0] for each in ASSEMBLY])
def test_assembly(bench: DataBench, body: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Instructions have their inputs in r1 and the following, and leave a number in r0."""
    found = bench.run(DECLARATIONS, body, before)
    assert {name: getattr(found, name) for name in after} == after


XDP = """
data = Array[u32, Data](max_entries=1)

@bpf.xdp
def prog(ctx: XdpMd) -> int:
    v = data.lookup(0)
    if v is None:
        return 0
"""

TASK = "t = bpf_task_from_pid(v.a)\nif t is None:\n    v.b = 5\n    return 1\n"

KFUNCS: list[tuple[str, dict[str, Any]]] = [
    (TASK + "v.b = t.tgid\nbpf_task_release(t)\nv.n = 3", {"b": os.getpid(), "n": 3}),
    ("v.a = 1 << 30\n" + TASK + "bpf_task_release(t)", {"b": 5}),
    ("with preempt_disabled():\n    v.b = 1\n    with rcu_read_lock():\n        if v.n == 7:\n            return 1\n        v.b = 2\nv.b += 4", {"b": 6}),
    ("with rcu_read_lock(), preempt_disabled():\n    v.b = 2\nv.b += 4", {"b": 6}),
]  # fmt: skip


@pytest.mark.needs(features.KFUNCS)
@pytest.mark.parametrize(("body", "after"), KFUNCS, ids=[each[0] for each in KFUNCS])
def test_kfuncs(write_module: MakeModule, body: str, after: dict[str, Any]) -> None:
    """What is declared is called; what it lends is given back."""
    rows = "".join(f"    {row}\n" for row in [*body.splitlines(), "return 1"])
    module = write_module(DECLARATIONS + XDP + rows)
    spec = compile_program(module.prog, target=running_target())
    key = struct.pack("<I", 0)
    with Map.create(spec.maps["data"]) as data, Program.load(spec, {"data": data}) as program:
        data.update(key, bytes(module.Data(a=os.getpid(), b=0, n=0)))
        program.run(bytes(64))
        found = module.Data.from_bytes(bytes(data.lookup(key) or b""))
    assert {name: getattr(found, name) for name in after} == after


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    ("with spin_lock(v.lock):\n    ktime_get_ns = h.ktime_get_ns()", "ktime_get_ns = h.ktime_get_ns() | h", "nothing is called while a lock is held"),
    ("with spin_lock(v.lock):\n    with spin_lock(v.lock):\n        v.a = 1", "with spin_lock(v.lock): | spin_lock", "one lock is held already"),
    ("with spin_lock(v.a):\n    v.a = 1", "with spin_lock(v.a): | v.a", "a SpinLock of a map's value is wanted, this is int"),
    ("d = Data(a=1, b=2)\nwith spin_lock(d.lock):\n    v.a = 1", "with spin_lock(d.lock): | d.lock", "this lock is on the stack"),
    ("with spin_lock(v.lock) as x:\n    v.a = 1", "with spin_lock(v.lock) as x: | x", "this gives nothing to be named"),
    ("with v:\n    v.a = 1", "with v: | v", "`with` is for spin_lock(…), rcu_read_lock() and preempt_disabled()"),
    ("v.a = v.lock.val", "v.a = v.lock.val | v.lock", "a lock's own bytes are the kernel's"),
    ("v.lock = SpinLock()", "v.lock = SpinLock() | v.lock", "a lock's own bytes are the kernel's"),
    ("d = Data(a=1, b=2)\nv.a = 1\nw = data.lookup(0)\nif w is None:\n    return 1\nx = Holder(d=v)", "x = Holder(d=v) | v", "this holds what only the kernel may touch"),
    ("bpf_task_release(v)", "bpf_task_release(v) | v", "this is Data where task_struct is wanted"),
    ("bpf_task_release(kernel_pointer(task_struct, 5))", "bpf_task_release(kernel_pointer(task_struct, 5)) | kernel_pointer", "the verifier knows nothing of this address"),
    (TASK + "v.a = 1", "return 1 | return", "`t`, which was acquired in line"),
    (TASK + "bpf_task_release(t)\nv.a = t.pid", "v.a = t.pid | t", "this was acquired in line"),
    ("t = bpf_task_from_pid(5)\nbpf_task_release(t)", "bpf_task_release(t) | t)", "this may be None where task_struct is wanted"),
    ("bpf_task_from_pid()", "bpf_task_from_pid() | bpf", "bpf_task_from_pid(): missing a required argument: 'pid'"),
    ('v.a = asm("r0 = r1", 1, 2, 3, 4, 5, 6)', 'v.a = asm("r0 = r1", 1, 2, 3, 4, 5, 6) | asm', "asm() takes a text and up to 5 inputs"),
    ('v.a = asm("r6 = 1")', 'v.a = asm("r6 = 1") | "', "`r6 = 0x1` changes r6: r0 to r5 are free"),
    ('v.a = asm("exit")', 'v.a = asm("exit") | "', "`exit`: no instruction here jumps"),
    ('v.a = asm("if r1 == 0 goto +0\\nr0 = 0", 1)', 'v.a = asm("if r1 == 0 goto +0\\nr0 = 0", 1) | "', "`if r1 == 0x0 goto +0x0`: no instruction here jumps"),
    ('v.a = asm("r0 = r10")', 'v.a = asm("r0 = r10") | "', "`r0 = r10` uses the stack"),
    ('v.a = asm("r0 = = 1")', 'v.a = asm("r0 = = 1") | "', "this is no assembly"),
    ("for i in numbers(v.a):\n    v.b = i", "for i in numbers(v.a): | v.a", "numbers() goes to 8388608 at most"),
    ("for i in numbers(1, 2, 3):\n    v.b = i", "for i in numbers(1, 2, 3): | numbers", "numbers() takes a start and a stop"),
]  # fmt: skip

MORE = """
class Holder(Struct):
    d: Data

@bpf.kfunc
def bpf_task_from_pid_(pid: i64) -> None: ...

wrong_kfunc = bpf_task_from_pid_
wrong_kfunc.__name__ = "bpf_task_from_pid"
"""


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken."""
    module = write_module(with_statements(DECLARATIONS + MORE, body))
    assert_refused(module, marked, reason, named_target("6.12"))


@pytest.mark.needs(features.KFUNCS)
def test_declarations_are_compared(write_module: MakeModule) -> None:
    """A kfunc that is not as the program declares it is refused, where the kernel's types have it."""
    module = write_module(with_statements(DECLARATIONS + MORE, "wrong_kfunc(5)"))
    with pytest.raises(CompileError) as caught:
        compile_program(module.prog, target=named_target("6.12"))
    wanted = "parameter `pid` of bpf_task_from_pid is declared i64, the kernel has `s32`: it has 4 bytes, and not 8"
    assert caught.value.reason == wanted


OLDER = [
    ("for i in numbers(3):\n    v.a = 1", "numbers() needs Linux 6.4, this is compiled for 6.1: write `range(…)`"),
    (
        "with rcu_read_lock():\n    v.a = 1",
        "rcu_read_lock() calls the kernel's functions, which needs Linux 6.4; this is compiled for 6.1",
    ),
]


@pytest.mark.parametrize(("body", "reason"), OLDER)
def test_older_kernels(write_module: MakeModule, body: str, reason: str) -> None:
    """What the kernel that is compiled for has not got is refused."""
    module = write_module(with_statements(DECLARATIONS, body))
    with pytest.raises(CompileError) as caught:
        compile_program(module.prog, target=named_target("6.1"))
    assert caught.value.reason == reason
