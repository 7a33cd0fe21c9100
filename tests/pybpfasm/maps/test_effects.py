"""What user space puts into a map is what programs find, and the other way round."""

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import attrs
import pytest
from cgroup_caller import cgroup2_mount
from map_programs import FRAME, PASS, count, load, lookup, lookup_inner, peek, push, run, tail_call
from sane_maps import INNER, SPECS, cgroup, opened, perf_event, u32, u64, xdp_socket

from pybpfasm import isa
from pybpfasm.errors import KernelError
from pybpfasm.isa import Jump, Label
from pybpfasm.kernel import features
from pybpfasm.kernel.links import attach_cgroup
from pybpfasm.kernel.maps import BloomFilter, Map, TypedMap, TypedQueue, possible_cpus
from pybpfasm.kernel.verifier import VerifierError
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramRunFlag, ProgramType


def needs(type_: MapType) -> pytest.MarkDecorator:
    """The mark of a test that needs a type of map."""
    return pytest.mark.needs(features.MAP_TYPES[type_])


@contextlib.contextmanager
def made(type_: MapType) -> Iterator[Map]:
    """A map of a type."""
    with Map.create(SPECS[type_]) as created:
        yield created


@pytest.mark.parametrize("type_", [MapType.HASH, MapType.ARRAY, MapType.LRU_HASH])
def test_programs_see_entries_and_change_them(type_: MapType) -> None:
    """A program counts in the entry that user space made."""
    with made(type_) as table:
        table.update(u32(2), u64(40))
        for _ in range(2):
            run(count("table", 2), {"table": table})
        assert table.lookup(u32(2)) == u64(42)
        assert run(lookup("table", 2), {"table": table}) == 42
        table.update(u32(2), u64(7))
        assert run(lookup("table", 2), {"table": table}) == 7


@pytest.mark.parametrize("type_", [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH])
def test_each_cpu_counts_for_itself(type_: MapType) -> None:
    """A program that runs on one CPU changes that CPU's value alone."""
    cpus = possible_cpus()
    with made(type_) as table:
        table.update_per_cpu(u32(2), [u64(10 * cpu) for cpu in range(cpus)])
        before = table.lookup_per_cpu(u32(2))
        os.sched_setaffinity(0, {0})
        try:
            run(count("table", 2), {"table": table})
        finally:
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        after = table.lookup_per_cpu(u32(2))
        assert before is not None
        assert after == [u64(1), *before[1:]]


def test_a_tail_call_goes_where_the_array_says() -> None:
    """A program jumps to the program of an index, and not when it has been taken out."""
    with made(MapType.PROG_ARRAY) as programs, load(PASS) as target:
        view: TypedMap[int, object] = TypedMap.of(programs)
        assert run(tail_call("programs", 2), {"programs": programs}) == 1
        with load(tail_call("programs", 2), {"programs": programs}) as caller:
            assert caller.run(FRAME).retval == 1
            view[2] = target
            assert caller.run(FRAME).retval == 7
            assert view[2] == target.info().id
            del view[2]
            assert caller.run(FRAME).retval == 1


@pytest.mark.parametrize("type_", [MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS])
def test_an_inner_map_is_exchanged(type_: MapType) -> None:
    """A program finds the inner map that user space has put in last."""
    with made(type_) as outer, Map.create(INNER) as one, Map.create(INNER) as two:
        view: TypedMap[int, object] = TypedMap.of(outer)
        one.update(u32(1), u64(11))
        two.update(u32(1), u64(22))
        with load(lookup_inner("outer", 3, 1), {"outer": outer}) as program:
            seen = [program.run(FRAME).retval]
            for inner in (one, two):
                view[3] = inner
                seen.append(program.run(FRAME).retval)
            del view[3]
            seen.append(program.run(FRAME).retval)
        assert seen == [0, 11, 22, 0]


@pytest.mark.parametrize(("type_", "order"), [(MapType.QUEUE, [1, 2, 3]), (MapType.STACK, [3, 2, 1])])
def test_what_programs_push(type_: MapType, order: list[int]) -> None:
    """A queue gives back the oldest value first, a stack the newest."""
    with made(type_) as values:
        view: TypedQueue[int] = TypedQueue(values)
        for number in (1, 2, 3):
            assert run(push("values", number), {"values": values}) == 0
        assert view.peek() == order[0]
        assert list(view.drain()) == order
        assert view.pop() is None


@needs(MapType.BLOOM_FILTER)
def test_a_bloom_filter_from_both_sides() -> None:
    """What either side adds, both find."""
    with made(MapType.BLOOM_FILTER) as values:
        view: BloomFilter[int] = BloomFilter(values)
        view.add(5)
        assert run(peek("values", 5), {"values": values}) == 1
        assert run(peek("values", 6), {"values": values}) == 0
        assert run(push("values", 6), {"values": values}) == 0
        assert 6 in view
        assert 7 not in view


def test_the_longest_prefix_wins() -> None:
    """A program's look-up finds the most specific of the prefixes that user space has put in."""
    with made(MapType.LPM_TRIE) as trie:
        routes: TypedMap[object, int] = TypedMap.of(trie, IPv4Network)
        routes[IPv4Network("10.0.0.0/8")] = 8
        routes[IPv4Network("10.1.0.0/16")] = 16
        assert [found_by_program(trie, address) for address in ("10.1.2.3", "10.9.9.9", "11.0.0.1")] == [16, 8, 0]
        assert routes[IPv4Address("10.1.2.3")] == 16
        del routes[IPv4Network("10.1.0.0/16")]
        assert found_by_program(trie, "10.1.2.3") == 8


def found_by_program(trie: Map, address: str) -> int:
    """What a program finds for an address."""
    (packed,) = struct.unpack("<i", IPv4Address(address).packed)
    code = (
        isa.store_imm(4, 10, -8, 32),
        isa.store_imm(4, 10, -4, packed),
        isa.mov(2, 10),
        isa.alu_imm(isa.Alu.ADD, 2, -8),
        isa.load_map(1, "trie"),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.load(4, 0, 0, 0),
        Label("out"),
        isa.exit_program(),
    )
    return run(code, {"trie": trie})


@pytest.mark.parametrize("type_", [MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP])
def test_redirection_depends_on_the_entry(type_: MapType, request: pytest.FixtureRequest) -> None:
    """bpf_redirect_map sends a packet off where there is an entry, and passes it on where there is none."""
    redirected, passed = 4, 2
    code = (
        isa.load_map(1, "targets"),
        isa.mov_imm(2, 0),
        isa.mov_imm(3, passed),
        isa.call(Helper.REDIRECT_MAP),
        isa.exit_program(),
    )
    with contextlib.ExitStack() as held, made(type_) as targets:
        values = {MapType.CPUMAP: 64, MapType.DEVMAP: 1, MapType.DEVMAP_HASH: 1}
        view: TypedMap[int, object] = TypedMap.of(targets, int, int)
        with load(code, {"targets": targets}, ProgramType.XDP) as program:
            assert program.run(FRAME).retval == passed
            view[0] = values[type_] if type_ in values else held.enter_context(xdp_socket())
            # The XDP socket is of another device than the run's, which has its say later.
            assert program.run(FRAME).retval == redirected
            del view[0]
            assert program.run(FRAME).retval == passed


def test_datagrams_go_to_the_socket_of_the_array() -> None:
    """A program chooses among sockets that share a port by their index in a map."""
    code = (
        isa.store_imm(4, 10, -8, 0),
        isa.mov(3, 10),
        isa.alu_imm(isa.Alu.ADD, 3, -8),
        isa.load_map(2, "sockets"),
        isa.mov_imm(4, 0),
        isa.call(Helper.SK_SELECT_REUSEPORT),
        isa.mov_imm(0, 1),
        isa.exit_program(),
    )
    with made(MapType.REUSEPORT_SOCKARRAY) as sockets, contextlib.ExitStack() as held:
        view: TypedMap[int, object] = TypedMap.of(sockets)
        receivers = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)]
        for receiver in receivers:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            receiver.bind(("127.0.0.1", 0) if receiver is receivers[0] else receivers[0].getsockname())
            receiver.settimeout(5)
        with load(code, {"sockets": sockets}, ProgramType.SK_REUSEPORT, AttachType.SK_REUSEPORT_SELECT) as program:
            attach_reuseport_ebpf = 52
            receivers[0].setsockopt(socket.SOL_SOCKET, attach_reuseport_ebpf, program.fd)
        sender = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for chosen in receivers:
            view[0] = chosen
            sender.sendto(b"hello", receivers[0].getsockname())
            assert chosen.recv(16) == b"hello"


def traced(code: tuple[object, ...], maps: dict[str, Map]) -> int:
    """What a raw tracepoint program returns that is run on CPU 0, in this process."""
    with load(code, maps, ProgramType.RAW_TRACEPOINT) as program:  # type: ignore[arg-type]  # instructions and labels
        return program.run(context=bytes(16), flags=ProgramRunFlag.RUN_ON_CPU, cpu=0).retval


def test_a_cgroup_array_tells_who_is_below() -> None:
    """A program asks whether this process is below a cgroup of the array."""
    code = (
        isa.load_map(1, "cgroups"),
        isa.mov_imm(2, 1),
        isa.call(Helper.CURRENT_TASK_UNDER_CGROUP),
        isa.exit_program(),
    )
    os.sched_setaffinity(0, {0})
    try:
        with made(MapType.CGROUP_ARRAY) as cgroups, cgroup() as empty:
            view: TypedMap[int, int] = TypedMap.of(cgroups)
            answers = [traced(code, {"cgroups": cgroups})]
            for directory in (cgroup2_mount(), empty):
                with opened(directory) as fd:
                    view[1] = fd
                answers.append(traced(code, {"cgroups": cgroups}))
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    # Nothing there (-EAGAIN), below the root, not in the new one.
    assert answers == [2**32 - 11, 1, 0]


def test_a_program_finds_the_perf_event() -> None:
    """Without an event at its CPU's index a program cannot send (-ENOENT); with one that nobody reads, -ENOSPC."""
    code = (
        isa.store_imm(8, 10, -8, 5),
        isa.load_map(2, "events"),
        isa.mov_imm(3, 0),
        isa.mov(4, 10),
        isa.alu_imm(isa.Alu.ADD, 4, -8),
        isa.mov_imm(5, 8),
        isa.call(Helper.PERF_EVENT_OUTPUT),
        isa.exit_program(),
    )
    with made(MapType.PERF_EVENT_ARRAY) as events, perf_event() as event:
        before = traced(code, {"events": events})
        events.update(u32(0), u32(event))
        after = traced(code, {"events": events})
        assert events.delete(u32(0))
    assert before == 2**32 - 2
    assert after in (0, 2**32 - 28)


def test_a_stack_can_be_looked_up() -> None:
    """A program stores its stack; user space reads the addresses by the id that it gave."""
    code = (
        isa.load_map(2, "stacks"),
        isa.mov_imm(3, 0),
        isa.call(Helper.GET_STACKID),
        isa.exit_program(),
    )
    with made(MapType.STACK_TRACE) as stacks:
        number = traced(code, {"stacks": stacks})
        assert number < 4
        assert list(stacks.keys()) == [u32(number)]
        addresses = struct.unpack("127Q", stacks.lookup(u32(number)) or b"")
        assert addresses[0] > 1 << 63  # of the kernel
        assert stacks.delete(u32(number))
        assert stacks.count() == 0


@pytest.mark.parametrize("type_", [MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE])
def test_storage_of_a_program_at_a_cgroup(type_: MapType) -> None:
    """Attaching makes an entry for the cgroup, which user space can then write."""
    code = (
        isa.load_map(1, "storage"),
        isa.mov_imm(2, 0),
        isa.call(Helper.GET_LOCAL_STORAGE),
        isa.mov_imm(0, 1),
        isa.exit_program(),
    )
    with made(type_) as storage, cgroup() as directory, opened(directory) as fd:
        assert list(storage.keys()) == []
        kind, hook = ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS
        with load(code, {"storage": storage}, kind, hook) as program, attach_cgroup(program, fd):
            key = u64(os.stat(directory).st_ino)
            assert list(storage.keys()) == [key]
            if type_ == MapType.CGROUP_STORAGE:
                storage.update(key, u64(5))
                assert list(storage.items()) == [(key, u64(5))]
            else:
                storage.update_per_cpu(key, [u64(5)] * possible_cpus())
                assert list(storage.items_per_cpu()) == [(key, [u64(5)] * possible_cpus())]


def test_storage_ends_with_its_socket() -> None:
    """A socket's value is another socket's not, and is gone when the number belongs to a new one."""
    with made(MapType.SK_STORAGE) as storage:
        view: TypedMap[object, int] = TypedMap.of(storage)
        with socket.socket() as one, socket.socket() as two:
            view[one] = 1
            view[two] = 2
            assert (view[one], view[two]) == (1, 2)
            number = one.fileno()
        with socket.socket() as again:
            assert again.fileno() == number
            assert again not in view


def test_an_arrays_program_side_is_read_only() -> None:
    """A program that would write constants is rejected."""
    with Map.create(attrs.evolve(SPECS[MapType.ARRAY], flags=0x80)) as constants:
        constants.update(u32(1), u64(3))
        assert run(lookup("constants", 1), {"constants": constants}) == 3
        with pytest.raises(VerifierError, match="write into map forbidden"):
            run(count("constants", 1), {"constants": constants})


def test_a_pin_of_a_program_is_no_map(bpffs: Path) -> None:
    """What is pinned there is of another kind."""
    with load(PASS) as program:
        program.pin(bpffs / "program")
    with pytest.raises(
        KernelError,
        match=rf"^cannot open the pinned map {bpffs}/program: it is another kind of object, a program \(EINVAL\)$",
    ):
        Map.open(bpffs / "program")


def test_bpftool_prints_values_by_their_types() -> None:
    """The types that a map was made with are what bpftool shows its entries by."""
    tool = shutil.which("bpftool")
    if tool is None:
        pytest.skip("bpftool is not installed")
    with made(MapType.HASH) as table, Map.create(attrs.evolve(SPECS[MapType.LPM_TRIE], max_entries=2)) as trie:
        table.update(u32(5), u64(77))
        trie.update(u32(8) + bytes((10, 0, 0, 0)), u64(78))
        assert dumped(tool, table) == [{"key": 5, "value": 77}]
        assert dumped(tool, trie) == [{"key": {"length": 8, "data": 10}, "value": 78}]


def dumped(tool: str, map_: Map) -> list[object]:
    """What bpftool shows of a map's entries."""
    command = [tool, "-j", "map", "dump", "id", str(map_.info().id)]
    entries = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [entry["formatted"] for entry in entries]
