"""What maps hold of the kernel's, and memory whose size is known when the program runs: in the kernel, and what is refused."""

# ruff: noqa: E501 - a case a line

import os
import struct
from typing import Any

import pytest
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.events import RingBuffer, UserRingBuffer
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import named_target, running_target
from pybpfasm.lang.types import LayoutError
from pybpfasm.uapi import MapType

DECLARATIONS = """
class task_struct(KernelStruct):
    pid: i32
    tgid: i32

class file(KernelStruct):
    f_flags: u32

@bpf.kfunc(acquire=True)
def bpf_task_from_pid(pid: i32) -> task_struct | None:
    raise NotImplementedError

@bpf.kfunc(release=True)
def bpf_task_release(p: task_struct) -> None: ...

class Data(Struct):
    a: u64
    b: u64
    task: Kptr[task_struct] = Kptr()

class Event(Struct):
    kind: u32
    n: u32

data = Array[u32, Data](max_entries=1)
events = RingBuf(max_entries=4096)

@bpf.xdp
def prog(ctx: XdpMd) -> int:
    v = data.lookup(0)
    if v is None:
        return 0
"""


def module_of(write_module: MakeModule, body: str) -> Any:
    """A module with a program of these statements, behind `v`."""
    return write_module(DECLARATIONS + "".join(f"    {row}\n" for row in [*body.splitlines(), "return 1"]))


TAKE = "t = bpf_task_from_pid(v.a)\nif t is None:\n    return 1\n"
PUT = TAKE + "old = kptr_xchg(v.task, t)\nif old is not None:\n    v.b += 1\n    bpf_task_release(old)\n"
OUT = "held = kptr_xchg(v.task, None)\nif held is not None:\n    v.b += cast(u64, held.tgid) * 10\n    bpf_task_release(held)\n"


@pytest.mark.needs(features.KFUNCS)
@pytest.mark.parametrize(
    ("body", "b"),
    [(PUT, 0), (OUT, 0), (PUT + PUT, 1), (PUT + OUT, os.getpid() * 10), (PUT + OUT + OUT, os.getpid() * 10)],
)
def test_kptrs(write_module: MakeModule, body: str, b: int) -> None:
    """A pointer is put into a map and taken out again; what was there before is given back."""
    module = module_of(write_module, body)
    spec = compile_program(module.prog, target=running_target())
    key = struct.pack("<I", 0)
    with Map.create(spec.maps["data"]) as data, Program.load(spec, {"data": data}) as program:
        data.update(key, bytes(module.Data(a=os.getpid(), b=0)))
        assert program.run(bytes(64)).retval == 1
        assert module.Data.from_bytes(bytes(data.lookup(key) or b"")).b == b


def test_outside_of_programs(write_module: MakeModule) -> None:
    """Python sees an empty pointer, and cannot make another."""
    module = module_of(write_module, "v.a = 1")
    assert bytes(module.Data(a=1, b=2))[16:] == bytes(8)
    with pytest.raises(LayoutError, match=r"5 is no Kptr\[task_struct\]"):
        bytes(module.Data(a=1, b=2, task=5))


DYNPTRS = [
    ("d = events.reserve_dynptr(16)\nd.write(0, Event(kind=1, n=2))\nd.write(8, htonl(7))\nd.submit()", [struct.pack("<IIII", 1, 2, 7 << 24, 0)]),
    ("d = events.reserve_dynptr(v.b)\nd.write(0, htonl(7))\nd.submit()", [struct.pack(">I", 7)]),
    ("d = events.reserve_dynptr(8)\ne = d.data(Event)\nif e is None:\n    d.discard()\n    return 1\ne.kind = 5\ne.n = 6\nv.a = e.n\nd.submit()", [struct.pack("<II", 5, 6)]),
    ("d = events.reserve_dynptr(8)\ne = d.data(Event, 4)\nif e is None:\n    d.discard()\n    return 1\ne.kind = 5\nd.submit()", []),
    ("d = events.reserve_dynptr(8)\nif d.write(4, Event(kind=1, n=2)) != 0:\n    d.discard()\nelse:\n    d.submit()", []),
    ("d = events.reserve_dynptr(8)\nd.write(0, Event(kind=1, n=2))\ne = Event(kind=0, n=0)\nd.read(e)\ne.n += e.kind\nd.write(0, e)\nd.submit()", [struct.pack("<II", 1, 3)]),
    ("d = events.reserve_dynptr(1 << 20)\nd.write(0, Event(kind=1, n=2))\nd.submit()", []),
]  # fmt: skip


@pytest.mark.needs(features.KFUNCS)
@pytest.mark.parametrize(("body", "wanted"), DYNPTRS, ids=[each[0] for each in DYNPTRS])
def test_dynptrs(write_module: MakeModule, body: str, wanted: list[bytes]) -> None:
    """Room of a size that is known at run time is written, read, used in place, and handed over or given back."""
    module = module_of(write_module, body)
    spec = compile_program(module.prog, target=running_target())
    with (
        Map.create(spec.maps["data"]) as data,
        Map.create(spec.maps["events"]) as events,
        Program.load(spec, {"data": data, "events": events}) as program,
    ):
        data.update(struct.pack("<I", 0), bytes(module.Data(a=0, b=4)))
        assert program.run(bytes(64)).retval == 1
        with RingBuffer(events) as reader:
            assert reader.read_raw() == wanted


DRAIN = """
class Sums(Struct):
    n: u32
    total: u64

class Order(Struct):
    number: u32

orders = UserRingBuf(max_entries=4096)
out = Array[u32, Sums](max_entries=1)

@bpf.callback
def take(data: Dynptr, sums: Sums) -> int:
    order = Order(number=0)
    if data.read(order) != 0:
        return 1
    sums.n += 1
    sums.total += order.number
    return 1 if order.number == 99 else 0

@bpf.callback
def wrong(data: Order) -> int:
    return 0

@bpf.xdp
def draining(ctx: XdpMd) -> int:
    sums = Sums(n=0, total=0)
    found = orders.drain(take, sums)
    o = out.lookup(0)
    if o is not None:
        o.n = sums.n
        o.total = sums.total
    return 2 if found == 3 else 3

@bpf.xdp
def failing(ctx: XdpMd) -> int:
    orders.drain(wrong)
    return 2

@bpf.xdp
def filling(ctx: XdpMd) -> int:
    orders.discard(Order(number=1))
    return 2
"""


@pytest.mark.needs(features.MAP_TYPES[MapType.USER_RINGBUF])
def test_what_user_space_sends(write_module: MakeModule) -> None:
    """A callback reads each record, up to the one at which it returns 1."""
    module = write_module(DRAIN)
    spec = compile_program(module.draining, target=running_target())
    with (
        Map.create(spec.maps["orders"]) as orders,
        Map.create(spec.maps["out"]) as out,
        Program.load(spec, {"orders": orders, "out": out}) as program,
        UserRingBuffer(orders) as sender,
    ):
        for number in (5, 6, 99, 1):
            sender.write(struct.pack("<I", number))
        assert program.run(bytes(64)).retval == 2
        assert module.Sums.from_bytes(bytes(out.lookup(bytes(4)) or b"")).total == 110


def test_wrong_drains(write_module: MakeModule) -> None:
    """A callback that takes something else, and a buffer that is used as one of the program's own, are refused."""
    module = write_module(DRAIN)
    with pytest.raises(CompileError, match="parameter `data` of wrong is Order, Dynptr is what it gets"):
        compile_program(module.failing, target=named_target("6.12"))
    with pytest.raises(CompileError, match=r"a UserRingBuf is filled by user space: it has no discard\(\) here"):
        compile_program(module.filling, target=named_target("6.12"))
    with pytest.raises(CompileError, match=r"drain\(\) needs Linux 6.1, this is compiled for 5.10"):
        compile_program(module.draining)


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    (TAKE + "old = kptr_xchg(v.task, t)", "return 1 | return", "`old`, which was acquired in line"),
    (TAKE + "old = kptr_xchg(v.task, t)\nif old is not None:\n    bpf_task_release(old)\nv.b = t.pid", "v.b = t.pid | t", "this was acquired in line"),
    (TAKE + "kptr_xchg(v.a, t)", "kptr_xchg(v.a, t) | v.a", "a field of a map's value that is a Kptr is wanted"),
    (TAKE + "kptr_xchg(5, t)", "kptr_xchg(5, t) | 5", "a field of a map's value that is a Kptr is wanted"),
    ("x = Data(a=1, b=2)\nkptr_xchg(x.task, None)", "kptr_xchg(x.task, None) | x.task", "this is on the stack"),
    ("t = bpf_task_from_pid(5)\nkptr_xchg(v.task, t)", "kptr_xchg(v.task, t) | t)", "this may be None: test it first"),
    ("kptr_xchg(v.task, kernel_pointer(task_struct, 5))", "kptr_xchg(v.task, kernel_pointer(task_struct, 5)) | kernel", "a task_struct that was acquired, or None, is wanted, this is task_struct"),
    ("v.a = v.task", "v.a = v.task | v.task", "what a map holds is taken out by kptr_xchg(…)"),
    ("d = events.reserve_dynptr(8)", "return 1 | return", "`d`, which was reserved in line"),
    ("d = events.reserve_dynptr(8)\nd.submit()\nd.write(0, htonl(1))", "d.write(0, htonl(1)) | d", "this was reserved in line"),
    ("d = events.reserve_dynptr(8)\nd.submit()\nd.submit()", "d.submit() | d", "this may have been given back before"),
    ("d = events.reserve_dynptr(8)\ne = d.data(Event)\nif e is None:\n    d.discard()\n    return 1\nd.submit()\ne.n = 1", "e.n = 1 | e", "this was reserved in line"),
    ("d = events.reserve_dynptr(8)\nd.write(0, 5)\nd.submit()", "d.write(0, 5) | 5", "a struct, an array, text or a number in network order is wanted here"),
    ("d = events.reserve_dynptr(8)\nd.read(5)\nd.submit()", "d.read(5) | 5", "a struct, text or a Buffer is wanted here"),
    ("d = events.reserve_dynptr(8)\nd.data(5)\nd.submit()", "d.data(5) | 5", "a Struct is wanted"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken."""
    module = module_of(write_module, body)
    assert_refused(module, marked, reason, named_target("6.12"))
