"""Maps in maps, and values that belong to tasks, inodes and cgroups: in the kernel, and what is refused."""

# ruff: noqa: E501 - a case a line

import os
import struct
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tracing_mount import LSM_ACTIVE
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.attaching import Targets, way_to_attach
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec

DECLARATIONS = """
class Stat(Struct):
    n: u64

class task_struct(KernelStruct):
    pid: i32
    tgid: i32
    real_parent: "task_struct"

class inode(KernelStruct):
    i_mode: u16

class file(KernelStruct):
    f_inode: inode

outer = HashOfMaps[u32, HashMap[u32, Stat]](inner=HashMap[u32, Stat](max_entries=4), max_entries=4)
rows = ArrayOfMaps[u32, Array[u32, Stat]](inner=Array[u32, Stat](max_entries=4), max_entries=4)
tasks = TaskStorage[i32, Stat]()
inodes = InodeStorage[i32, Stat]()
cgroups = CgroupStorage[i32, Stat]()
out = Array[u32, Stat](max_entries=1)
PID = 0
"""


def module_of(write_module: MakeModule, head: str, body: str) -> Any:
    """A module with such a program."""
    return write_module(DECLARATIONS + head + textwrap.indent(body.strip("\n"), "    ") + "\n    return 1\n")


XDP = "@bpf.xdp\ndef prog(ctx: XdpMd) -> int:\n"
RENAME = '@bpf.tp_btf("task_rename")\ndef prog(t: task_struct) -> int:\n'

# Statements | the number at key 3 of the inner map afterwards, where it was 10.
INNER = [
    ("m = outer.lookup(2)\nif m is None:\n    return 2\ns = m.lookup(3)\nif s is None:\n    return 3\ns.n += 1", 11),
    ("m = outer.lookup(2)\nif m is not None:\n    m.update(3, Stat(n=7))", 7),
    ("m = outer.lookup(1)\nif m is not None:\n    m.update(3, Stat(n=7))", 10),
    ("m = outer.lookup(2)\nif m is not None and m.delete(4) < 0:\n    m.update(3, Stat(n=8))", 8),
    ("for i in range(4):\n    m = outer.lookup(i)\n    if m is None:\n        continue\n    s = m.lookup(3)\n    if s is not None:\n        s.n += 100", 110),
]  # fmt: skip


@pytest.mark.parametrize(("body", "number"), INNER, ids=[each[0] for each in INNER])
def test_maps_in_maps(write_module: MakeModule, body: str, number: int) -> None:
    """A map that was found by key is used as one that has a name."""
    module = module_of(write_module, XDP, body)
    spec = compile_program(module.prog)
    outer = spec.maps["outer"]
    assert outer.inner is not None
    key = struct.pack("<I", 3)
    with Map.create(outer) as maps, Map.create(outer.inner) as inner, Program.load(spec, {"outer": maps}) as program:
        maps.update(struct.pack("<I", 2), struct.pack("<I", inner.fd))
        inner.update(key, struct.pack("<Q", 10))
        assert program.run(bytes(64)).retval == 1
        assert inner.lookup(key) == struct.pack("<Q", number)


def test_arrays_of_maps(write_module: MakeModule) -> None:
    """The same by index."""
    body = "m = rows.lookup(1)\nif m is None:\n    return 2\ns = m.lookup(3)\nif s is not None:\n    s.n = 5"
    spec = compile_program(module_of(write_module, XDP, body).prog)
    rows = spec.maps["rows"]
    assert rows.inner is not None
    with Map.create(rows) as maps, Map.create(rows.inner) as inner, Program.load(spec, {"rows": maps}) as program:
        assert program.run(bytes(64)).retval == 2
        maps.update(struct.pack("<I", 1), struct.pack("<I", inner.fd))
        assert program.run(bytes(64)).retval == 1
        assert inner.lookup(struct.pack("<I", 3)) == struct.pack("<Q", 5)


def counted(spec: ProgramSpec, trigger: Any) -> int:
    """What the program has counted in `out` when something has made it run twice."""
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        with Program.load(spec, maps) as program, way_to_attach(spec, Targets())(program):
            trigger()
            trigger()
        return int.from_bytes(bytes(maps["out"].lookup(bytes(4)) or b""), "little")
    finally:
        for each in maps.values():
            each.close()


COUNT = """
if t.tgid != PID:
    return 0
s = tasks.get_or_create(t)
if s is None:
    return 0
s.n += 3
o = out.lookup(0)
if o is not None:
    o.n = s.n
return 0
"""


def rename() -> None:
    """Write this thread's own name to it: a task_rename."""
    Path("/proc/thread-self/comm").write_bytes(Path("/proc/thread-self/comm").read_bytes().removesuffix(b"\n"))


@pytest.mark.needs(features.LOOP, features.ITERATORS)
def test_task_storage(write_module: MakeModule) -> None:
    """A task's value is there from one run to the next."""
    module = write_module(DECLARATIONS + RENAME + textwrap.indent(COUNT.strip("\n"), "    ") + "\n")
    assert counted(compile_program(module.prog, PID=os.getpid()), rename) == 6


@pytest.mark.needs(features.LSM, LSM_ACTIVE)
def test_inode_storage(write_module: MakeModule, tmp_path: Path) -> None:
    """An inode's value is there from one opening to the next."""
    head = '@bpf.lsm("file_open")\ndef prog(f: file) -> int:\n    if h.get_current_pid_tgid() >> 32 != PID:\n        return 0\n'
    body = "s = inodes.get_or_create(f.f_inode)\nif s is None:\n    return 0\ns.n += 1\no = out.lookup(0)\nif o is not None and s.n > o.n:\n    o.n = s.n\nreturn 0\n"
    module = write_module(DECLARATIONS + head + textwrap.indent(body, "    "))
    place = tmp_path / "file"
    place.write_text("text")
    spec = compile_program(module.prog, PID=os.getpid())
    assert counted(spec, place.read_text) >= 2


# Head | statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    (XDP, "m = outer.lookup(2)\ns = m.lookup(3)", "s = m.lookup(3) | m.lookup", "this may be None: test it first"),
    (XDP, "m = outer.lookup(2)\nif m is None:\n    return 1\ns = m.lookup(3)\ns.n = 1", "s.n = 1 | s", "this may be None: test it first"),
    (XDP, "m = outer.lookup(2)\nif m is None:\n    return 1\nm.push(3)", "m.push(3) | m.push", "HashMap has no attribute `push`"),
    (XDP, "m = outer.lookup(2)\nif m is None:\n    return 1\nm.for_each(3)", "m.for_each(3) | m.for_each", "`for_each` is for maps that are called by their own names"),
    (XDP, "outer.update(1, 2)", "outer.update(1, 2) | outer.update", "HashOfMaps has no attribute `update`"),
    (RENAME, "s = tasks.get(5)", "s = tasks.get(5) | 5", "a struct task_struct of the kernel is wanted, this is int"),
    (RENAME, "s = inodes.get(t)", "s = inodes.get(t) | t)", "a struct inode of the kernel is wanted, this is task_struct"),
    (RENAME, "s = cgroups.get(t)", "s = cgroups.get(t) | t)", "a struct cgroup of the kernel is wanted"),
    (RENAME, "s = tasks.get(kernel_pointer(task_struct, 5))", "s = tasks.get(kernel_pointer(task_struct, 5)) | kernel", "the verifier knows nothing of this address"),
]  # fmt: skip


@pytest.mark.needs(features.KERNEL_BTF)
@pytest.mark.parametrize(("head", "body", "marked", "reason"), RULES, ids=[each[1] for each in RULES])
def test_refusals(write_module: MakeModule, head: str, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken."""
    module = module_of(write_module, head, body)
    assert_refused(module, marked, reason)
