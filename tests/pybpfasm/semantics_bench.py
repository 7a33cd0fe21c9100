"""Runs a body of statements in the kernel: on connect4 in a cgroup of the test's own, when a process there connects.

It reads its input from one map and leaves its results in another.
"""

import os
from pathlib import Path
from typing import Any

from cgroup_caller import Caller
from written_modules import MakeModule

from pybpfasm.compiler import compile_program
from pybpfasm.kernel.links import Link, attach_cgroup
from pybpfasm.kernel.maps import Map, TypedMap
from pybpfasm.kernel.programs import Program
from pybpfasm.lang.maps import Array, HashMap
from pybpfasm.lang.types import Struct, be16, be32, htonl, htons, i32, i64, u8, u16, u32, u64

DECLARATIONS = """
from typing import Any
from pybpfasm.lang.helpers import helper
from pybpfasm.uapi import Helper

class In(Struct):
    a: u64
    b: u64
    s: i64
    t: i64
    c: u32
    n: i32
    d: u16
    e: u8
    port: be16
    other_port: be16
    ip: be32
    other_ip: be32

class Inner(Struct):
    x: u8
    y: u32

class Out(Struct):
    a: u64
    b: u64
    s: i64
    c: u32
    n: i32
    d: u16
    e: u8
    port: be16
    ip: be32
    first: Inner
    second: Inner

inputs = Array[u32, In](max_entries=1)
outputs = Array[u32, Out](max_entries=1)
scratch = HashMap[u64, Out](max_entries=16)

@bpf.inline
def choose(x: int, y: int, z: int) -> int:
    if x < y:
        return z
    if z == 7:
        return x
    for i in unroll((3, 5)):
        if y & i == i:
            return x + y + i
    return y

class Ports:
    WEB = htons(80)

@bpf.inline
def narrow(x: u8, y: u16) -> int:
    return x + y

@bpf.inline
def narrow_result(x: int) -> u8:
    if x == 5:
        return 1
    return x

@bpf.inline
def signed_choice(x: i64, y: i64) -> i64:
    if x < y:
        return -5
    if y < 0:
        return y
    return 9

@bpf.inline
def between(x: int, low: int, high: int) -> bool:
    if x < low:
        return False
    return x <= high

@bpf.inline
def clobber() -> None:
    h.get_current_pid_tgid()
    scratch.delete(77)
"""

HEAD = """
@bpf.connect4
def prog(ctx: SockAddr) -> int:
    v = inputs.lookup(0)
    if v is None:
        return 0
    o = outputs.lookup(0)
    if o is None:
        return 0
"""


class In(Struct):
    """The program's input, as DECLARATIONS has it."""

    a: u64
    b: u64
    s: i64
    t: i64
    c: u32
    n: i32
    d: u16
    e: u8
    port: be16
    other_port: be16
    ip: be32
    other_ip: be32


class Inner(Struct):
    """A struct in a struct, with padding."""

    x: u8
    y: u32


class Out(Struct):
    """The program's results, as DECLARATIONS has them."""

    a: u64 = 0
    b: u64 = 0
    s: i64 = 0
    c: u32 = 0
    n: i32 = 0
    d: u16 = 0
    e: u8 = 0
    port: be16 = htons(0)
    ip: be32 = htonl(0)
    first: Inner = Inner(x=0, y=0)
    second: Inner = Inner(x=0, y=0)


def attached(program: Program, cgroup: Path) -> Link:
    """Attach a program to a cgroup."""
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return attach_cgroup(program, folder)
    finally:
        os.close(folder)


class Bench:
    """Maps that programs share, and the way to run one."""

    def __init__(self, caller: Caller, write_module: MakeModule) -> None:
        self._caller = caller
        self._write_module = write_module
        self.answers: list[tuple[str, int]] = []
        declared: list[tuple[str, Any]] = [
            ("inputs", Array[u32, In](max_entries=1)),
            ("outputs", Array[u32, Out](max_entries=1)),
            ("scratch", HashMap[u64, Out](max_entries=16)),
        ]
        self.maps = {name: Map.create(declaration.spec(name)) for name, declaration in declared}
        self.inputs: TypedMap[int, In] = TypedMap(declared[0][1], self.maps["inputs"])
        self.outputs: TypedMap[int, Out] = TypedMap(declared[1][1], self.maps["outputs"])

    def close(self) -> None:
        """Close the maps."""
        for each in self.maps.values():
            each.close()

    def run(self, body: str, inputs: list[In], before: str = "") -> list[Out]:
        """The results of a program with this body, for each input."""
        indented = "".join(f"    {row}\n" for row in body.strip("\n").splitlines())
        module = self._write_module(DECLARATIONS + before + HEAD + indented + "    return 1\n")
        spec = compile_program(module.prog)
        results: list[Out] = []
        with Program.load(spec, self.maps) as program, attached(program, self._caller.cgroup):
            for each in inputs:
                self.inputs.set(0, each)
                self.outputs.set(0, Out())
                self.answers.append(self._caller.connect())
                found = self.outputs.get(0)
                assert found is not None
                results.append(found)
        return results
