"""Right programs pass `mypy --strict`: tracing, kernel functions, timers, pointers that maps hold, packets."""

from pathlib import Path

import pytest
from mypy import api
from written_modules import import_source

from pybpfasm.compiler import compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.target import named_target
from pybpfasm.lang.programs import Program

SOURCE = '''
"""Programs that are typed as the page says."""

from typing import Annotated

import pybpfasm as bpf
from pybpfasm import (
    Array,
    HashMap,
    KernelStruct,
    Kptr,
    Length,
    ProgArray,
    PtRegs,
    RingBuf,
    SkBuff,
    SpinLock,
    Struct,
    Timer,
    TracepointEvent,
    TracingContext,
    XdpMd,
    be16,
    htons,
    i32,
    i64,
    ip4,
    u32,
    u64,
)
from pybpfasm.uapi import CsumReplaceFlag


class task_struct(KernelStruct):
    pid: i32
    tgid: i32
    comm: Annotated[bytes, Length(16)]
    real_parent: "task_struct"


class Event(Struct):
    pid: u32
    comm: Annotated[bytes, Length(16)]
    file: Annotated[bytes, Length(64)]


class Entry(Struct):
    n: u64
    lock: SpinLock = SpinLock()


class Later(Struct):
    n: u64
    timer: Timer = Timer()
    task: Kptr[task_struct] = Kptr()


class Udp(Struct):
    source: be16
    destination: be16


class SysEnter(TracepointEvent):
    id: i64
    args: Annotated[list[u64], Length(6)]


events = RingBuf(max_entries=4096)
perf = bpf.PerfEventArray()
stacks = bpf.StackTrace(max_entries=16)
entries = HashMap[u32, Entry](max_entries=4)
later = Array[u32, Later](max_entries=4)
progs = ProgArray(max_entries=4)


@bpf.kfunc(acquire=True)
def bpf_task_from_pid(pid: i32) -> task_struct | None:
    raise NotImplementedError


@bpf.kfunc(release=True)
def bpf_task_release(p: task_struct) -> None: ...


@bpf.inline
def fill(e: Event, t: task_struct) -> None:
    e.pid = t.real_parent.tgid
    e.comm = t.comm


@bpf.kprobe("do_unlinkat")
def probing(ctx: PtRegs) -> int:
    e = events.reserve(Event)
    if e is None:
        return 0
    fill(e, bpf.get_current_task(task_struct))
    bpf.probe_read_user_str(e.file, ctx.argument(1))
    events.submit(e)
    return stacks.id(ctx) & 1


@bpf.tracepoint("raw_syscalls/sys_enter")
def entering(ctx: SysEnter) -> int:
    perf.output(ctx, Event(pid=0, comm=b"", file=b"/"))
    return 0 if ctx.args[0] == 5 else 1


@bpf.raw_tp("sched_process_fork")
def forking(parent: task_struct, child: task_struct, *, ctx: TracingContext) -> int:
    return 1 if child.tgid == parent.tgid else 0


@bpf.callback
def expired(key: u32, value: Later) -> int:
    value.n += key
    return 0


@bpf.xdp
def deciding(ctx: XdpMd) -> int:
    entry = entries.lookup(1)
    if entry is None:
        return 2
    with bpf.spin_lock(entry.lock):
        entry.n += 1
        if entry.n == 3:
            return 1
    for i in bpf.numbers(10):
        if i == 7:
            break
    later_entry = later.lookup(0)
    if later_entry is not None:
        bpf.timer_init(later_entry.timer, later)
        bpf.timer_set_callback(later_entry.timer, later, expired)
        bpf.timer_start(later_entry.timer, 1000)
        task = bpf_task_from_pid(1)
        if task is not None:
            old = bpf.kptr_xchg(later_entry.task, task)
            if old is not None:
                bpf_task_release(old)
    room = events.reserve_dynptr(16)
    room.write(0, htons(5))
    room.submit()
    udp = ctx.packet(Udp, 34)
    if udp is not None and udp.destination == htons(53):
        progs.tail_call(ctx, 1)
    return bpf.asm("r0 = r1", 2)


@bpf.tc
def rewriting(ctx: SkBuff) -> int:
    udp = ctx.load(Udp, 34)
    if udp is None:
        return 0
    ctx.l4_csum_replace(40, udp.source, htons(5), CsumReplaceFlag.MARK_MANGLED_0)
    ctx.l3_csum_add(24, bpf.csum_diff(None, ip4("10.0.0.1")))
    ctx.store(34, htons(5))
    return 0
'''


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module's file."""
    folder = tmp_path_factory.mktemp("mypy")
    return Path(str(import_source(SOURCE, folder).__file__))


def test_mypy_finds_no_fault(written: Path) -> None:
    """The type checker has nothing to say."""
    cache = f"--cache-dir={written.parent / 'cache'}"
    output, failure, _ = api.run(["--strict", "--no-error-summary", cache, str(written)])
    assert not failure
    assert output == ""


@pytest.mark.needs(features.KERNEL_BTF)
def test_the_compiler_agrees(tmp_path: Path) -> None:
    """All of them compile, with the running kernel's types."""
    module = import_source(SOURCE, tmp_path)
    programs = [each for each in vars(module).values() if isinstance(each, Program)]
    assert len(programs) == 5
    for each in programs:
        assert compile_program(each, target=named_target("6.12")).instructions
