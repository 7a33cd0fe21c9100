"""What we print in the kernel's syntax is what the verifier's log and bpftool print, and their text is read back."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from programs import connect, getsockopt, redirect, sockops
from pybpfasm import isa
from pybpfasm.compiler import compile_program
from pybpfasm.isa import Alu, Atomic, Instruction, Jump, Label
from pybpfasm.kernel import named_target
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import Map
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Command, Helper, MapType, ProgramType

CONNECT = ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT
SOCKET_FILTER = ProgramType.SOCKET_FILTER, AttachType(0)

Items = list[Instruction | Label]


@contextmanager
def loaded(instructions: list[Instruction], kind: tuple[ProgramType, AttachType]) -> Iterator[tuple[int, str]]:
    """A loaded program's descriptor, and what the verifier said of it at level 2."""
    code, license_, log = kernel.buffer(isa.encode(instructions)), kernel.buffer(b"GPL\0"), kernel.buffer(1 << 22)
    attributes = kernel.new(
        "prog_load",
        prog_type=kind[0],
        expected_attach_type=kind[1],
        insns=kernel.address(code),
        insn_cnt=len(code) // 8,
        license=kernel.address(license_),
        log_level=2,
        log_size=len(log),
        log_buf=kernel.address(log),
    )
    try:
        descriptor = kernel.bpf(Command.PROG_LOAD, attributes, "load a program of this test")
    except OSError as error:
        pytest.fail(f"{error}\n{_text(kernel.contents(log))}")
    try:
        yield descriptor, _text(kernel.contents(log))
    finally:
        os.close(descriptor)


def _text(log: bytes) -> str:
    return log.split(b"\0", 1)[0].decode()


def listed(instructions: list[Instruction] | tuple[Instruction, ...]) -> dict[int, str]:
    """Our listing, by slot."""
    return {int(number): text for number, text in (row.split(": ", 1) for row in isa.listing(instructions))}


# --- the verifier's log -----------------------------------------------------------------------------------------------

PRINTED = re.compile(r"^(\d+): (\([0-9a-f]{2}\) .*?)(?:\s+;.*)?$", re.M)
# The log has the address of a map.
ADDRESS = re.compile(r"^(\(18\) r\d+ =) (?:0x[0-9a-f]+|map\[.*\])$")


def assert_same_text(instructions: list[Instruction], log: str, *, all_reached: bool) -> None:
    """Each instruction that the log shows has the text of our listing."""
    ours = listed(instructions)
    printed = {int(slot): text for slot, text in PRINTED.findall(log)}
    assert printed
    for slot, text in printed.items():
        if "map[" in ours[slot]:
            assert ADDRESS.sub(r"\1", text) == ADDRESS.sub(r"\1", ours[slot])
        else:
            assert text == ours[slot], f"slot {slot}"
    if all_reached:
        assert set(printed) == set(ours)


@pytest.mark.parametrize("module", [connect, getsockopt, redirect, sockops], ids=lambda module: module.__name__)
def test_listing_is_what_the_verifier_prints(module: ModuleType) -> None:
    """The programs of the mesh are listed as the verifier's log lists them."""
    program: Any = next(each for each in vars(module).values() if type(each).__name__ == "Program")
    spec: ProgramSpec = compile_program(program, target=named_target("6.1"))
    maps = {name: Map.create(each) for name, each in spec.maps.items()}
    try:
        with loaded(with_maps(list(spec.instructions), maps), (spec.type, spec.attach_type)) as (_, log):
            assert_same_text(list(spec.instructions), log, all_reached=False)
    finally:
        for each in maps.values():
            each.close()


def with_maps(instructions: list[Instruction], maps: Mapping[str, Map]) -> list[Instruction]:
    """The instructions with their maps' descriptors."""
    return [
        each._replace(imm=maps[each.symbol].fd, symbol=None) if each.symbol is not None else each
        for each in instructions
    ]


RANDOM = isa.call(Helper.GET_PRANDOM_U32)
RETURN_1: Items = [isa.mov_imm(0, 1), isa.exit_program()]


def first_instructions() -> Items:
    """What every kernel since 5.1 takes: all operations, jumps, loads and stores, with register and immediate."""
    items: Items = [isa.mov(6, 1), isa.load(4, 7, 6, 28), isa.mov_imm(2, -1)]
    for code in set(Alu) - {Alu.NEG, Alu.END, Alu.MOV}:
        shift = code in (Alu.LSH, Alu.RSH, Alu.ARSH)
        items += [isa.mov(3, 7), isa.alu(code, 3, 7), isa.mov(3, 7), isa.alu(code, 3, 7, bits=32)]
        items += [isa.alu_imm(code, 3, 5 if shift else -7), isa.alu_imm(code, 3, 5, bits=32)]
    items += [isa.neg(3), isa.neg(3, bits=32), isa.mov(3, 7, bits=32), isa.mov_imm(4, -5, bits=32)]
    items += [swap(3, bits) for swap in (isa.to_big_endian, isa.to_little_endian) for bits in (16, 32, 64)]
    items += [isa.load_imm64(5, 0xFEDCBA9876543210), isa.store_imm(8, 10, -8, -2)]
    for size in (1, 2, 4, 8):
        items += [isa.store(size, 10, -8, 7), isa.store_imm(size, 10, -8, 3), isa.load(size, 3, 10, -8)]
    for at, jump_code in enumerate(sorted(set(Jump) - {Jump.JA, Jump.CALL, Jump.EXIT, Jump.JCOND})):
        for bits in (32, 64):
            items += [RANDOM, isa.jump_if_imm(jump_code, 0, -3, f"end{at}", bits=bits)]
            items += [RANDOM, isa.jump_if(jump_code, 0, 7, f"end{at}", bits=bits)]
        items.append(Label(f"end{at}"))
    items += [isa.mov_imm(3, 0), *(isa.atomic(Atomic.ADD, size, 10, -8, 3) for size in (4, 8))]
    return [*items, isa.jump("out"), Label("out"), *RETURN_1]


def atomics() -> Items:
    """Linux 5.12."""
    items: Items = [isa.mov_imm(0, 1), isa.mov_imm(2, 1), isa.store_imm(8, 10, -8, 0)]
    for size in (4, 8):
        for code in (Atomic.ADD, Atomic.OR, Atomic.AND, Atomic.XOR):
            items += [isa.atomic(code, size, 10, -8, 2), isa.atomic(code, size, 10, -8, 2, fetch=True)]
        items += [isa.exchange(size, 10, -8, 2), isa.compare_exchange(size, 10, -8, 2)]
    return [*items, *RETURN_1]


def fourth_set() -> Items:
    """Linux 6.6: signed division, moves and loads that extend the sign, byte swaps, the long jump."""
    items: Items = [RANDOM, isa.mov(3, 0), isa.store_imm(8, 10, -8, -2)]
    for bits in (32, 64):
        for code in (Alu.DIV, Alu.MOD):
            items += [isa.alu_imm(code, 3, -3, bits=bits, signed=True), isa.alu(code, 3, 0, bits=bits, signed=True)]
        items += [isa.mov_signed(3, 0, width, bits=bits) for width in (8, 16, 32) if width < bits]
    items += [isa.byte_swap(3, bits) for bits in (16, 32, 64)]
    items += [isa.load_signed(size, 3, 10, -8) for size in (1, 2, 4)]
    return [*items, isa.jump_long("out"), Label("out"), *RETURN_1]


def ordered_accesses() -> Items:
    """Linux 6.14."""
    items: Items = [isa.mov_imm(2, 1), isa.store_imm(8, 10, -8, 0)]
    for size in (1, 2, 4, 8):
        items += [isa.store_release(size, 10, -8, 2), isa.load_acquire(size, 3, 10, -8)]
    return [*items, *RETURN_1]


def limited_loop() -> Items:
    """Linux 6.9."""
    loop: Items = [
        isa.mov_imm(6, 0),
        Label("again"),
        isa.may_goto("out"),
        isa.alu_imm(Alu.ADD, 6, 1),
        isa.jump("again"),
    ]
    return [*loop, Label("out"), *RETURN_1]


def packets() -> Items:
    """A socket filter's loads of its packet."""
    items: Items = [isa.mov(6, 1), isa.mov_imm(7, 4)]
    for size in (1, 2, 4):
        items += [isa.load_packet(size, 12), isa.load_packet_indirect(size, 7, 8)]
    return [*items, *RETURN_1]


def functions() -> Items:
    """A function that is called twice."""
    main: Items = [isa.mov_imm(1, 5), isa.call_function("add"), isa.mov(1, 0), isa.call_function("add"), *RETURN_1]
    add: Items = [isa.mov(0, 1), isa.alu_imm(Alu.ADD, 0, 1), isa.exit_program()]
    return list(isa.link_functions([("main", main), ("add", add)]))


PROGRAMS = [
    (first_instructions, (5, 10), CONNECT),
    (atomics, (5, 12), CONNECT),
    (packets, (5, 10), SOCKET_FILTER),
    (functions, (5, 10), CONNECT),
    (fourth_set, (6, 6), CONNECT),
    (limited_loop, (6, 9), CONNECT),
    (ordered_accesses, (6, 14), CONNECT),
]


def kernel_version() -> tuple[int, int]:
    """Of the running kernel."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])  # type: ignore[index]  # a release begins with two numbers


@pytest.mark.parametrize(("program", "since", "kind"), PROGRAMS, ids=[each[0].__name__ for each in PROGRAMS])
def test_families_are_what_the_verifier_prints(program: Any, since: tuple[int, int], kind: Any) -> None:
    """All families, in programs that the verifier walks wholly, are listed as in its log, and the log is read back."""
    if kernel_version() < since:
        pytest.skip(f"needs Linux {since[0]}.{since[1]}")
    instructions = isa.resolve_labels(program())
    with loaded(instructions, kind) as (_, log):
        assert_same_text(instructions, log, all_reached=True)
        assert isa.parse(log) == instructions


# --- bpftool ----------------------------------------------------------------------------------------------------------


def test_bpftool_lists_the_same() -> None:
    """`bpftool prog dump xlated` of a loaded program is our listing, with the map's id, and is read back."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not on PATH")
    items = [each for each in first_instructions() if not _is_rewritten(each)]
    attributes = kernel.new("map_create", map_type=MapType.ARRAY, key_size=4, value_size=8, max_entries=1)
    map_ = kernel.bpf(Command.MAP_CREATE, attributes, "create a map of this test")
    try:
        head = [isa.mov(6, 1), RANDOM, isa.mov(7, 0), isa.load_map(9, "x")._replace(imm=map_, symbol=None)]
        instructions = isa.resolve_labels([*head, *items[2:]])
        with loaded(instructions, CONNECT) as (descriptor, _):
            command = ["bpftool", "prog", "dump", "xlated", "id", kernel_id(descriptor)]
            dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with_id = instructions[3]._replace(imm=int(kernel_id(map_)))
    finally:
        os.close(map_)
    expected = [*instructions[:3], with_id, *instructions[4:]]
    printed = {int(slot): text for slot, text in re.findall(r"^\s*(\d+): (.*)$", dump, re.M)}
    ours = listed(expected)
    assert set(printed) == set(ours)
    for slot, text in ours.items():
        if not text.startswith("(85)"):  # the kernel has put the helper's address there
            assert printed[slot] == text
    read = isa.parse(dump)
    assert [each for each in read if each.opcode != 0x85] == [each for each in expected if each.opcode != 0x85]


def _is_rewritten(item: Instruction | Label) -> bool:
    """What the kernel changes when it loads: division, the context's loads, a jump to the next instruction."""
    if isinstance(item, Label):
        return False
    return item.opcode & 0xF7 in (0x34, 0x37, 0x94, 0x97) or item in (isa.load(4, 7, 6, 28), isa.jump("out"))


def kernel_id(descriptor: int) -> str:
    """The number by which bpftool knows a map or a program."""
    found = re.search(r"(?:prog|map)_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{descriptor}").read_text())
    assert found is not None
    return found[1]
