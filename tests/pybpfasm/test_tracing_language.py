"""Programs that look at the kernel at work: what they are handed, and how they read what lies behind addresses."""

# ruff: noqa: E501 - a case a line

import ctypes
import os
import re
import socket
import struct
import subprocess
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tracing_mount import LSM_ACTIVE, mounted_tracefs
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm import btf, isa
from pybpfasm.btf.builder import BtfBuilder
from pybpfasm.compiler import compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.attaching import Targets, way_to_attach
from pybpfasm.kernel.links import attach_iterator, attach_struct_ops
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import Helper, ProgramLoadFlag

DECLARATIONS = """
class pt_regs(KernelStruct):
    ip: u64

class atomic_t(KernelStruct):
    counter: i32

class refcount_struct(KernelStruct):
    refs: atomic_t

class cred(KernelStruct):
    usage: u32

class task_struct(KernelStruct):
    pid: i32
    tgid: i32
    comm: Annotated[bytes, Length(16)]
    real_parent: "task_struct"
    parent: "task_struct | None"
    stack: u64
    in_iowait: u32
    group_leader: "Leader"
    usage: refcount_struct

class Leader(KernelStruct, name="task_struct"):
    pid: int
    tgid: u32

class dentry(KernelStruct):
    d_flags: u32
    d_inode: cred

class inode(KernelStruct):
    i_mode: u16

class path(KernelStruct):
    dentry: dentry

class file(KernelStruct):
    f_flags: u32
    f_path: path
    f_inode: inode

class sock_common(KernelStruct):
    skc_dport: be16
    skc_daddr: be32
    skc_family: u16

class sock(KernelStruct):
    __sk_common: sock_common
    sk_protocol: u16
    sk_userlocks: u8

class bpf_iter_meta(KernelStruct):
    seq: "seq_file"
    seq_num: u64

class seq_file(KernelStruct):
    size: u64

class Texts(Struct):
    one: Annotated[bytes, Length(16)]
    other: Annotated[bytes, Length(16)]

class no_such_struct(KernelStruct):
    x: u32

class pid_t(KernelStruct):
    x: u32

class Executed(TracepointEvent):
    filename: u32
    pid: i32
    old_pid: i32

class Out(Struct):
    a: i64
    b: u64
    pid: u32
    text: Annotated[bytes, Length(16)]

class Small(Struct):
    x: u32
    y: u16

class Renamed(TracepointEvent):
    pid: i32
    old: Annotated[bytes, Length(16)]
    new: Annotated[bytes, Length(16)]

out = Array[u32, Out](max_entries=1)
events = PerfEventArray()
PID = 0

@bpf.inline
def mine(o: Out) -> bool:
    return h.get_current_pid_tgid() >> 32 == PID
"""


def program(decorator: str, signature: str, body: str) -> str:
    """A program that has its entry of `out` as `o`."""
    head = f"{decorator}\ndef prog({signature}) -> int:\n    o = out.lookup(0)\n    if o is None:\n        return 0\n"
    end = "" if body.splitlines()[-1].startswith("return") else "    return 0\n"
    return DECLARATIONS + head + textwrap.indent(body.strip("\n"), "    ") + "\n" + end


@contextmanager
def loaded(spec: ProgramSpec) -> Iterator[tuple[Program, dict[str, Map]]]:
    """The program and its maps."""
    with ExitStack() as held:
        maps = {name: held.enter_context(Map.create(each)) for name, each in spec.maps.items()}
        yield held.enter_context(Program.load(spec, maps)), maps


def result(module: ModuleType, maps: dict[str, Map]) -> Any:
    """What the program has put into `out`."""
    found = maps["out"].lookup(struct.pack("<I", 0))
    assert found is not None
    out = module.Out.from_bytes(bytes(found))
    # Older kernels leave a former name's end behind a task's name.
    out.text = out.text.split(b"\0")[0]
    return out


# --- raw tracepoints, run by a test run of this process ---------------------------------------------------------------

ME = "t = get_current_task(task_struct)\n"

# include/uapi/linux/magic.h: the word at the end of a kernel stack.
STACK_END_MAGIC = 0x57AC6E9D

# Statements | what is in `out` then. `id` is -2 in 64 bits, the other argument an address that is none.
RAW: list[tuple[str, Callable[[], dict[str, Any]]]] = [
    ("o.a = id", lambda: {"a": -2}),
    ("o.a = regs.ip\no.b = 7", lambda: {"a": 0, "b": 7}),
    (ME + "o.pid = t.tgid", lambda: {"pid": os.getpid()}),
    (ME + "p = t.real_parent\no.pid = p.tgid", lambda: {"pid": os.getppid()}),
    (ME + "p = t.parent\nif p is None:\n    return 0\no.pid = p.tgid", lambda: {"pid": os.getppid()}),
    (ME + "o.text = t.comm\no.b = t.comm[0]", lambda: {"text": comm(), "b": comm()[0]}),
    (ME + "o.b = 1 if 0 < t.usage.refs.counter < 1000 else 2", lambda: {"b": 1}),
    (ME + "o.pid = t.group_leader.tgid\no.a = t.group_leader.pid", lambda: {"pid": os.getpid(), "a": os.getpid()}),
    (ME + "w = Texts(one=b'', other=b'')\nw.one = o.text = w.other = t.comm\no.b = 1 if w.one == w.other else 2", lambda: {"text": comm(), "b": 1}),
    (ME + "o.a = t.in_iowait", lambda: {"a": 0}),
    (ME + "if t.comm == o.text:\n    o.b = 1\no.text = t.comm\nif t.comm == o.text:\n    o.b += 2", lambda: {"text": comm(), "b": 2}),
    ("o.a = get_current_comm(o.text)", lambda: {"text": comm(), "a": 0}),
    ("b = bpf.Buffer(16)\nget_current_comm(b)\no.b = b[1]", lambda: {"b": comm()[1]}),
    ("o.b = read_user_number(u32, ADDRESS)\no.a = read_user_number(i8, ADDRESS + 7)", lambda: {"b": 0x04030201, "a": -8}),
    ("o.b = read_user_number(u64, 1)", lambda: {"b": 0}),
    ("o.a = probe_read_user_str(o.text, ADDRESS + 8)", lambda: {"text": b"hello", "a": 6}),
    ("s = probe_read_user(Small, ADDRESS)\nif s is None:\n    return 0\no.b = s.x\no.a = s.y", lambda: {"b": 0x04030201, "a": 0x0605}),
    ("s = probe_read_user(Small, 1)\nif s is None:\n    o.a = 4", lambda: {"a": 4}),
    (ME + "o.b = read_kernel_number(u32, t.stack)\no.a = kernel_pointer(Leader, t).pid", lambda: {"b": STACK_END_MAGIC, "a": threading.get_native_id()}),
    (ME + "o.a = 1 if probe_read_kernel_str(o.text, 1) < 0 else 2", lambda: {"a": 1}),
    (ME + "s = probe_read_kernel(Small, t)\nif s is None:\n    return 0\no.a = 1", lambda: {"a": 1}),
    (ME + "p = t if t.pid == 0 else t.real_parent\no.pid = p.tgid", lambda: {"pid": os.getppid()}),
    (ME + "for i in range(30):\n    if t.tgid == 1:\n        break\n    t = t.real_parent\no.pid = t.tgid", dict),
]  # fmt: skip


def comm() -> bytes:
    """This thread's name."""
    return Path("/proc/thread-self/comm").read_bytes().rstrip(b"\n")


@pytest.mark.needs(features.RAW_TRACEPOINT_RUN)
@pytest.mark.parametrize(("body", "wanted"), RAW, ids=[each[0] for each in RAW])
def test_reading_by_copies(write_module: MakeModule, body: str, wanted: Callable[[], dict[str, Any]]) -> None:
    """What lies behind an address that the verifier does not know is copied by a helper, 0 where there is nothing."""
    memory = ctypes.create_string_buffer(bytes((1, 2, 3, 4, 5, 6, 7, 248)) + b"hello\0")
    source = "ADDRESS = 0\n" + program('@bpf.raw_tp("sys_enter")', "regs: pt_regs, id: i64", body)
    module = write_module(source)
    constants: dict[str, Any] = {"ADDRESS": ctypes.addressof(memory)} if "ADDRESS" in body else {}
    spec = compile_program(module.prog, **constants)
    with loaded(spec) as (made, maps):
        made.run(context=struct.pack("<Qq", 1, -2))
        found = result(module, maps)
    assert {name: getattr(found, name) for name in wanted()} == wanted()


# --- what is attached -------------------------------------------------------------------------------------------------


def attached(module: ModuleType, trigger: Callable[[], None]) -> Any:
    """What `out` has after the program was attached and something has made it run."""
    spec = compile_program(module.prog, PID=os.getpid())
    with loaded(spec) as (made, maps), way_to_attach(spec, Targets())(made):
        trigger()
        return result(module, maps)


def open_nothing() -> None:
    """Open a file that there is not: it fails with ENOENT."""
    with pytest.raises(FileNotFoundError):
        os.open("/tmp/there-is-no-such-file", os.O_RDONLY)  # noqa: S108 - nothing is made


def rename() -> None:
    """Write this thread's own name to it: a task_rename."""
    Path("/proc/thread-self/comm").write_bytes(comm())


OWN = "if not mine(o):\n    return 0\n"

# Decorator | parameters | statements | what makes it run | what is in `out` then.
PROBES: list[tuple[str, str, str, Callable[[], None], dict[str, Any]]] = [
    ('@bpf.kprobe("do_sys_openat2")', "dfd: i32", "o.a = dfd", open_nothing, {"a": -100}),
    ('@bpf.kprobe("do_sys_openat2")', "ctx: PtRegs", "o.a = cast(i32, ctx.argument(0))\no.b = ctx.ip >> 63", open_nothing, {"a": -100, "b": 1}),
    ('@bpf.kretprobe("do_sys_openat2")', "*, result: i32", "o.a = result", open_nothing, {"a": -2}),
    ('@bpf.kretprobe("do_sys_openat2")', "ctx: PtRegs", "o.a = cast(i32, ctx.result())", open_nothing, {"a": -2}),
    ('@bpf.kprobe("__set_task_comm")', "t: task_struct, text: u64, *, ctx: PtRegs", "o.pid = t.tgid\nprobe_read_kernel_str(o.text, text)\nevents.output(ctx, htonl(5))", rename, {"pid": os.getpid(), "text": comm()}),
    ('@bpf.kprobe("__set_task_comm")', "ctx: PtRegs", "o.pid = ctx.argument(0, task_struct).tgid", rename, {"pid": os.getpid()}),
]  # fmt: skip


@pytest.mark.needs(features.KPROBES)
@pytest.mark.parametrize(("decorator", "signature", "body", "trigger", "wanted"), PROBES)
def test_probes(write_module: MakeModule, decorator: str, signature: str, body: str, trigger: Callable[[], None], wanted: dict[str, Any]) -> None:  # fmt: skip
    """Arguments and results from registers, with the widths that the program declares."""
    module = write_module(program(decorator, signature, OWN + body))
    found = attached(module, trigger)
    assert {name: getattr(found, name) for name in wanted} == wanted


def libc() -> str:
    """The C library that this process runs."""
    rows = Path("/proc/self/maps").read_text().splitlines()
    return next(row.split()[-1] for row in rows if re.search(r"/libc[.-][^/]*$", row))


UPROBES = [
    ("uprobe", "text: u64", "probe_read_user_str(o.text, text)", {"text": b"-42"}),
    ("uprobe", "ctx: PtRegs", "probe_read_user_str(o.text, ctx.argument(0))", {"text": b"-42"}),
    ("uretprobe", "*, result: i32", "o.a = result", {"a": -42}),
]  # fmt: skip


@pytest.mark.needs(features.UPROBES)
@pytest.mark.parametrize(("kind", "signature", "body", "wanted"), UPROBES)
def test_probes_of_processes(write_module: MakeModule, kind: str, signature: str, body: str, wanted: dict[str, Any]) -> None:  # fmt: skip
    """A function of a library: its argument, text in the process's memory, and its result."""
    module = write_module(program(f'@bpf.{kind}("{libc()}:atoi")', signature, OWN + body))
    found = attached(module, lambda: ctypes.CDLL(None).atoi(b"-42"))
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_tracepoints(write_module: MakeModule) -> None:
    """A tracepoint's record is a struct that the program declares; its text is copied and compared."""
    body = OWN + "o.pid = ctx.pid\no.text = ctx.new\no.a = 1 if ctx.old[0] == ctx.new[0] else 0\nevents.output(ctx, o)"
    module = write_module(program('@bpf.tracepoint("task/task_rename")', "ctx: Renamed", body))
    with mounted_tracefs():
        found = attached(module, rename)
    assert (found.pid, found.text, found.a) == (threading.get_native_id(), comm(), 1)


def test_text_whose_place_is_told(write_module: MakeModule) -> None:
    """A record's field says where its text begins."""
    body = "if ctx.pid != ctx.old_pid and PID == 0:\n    return 0\nprobe_read_kernel_str(o.text, data_loc(ctx, ctx.filename))"
    module = write_module(program('@bpf.tracepoint("sched/sched_process_exec")', "ctx: Executed", body))
    with mounted_tracefs():
        found = attached(module, lambda: subprocess.run(["/bin/true"], check=True))
    assert found.text.startswith(b"/")


BY_BTF = [
    ('@bpf.raw_tp("task_rename")', "t: task_struct, new: u64", "o.pid = t.tgid\nprobe_read_kernel_str(o.text, new)", rename, {"pid": os.getpid(), "text": comm()}),
    ('@bpf.tp_btf("task_rename")', "t: task_struct", "o.pid = t.tgid\no.a = t.real_parent.tgid\no.text = t.comm", rename, {"pid": os.getpid(), "a": os.getppid(), "text": comm()}),
]  # fmt: skip


@pytest.mark.needs(features.ITERATORS)
@pytest.mark.parametrize(("decorator", "signature", "body", "trigger", "wanted"), BY_BTF)
def test_raw_tracepoints(write_module: MakeModule, decorator: str, signature: str, body: str, trigger: Callable[[], None], wanted: dict[str, Any]) -> None:  # fmt: skip
    """A tracepoint's own arguments; by BTF what they point to is read at once."""
    module = write_module(program(decorator, signature, OWN + body))
    found = attached(module, trigger)
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.needs(features.ITERATORS)
def test_iterators(write_module: MakeModule) -> None:
    """An iterator writes a line for each task, behind a test of None."""
    body = 'if task is None:\n    return 0\nif meta.seq_num == 0:\n    seq_printf(meta.seq, "pid\\n")\nseq_printf(meta.seq, "%d %s\\n", task.pid, task.comm)\nreturn 0'
    module = write_module(program('@bpf.iterate("task")', "meta: bpf_iter_meta, task: task_struct | None", body))
    with loaded(compile_program(module.prog)) as (made, _), attach_iterator(made) as link:
        lines = link.read().decode(errors="replace").splitlines()
    assert lines[0] == "pid"
    assert f"{os.getpid()} {Path('/proc/self/comm').read_text().strip()}" in lines


@pytest.mark.needs(features.STRUCT_OPS)
def test_struct_ops(write_module: MakeModule) -> None:
    """A function of a struct of functions has its member's parameters; places in a struct are read in place."""
    body = "c = sk.__sk_common\nreturn sk.sk_protocol if c.skc_dport == htons(80) else ntohl(sk.__sk_common.skc_daddr) + sk.sk_userlocks"
    module = write_module(program('@bpf.struct_ops("tcp_congestion_ops.ssthresh")', "sk: sock", body))
    with loaded(compile_program(module.prog)) as (made, _):
        assert made.info().name == "prog"


CONGESTION = """
class tcp_sock(KernelStruct):
    snd_cwnd: u32
    snd_cwnd_clamp: u32

@bpf.struct_ops("tcp_congestion_ops.ssthresh")
def ssthresh(sk: tcp_sock) -> int:
    return max(sk.snd_cwnd >> 1, 2)

@bpf.struct_ops("tcp_congestion_ops.undo_cwnd")
def undo_cwnd(sk: tcp_sock) -> int:
    return sk.snd_cwnd

@bpf.struct_ops("tcp_congestion_ops.cong_avoid")
def cong_avoid(sk: tcp_sock, ack: u32, acked: u32) -> int:
    o = out.lookup(0)
    if o is not None:
        o.b += acked
        o.pid = sk.snd_cwnd
    sk.snd_cwnd = min(sk.snd_cwnd_clamp, 77)
    return 0
"""


@pytest.mark.needs(features.STRUCT_OPS)
def test_a_congestion_control(write_module: MakeModule) -> None:
    """Functions of a struct are called for a real connection, and may assign what the kernel lets them."""
    module = write_module(DECLARATIONS + CONGESTION)
    specs = {name: compile_program(getattr(module, name)) for name in ("ssthresh", "undo_cwnd", "cong_avoid")}
    with ExitStack() as held:
        maps = {"out": held.enter_context(Map.create(specs["cong_avoid"].maps["out"]))}
        made = {name: held.enter_context(Program.load(spec, maps)) for name, spec in specs.items()}
        name = f"py{os.getpid()}"
        held.enter_context(attach_struct_ops("tcp_congestion_ops", made, {"name": name}))
        server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = held.enter_context(socket.socket())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
        client.connect(server.getsockname())
        accepted = held.enter_context(server.accept()[0])
        for _ in range(50):
            client.sendall(bytes(10_000))
            left = 10_000
            while left:
                left -= len(accepted.recv(left))
        found = result(module, maps)
        client.close()
    assert found.b > 0
    assert found.pid == 77


# The kernel's own functions for tests, which a test run calls: net/bpf/test_run.c. Result: `out` after it.
FENTRY = [
    ('@bpf.fentry("bpf_fentry_test1")', "a: i32", "o.a = a", {"a": 1}),
    ('@bpf.fentry("bpf_fentry_test3")', "a: i8, b: int, c: u64", "o.a = a * 100 + b * 10\no.b = c", {"a": 450, "b": 6}),
    ('@bpf.fexit("bpf_fentry_test1")', "*, result: i32", "o.a = result", {"a": 2}),
    ('@bpf.fexit("bpf_fentry_test4")', "a: u64, b: i8, c: int, d: u64, *, result: int, ctx: TracingContext", "o.a = result\no.b = a + d\nevents.output(ctx, o)", {"a": 34, "b": 17}),
]  # fmt: skip


@pytest.mark.needs(features.FENTRY)
@pytest.mark.parametrize(("decorator", "signature", "body", "wanted"), FENTRY)
def test_functions(write_module: MakeModule, decorator: str, signature: str, body: str, wanted: dict[str, Any]) -> None:
    """Arguments by position, with their types; what was returned by name."""
    spec = compile_program((module := write_module(program(decorator, signature, body + "\nreturn 0"))).prog)
    with loaded(spec) as (made, maps), way_to_attach(spec, Targets())(made):
        made.run()
        found = result(module, maps)
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.needs(features.LSM, LSM_ACTIVE)
def test_lsm(write_module: MakeModule, tmp_path: Path) -> None:
    """A hook refuses to open a file by what lies behind its argument."""
    body = "o.b += 1\no.a = f.f_inode.i_mode\nif mine(o) and f.f_flags & 0x8000 and f.f_path.dentry.d_flags != 0 and f.f_flags & 0x40000:\n    return -1\nreturn 0"
    module = write_module(program('@bpf.lsm("file_open")', "f: file", body))
    spec = compile_program(module.prog, PID=os.getpid())
    place = tmp_path / "file"
    place.write_text("text")
    with loaded(spec) as (made, _), way_to_attach(spec, Targets())(made):
        with pytest.raises(PermissionError):
            os.open(place, os.O_RDONLY | os.O_NOATIME)
        assert place.read_text() == "text"


# --- without a kernel -------------------------------------------------------------------------------------------------


@pytest.mark.needs(features.KERNEL_BTF)
def test_text_goes_where_it_is_wanted(write_module: MakeModule) -> None:
    """Text that a helper copies is copied once: straight to the field that it is assigned to."""
    spec = compile_program(write_module(program('@bpf.kprobe("f")', "t: task_struct", "o.text = t.comm")).prog)
    calls = [each for each in spec.instructions if each == isa.call(Helper.PROBE_READ_KERNEL)]
    assert len(calls) == 1
    # What is loaded are the program's argument and nothing else.
    assert sum(each.opcode & 7 == isa.Class.LDX for each in spec.instructions) == 1


SLEEPABLE = [
    ('@bpf.lsm("file_open", sleepable=True)', "lsm.s/file_open"),
    ('@bpf.fentry("do_sys_openat2", sleepable=True)', "fentry.s/do_sys_openat2"),
    ('@bpf.uprobe("/bin/sh:main", sleepable=True)', "uprobe.s//bin/sh:main"),
]


@pytest.mark.needs(features.KERNEL_BTF)
@pytest.mark.parametrize(("decorator", "section"), SLEEPABLE)
def test_programs_that_sleep(write_module: MakeModule, decorator: str, section: str) -> None:
    """A program says that it may sleep; where it is attached is the same."""
    spec = compile_program(write_module(program(decorator, "", "return 0")).prog)
    assert spec.flags == ProgramLoadFlag.SLEEPABLE
    assert spec.section == section
    assert spec.attach_to == section.partition("/")[2]


def test_given_types_decide(write_module: MakeModule) -> None:
    """Fields lie where the types say that a program is compiled for: another kernel's, and a bit field in the middle."""
    builder = BtfBuilder()
    number = btf.Int("int", 4, signed=True)
    builder.type_id(btf.Struct("task_struct", 64, (btf.Member("pid", number, 60), btf.Member("tgid", number, 8))))
    types = btf.Btf.parse(builder.encode())
    module = write_module(
        DECLARATIONS
        + '@bpf.kprobe("f")\ndef prog(t: task_struct) -> int:\n    return kernel_pointer(task_struct, t).pid\n'
    )
    spec = compile_program(module.prog, kernel_types=types)
    assert any(each.imm == 60 for each in spec.instructions)


KP, TP, RAW_TP, BTF = (
    '@bpf.kprobe("f")',
    '@bpf.tracepoint("a/b")',
    '@bpf.raw_tp("sys_enter")',
    '@bpf.tp_btf("task_rename")',
)

# Decorator | parameters | statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    (KP, "t: task_struct", "return t.nothing", "return t.nothing | nothing", "task_struct has no field `nothing`"),
    (KP, "t: pid_t", "return t.x", "return t.x | t", "this kernel has no struct pid_t: name it as the kernel does"),
    (KP, "t: no_such_struct", "return t.x", "return t.x | t", "this kernel has no struct no_such_struct: name it as the kernel does"),
    (KP, "t: cred", "return t.usage2", "return t.usage2 | usage2", "cred has no field `usage2`"),
    (KP, "t: dentry", "return t.d_inode.usage", "return t.d_inode.usage | t.d_inode", "dentry.d_inode is declared cred, the kernel has `struct inode *`: that is no struct cred"),
    (KP, "t: task_struct", "return t.parent.pid", "return t.parent.pid | t.parent", "this may be None: test it first"),
    (KP, "t: task_struct", "t.pid = 5", "t.pid = 5 | t.pid", "the kernel's memory cannot be assigned by this program"),
    (KP, "t: task_struct", "if t is None:\n    return 1", "if t is None: | t is None", "this is task_struct and never None"),
    (KP, "*, result: int", "return 0", "def prog(*, result: int) -> int: | result", "nothing has been returned yet: that is for kretprobe and uretprobe"),
    (KP, "a: int, *, b: int", "return 0", "def prog(a: int, *, b: int) -> int: | b", "behind `*` come `result`, what is returned, and `ctx`, the context"),
    (KP, "a: Small", "return 0", "def prog(a: Small) -> int: | a", "Small is not handed over: a number or a KernelStruct is"),
    (KP, "a: int, *, ctx: XdpMd", "return 0", "def prog(a: int, *, ctx: XdpMd) -> int: | ctx", "the context is declared `ctx: PtRegs`"),
    (BTF, "t: task_struct", "for i in range(3):\n    t = kernel_pointer(task_struct, t.stack)", "for i in range(3): | for", "`t` is read at once where the loop begins, but by copies when it comes around"),
    (KP, "ctx: PtRegs", "return ctx.argument(9)", "return ctx.argument(9) | 9", "the arguments that are in registers have the numbers 0 to"),
    (KP, "ctx: PtRegs", "return ctx.argument(0, Small).x", "return ctx.argument(0, Small).x | Small", "a KernelStruct is wanted"),
    (TP, "ctx: task_struct", "return 0", "def prog(ctx: task_struct) -> int: | def", "this program is declared `def prog(ctx: …) -> int`, with a TracepointEvent"),
    (TP, "ctx: Renamed", "return data_loc(o, 5) & 1", "return data_loc(o, 5) & 1 | o, 5", "a tracepoint's record is wanted, this is Out"),
    (TP, "ctx: Renamed", "ctx.pid = 5", "ctx.pid = 5 | ctx", "the kernel's memory cannot be assigned"),
    (TP, "ctx: Renamed", "return ctx.common", "return ctx.common | ctx", "the kernel does not show what all records of tracepoints begin with"),
    (RAW_TP, "regs: pt_regs, id: i32", "return 0", "def prog(regs: pt_regs, id: i32) -> int: | id", "parameter `id` of sys_enter(struct pt_regs *"),
    (RAW_TP, "regs: task_struct", "return 0", "def prog(regs: task_struct) -> int: | regs", "parameter `regs` of sys_enter(struct pt_regs *"),
    (RAW_TP, "a: pt_regs, b: int, c: int", "return 0", "def prog(a: pt_regs, b: int, c: int) -> int: | c", "there are not so many arguments: sys_enter(struct pt_regs *"),
    (BTF, "t: task_struct", "return t.comm[cast(u8, t.pid) & 3] & 1", "return t.comm[cast(u8, t.pid) & 3] & 1 | cast", "an array in the kernel's memory has constant indices here"),
    (TP, "ctx: Renamed", "return ctx.new[cast(u8, ctx.pid) & 3]", "return ctx.new[cast(u8, ctx.pid) & 3] | cast", "an array in the kernel's memory has constant indices here"),
    (BTF, "t: task_struct", "return 1", "return 1 | 1", "1 is no result of this program: 0 to 0 are"),
    (BTF, "t: task_struct, *, result: int", "return 0", "def prog(t: task_struct, *, result: int) -> int: | result", "nothing has been returned yet: that is for fexit, fmod_ret and lsm"),
    ('@bpf.fentry("there_is_no_such")', "a: int", "return 0", "def prog(a: int) -> int: | def", "the kernel has no `there_is_no_such` for this program"),
    ('@bpf.iterate("task")', "meta: bpf_iter_meta", "return seq_printf(meta.seq, '%d')", "return seq_printf(meta.seq, '%d') | seq_printf", "the format takes 1 arguments, here are 0"),
    (KP, "t: task_struct", "return probe_read_user_str(o.a, 5)", "return probe_read_user_str(o.a, 5) | o.a", "text or a Buffer is wanted here, this is int"),
    (KP, "t: task_struct", "return read_user_number(be16, 5)", "return read_user_number(be16, 5) | be16", "u8, u16, u32, u64, i8, i16, i32 or i64 is wanted here"),
    (KP, "t: task_struct", "s = probe_read_user(Small, 5)\nreturn s.x", "return s.x | s", "this may be None: test it first"),
]  # fmt: skip


@pytest.mark.needs(features.KERNEL_BTF)
@pytest.mark.parametrize(
    ("decorator", "signature", "body", "marked", "reason"), RULES, ids=[each[2] + each[1] for each in RULES]
)
def test_refusals(
    write_module: MakeModule, decorator: str, signature: str, body: str, marked: str, reason: str
) -> None:
    """Each rule is refused where it is broken."""
    module = write_module(program(decorator, signature, body))
    assert_refused(module, marked, reason)
