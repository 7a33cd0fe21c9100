"""Objects for the collection tests: C compiled by clang where it is installed, and specs made by hand."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pybpfasm import isa
from pybpfasm.interop import read_elf
from pybpfasm.isa import Instruction, Label
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType

CLANGS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("clang-14", "clang-19")
]

HEAD = """
typedef unsigned int u32; typedef unsigned long long u64; typedef unsigned char u8;
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) type *name
#define __array(name, value) typeof(value) *name[]
static void *(*bpf_map_lookup_elem)(void *, const void *) = (void *)1;
static long (*bpf_tail_call)(void *, void *, u32) = (void *)12;
static long (*bpf_ringbuf_output)(void *, void *, u64, u64) = (void *)130;
char licence[] SEC("license") = "GPL";
"""

OBJECT = (
    HEAD
    + """
const volatile u32 limit = 5;
const volatile struct { u8 on; u64 step; } config = { .step = 7 };
u64 total = 3;
u64 zeros;
struct { __uint(type, 1); __uint(max_entries, 8); __type(key, u32); __type(value, u64); } counts SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } events SEC(".maps");
struct inner { __uint(type, 2); __uint(max_entries, 1); __type(key, u32); __type(value, u64); };
struct inner first SEC(".maps"), second SEC(".maps");
struct { __uint(type, 12); __uint(max_entries, 4); __type(key, u32); __array(values, struct inner); } outer SEC(".maps")
    = { .values = { [0] = &first, [2] = &second } };
int called(void *ctx);
struct { __uint(type, 3); __uint(max_entries, 4); __uint(key_size, 4); __array(values, int (void *)); } jumps
    SEC(".maps") = { .values = { [1] = (void *)&called } };

SEC("tc") int called(void *ctx) { zeros++; return limit; }

SEC("tc") int caller(void *ctx)
{
    u32 key = 2, zero = 0;
    void *inner = bpf_map_lookup_elem(&outer, &key);
    if (inner) {
        u64 *value = bpf_map_lookup_elem(inner, &zero);
        if (value)
            *value += config.step;
    }
    total += limit;
    bpf_ringbuf_output(&events, &total, sizeof(total), 0);
    if (config.on)
        return 99;
    bpf_tail_call(ctx, &jumps, 1);
    return 98;
}

SEC("?tc") int optional(void *ctx) { return 4; }
"""
)


@cache
def compiled(clang: str, source: str = OBJECT) -> CollectionSpec:
    """What `read_elf` gives for the object that clang makes of the source."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "object.c").write_text(source)
        command = [clang, "-O2", "-g", "-target", "bpf", "-c", "object.c", "-o", "object.o"]
        subprocess.run(command, cwd=place, check=True)
        return read_elf((place / "object.o").read_bytes())


def array(name: str = "values", *, pinned: bool = False, entries: int = 1) -> MapSpec:
    """An array of 64-bit numbers."""
    return MapSpec(name, MapType.ARRAY, Untyped(4), Untyped(8), entries, pinned=pinned)


def program(name: str, *code: Instruction | Label, kind: ProgramType = ProgramType.SCHED_CLS) -> ProgramSpec:
    """A program of these instructions."""
    return ProgramSpec(name, kind, AttachType(0), "__sk_buff", tuple(isa.resolve_labels(code)), {})


def counting(name: str = "count", map_: str = "values") -> ProgramSpec:
    """A program that adds one to the first entry of an array and returns 1."""
    return program(
        name,
        isa.load_map_value(1, map_),
        isa.mov_imm(2, 1),
        isa.atomic(isa.Atomic.ADD, 8, 1, 0, 2),
        isa.mov_imm(0, 1),
        isa.exit_program(),
    )


def broken(name: str = "broken") -> ProgramSpec:
    """A program that the verifier rejects."""
    return program(name, isa.exit_program())


def tail_caller(array_name: str) -> ProgramSpec:
    """A program that calls entry 0 of an array of programs, and returns 7 if there is none."""
    return program(
        "caller",
        isa.load_map(2, array_name),
        isa.mov_imm(3, 0),
        isa.call(Helper.TAIL_CALL),
        isa.mov_imm(0, 7),
        isa.exit_program(),
    )


def program_array(*entries: tuple[int, str], pinned: bool = False) -> MapSpec:
    """An array of programs with these entries."""
    return MapSpec("jumps", MapType.PROG_ARRAY, Untyped(4), Untyped(4), 4, pinned=pinned, entries=entries)


def collection(*parts: ProgramSpec | MapSpec) -> CollectionSpec:
    """A collection of these."""
    return CollectionSpec(
        {each.name: each for each in parts if isinstance(each, ProgramSpec)},
        {each.name: each for each in parts if isinstance(each, MapSpec)},
    )
