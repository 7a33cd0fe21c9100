"""For each type of map a spec that makes sense, and an entry to put into it."""

import contextlib
import ctypes
import mmap
import os
import platform
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import attrs
from cgroup_caller import cgroup2_mount
from map_programs import PASS, load

from pybpfasm import btf
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import Map
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapCreateFlag, MapType

U32 = btf.Typedef("__u32", btf.Int("unsigned int", 4))
U64 = btf.Typedef("__u64", btf.Int("unsigned long long", 8))
PREFIX = btf.Struct("prefix", 8, (btf.Member("length", U32, 0), btf.Member("data", U32, 4)))
NOTHING, FD, COOKIE = Untyped(0), Untyped(4), Untyped(8)
INNER = MapSpec("inner", MapType.ARRAY, U32, U64, 2)
NO_PREALLOC = int(MapCreateFlag.NO_PREALLOC)

# Two pages of 4 KiB, or one of arm64's 8.
PAGES = 8192


def _spec(type_: MapType, key: btf.Type | Untyped, value: btf.Type | Untyped, entries: int, flags: int = 0) -> MapSpec:
    return MapSpec(f"t_{type_.name.lower()}"[:15], type_, key, value, entries, flags)


SPECS = {
    spec.type: spec
    for spec in (
        _spec(MapType.HASH, U32, U64, 4),
        _spec(MapType.ARRAY, U32, U64, 4),
        _spec(MapType.PROG_ARRAY, U32, FD, 4),
        _spec(MapType.PERF_EVENT_ARRAY, U32, FD, 0),
        _spec(MapType.PERCPU_HASH, U32, U64, 4),
        _spec(MapType.PERCPU_ARRAY, U32, U64, 4),
        _spec(MapType.STACK_TRACE, U32, Untyped(127 * 8), 4),
        _spec(MapType.CGROUP_ARRAY, U32, FD, 4),
        _spec(MapType.LRU_HASH, U32, U64, 4),
        _spec(MapType.LRU_PERCPU_HASH, U32, U64, 4),
        _spec(MapType.LPM_TRIE, PREFIX, U64, 4, NO_PREALLOC),
        attrs.evolve(_spec(MapType.ARRAY_OF_MAPS, U32, FD, 4), inner=INNER),
        attrs.evolve(_spec(MapType.HASH_OF_MAPS, U32, FD, 4), inner=INNER),
        _spec(MapType.DEVMAP, U32, Untyped(4), 4),
        _spec(MapType.SOCKMAP, U32, COOKIE, 4),
        _spec(MapType.CPUMAP, U32, Untyped(4), 4),
        _spec(MapType.XSKMAP, U32, FD, 4),
        _spec(MapType.SOCKHASH, U32, COOKIE, 4),
        _spec(MapType.CGROUP_STORAGE, U64, U64, 0),
        _spec(MapType.REUSEPORT_SOCKARRAY, U32, COOKIE, 4),
        _spec(MapType.PERCPU_CGROUP_STORAGE, U64, U64, 0),
        _spec(MapType.QUEUE, NOTHING, U64, 4),
        _spec(MapType.STACK, NOTHING, U64, 4),
        _spec(MapType.SK_STORAGE, btf.Int("int", 4, signed=True), U64, 0, NO_PREALLOC),
        _spec(MapType.DEVMAP_HASH, U32, Untyped(4), 4),
        _spec(MapType.STRUCT_OPS, U32, btf.Struct("tcp_congestion_ops", 0), 1),
        _spec(MapType.RINGBUF, NOTHING, NOTHING, PAGES),
        _spec(MapType.INODE_STORAGE, btf.Int("int", 4, signed=True), U64, 0, NO_PREALLOC),
        _spec(MapType.TASK_STORAGE, btf.Int("int", 4, signed=True), U64, 0, NO_PREALLOC),
        attrs.evolve(_spec(MapType.BLOOM_FILTER, NOTHING, U64, 4), extra=3),
        _spec(MapType.USER_RINGBUF, NOTHING, NOTHING, PAGES),
        _spec(MapType.CGRP_STORAGE, btf.Int("int", 4, signed=True), U64, 0, NO_PREALLOC),
        _spec(MapType.ARENA, NOTHING, NOTHING, 4, int(MapCreateFlag.MMAPABLE)),
        _spec(MapType.INSN_ARRAY, U32, Untyped(16), 4),
        _spec(MapType.RHASH, U32, U64, 4, NO_PREALLOC),
    )
}


@attrs.frozen
class Entry:
    """A key and a value to write, and what is read back; None where nothing can be read."""

    key: bytes
    value: bytes
    read: bytes | None


def u32(number: int) -> bytes:
    """A number in 4 bytes of the machine's order."""
    return number.to_bytes(4, "little")


def u64(number: int) -> bytes:
    """A number in 8 bytes of the machine's order."""
    return number.to_bytes(8, "little")


@contextlib.contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup of its own, gone afterwards."""
    directory = cgroup2_mount() / f"pybpfasm-maps-{uuid4().hex[:8]}"
    directory.mkdir()
    try:
        yield directory
    finally:
        directory.rmdir()


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """A descriptor of a file or directory."""
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        with other:
            yield one, other


@contextlib.contextmanager
def reuseport() -> Iterator[socket.socket]:
    """A bound UDP socket that shares its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", 0))
        yield made


@contextlib.contextmanager
def perf_event() -> Iterator[int]:
    """A software event of CPU 0 that counts nothing (PERF_COUNT_SW_BPF_OUTPUT)."""
    number = {"x86_64": 298, "aarch64": 241}[platform.machine()]
    software, bpf_output, size, sample_raw = 1, 10, 128, 1 << 10
    attributes = struct.pack("=IIQQQ", software, size, bpf_output, 1, sample_raw).ljust(size, b"\0")
    fd = ctypes.CDLL(None, use_errno=True).syscall(number, attributes, -1, 0, -1, 0)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def xdp_socket() -> Iterator[socket.socket]:
    """An AF_XDP socket, bound to the loopback of a namespace of its own."""
    family, level = 44, 283
    size = 4 * 4096
    with mmap.mmap(-1, size) as memory:
        place = ctypes.addressof(ctypes.c_char.from_buffer(memory))

        def inside() -> socket.socket:
            kernel.unshare(kernel.CLONE_NEWNET)
            made = socket.socket(family, socket.SOCK_RAW)
            made.setsockopt(level, 4, struct.pack("=QQIIII", place, size, 4096, 0, 0, 0))
            for ring in (2, 5, 6):  # received, to fill, completed
                made.setsockopt(level, ring, 4)
            address = struct.pack("=HHIII", family, 0, socket.if_nametoindex("lo"), 0, 0)
            assert ctypes.CDLL(None).bind(made.fileno(), address, len(address)) == 0
            return made

        with ThreadPoolExecutor(1) as thread, thread.submit(inside).result() as made:
            yield made


def cookie(of: socket.socket) -> bytes:
    """A socket's cookie, 8 bytes (SO_COOKIE)."""
    return of.getsockopt(socket.SOL_SOCKET, 57, 8)


@contextlib.contextmanager
def _plain(map_: Map) -> Iterator[Entry]:
    yield Entry(u32(1), u64(77), u64(77))


@contextlib.contextmanager
def _prefix(map_: Map) -> Iterator[Entry]:
    yield Entry(u32(8) + bytes((10, 0, 0, 0)), u64(77), u64(77))


@contextlib.contextmanager
def _keyless(map_: Map) -> Iterator[Entry]:
    yield Entry(b"", u64(77), u64(77))


@contextlib.contextmanager
def _program(map_: Map) -> Iterator[Entry]:
    with load(PASS) as program:
        yield Entry(u32(1), u32(program.fd), u32(program.info().id))


@contextlib.contextmanager
def _map(map_: Map) -> Iterator[Entry]:
    with Map.create(INNER) as inner:
        yield Entry(u32(1), u32(inner.fd), u32(inner.info().id))


@contextlib.contextmanager
def _cgroup_value(map_: Map) -> Iterator[Entry]:
    with cgroup() as directory, opened(directory) as fd:
        yield Entry(u32(1), u32(fd), None)


@contextlib.contextmanager
def _device(map_: Map) -> Iterator[Entry]:
    index = socket.if_nametoindex("lo")
    yield Entry(u32(1), u32(index), u32(index))


@contextlib.contextmanager
def _cpu(map_: Map) -> Iterator[Entry]:
    yield Entry(u32(0), u32(64), u32(64))


@contextlib.contextmanager
def _tcp(map_: Map) -> Iterator[Entry]:
    with connection() as (one, _):
        yield Entry(u32(1), u64(one.fileno()), cookie(one))


@contextlib.contextmanager
def _sharing(map_: Map) -> Iterator[Entry]:
    with reuseport() as made:
        yield Entry(u32(1), u64(made.fileno()), cookie(made))


@contextlib.contextmanager
def _of_socket(map_: Map) -> Iterator[Entry]:
    with socket.socket() as owner:
        yield Entry(u32(owner.fileno()), u64(77), u64(77))


@contextlib.contextmanager
def _of_task(map_: Map) -> Iterator[Entry]:
    fd = os.pidfd_open(os.getpid())
    try:
        yield Entry(u32(fd), u64(77), u64(77))
    finally:
        os.close(fd)


@contextlib.contextmanager
def _of_file(map_: Map) -> Iterator[Entry]:
    with tempfile.TemporaryFile() as file:
        yield Entry(u32(file.fileno()), u64(77), u64(77))


@contextlib.contextmanager
def _of_cgroup(map_: Map) -> Iterator[Entry]:
    with cgroup() as directory, opened(directory) as fd:
        yield Entry(u32(fd), u64(77), u64(77))


@contextlib.contextmanager
def _instruction(map_: Map) -> Iterator[Entry]:
    value = u32(5) + bytes(12)
    yield Entry(u32(1), value, value)


@contextlib.contextmanager
def _event(map_: Map) -> Iterator[Entry]:
    with perf_event() as fd:
        yield Entry(u32(0), u32(fd), None)


@contextlib.contextmanager
def _xdp_socket(map_: Map) -> Iterator[Entry]:
    with xdp_socket() as made:
        yield Entry(u32(0), u32(made.fileno()), None)


ENTRIES: dict[MapType, Callable[[Map], contextlib.AbstractContextManager[Entry]]] = {
    **dict.fromkeys((MapType.HASH, MapType.ARRAY, MapType.LRU_HASH, MapType.RHASH), _plain),
    MapType.LPM_TRIE: _prefix,
    MapType.QUEUE: _keyless,
    MapType.STACK: _keyless,
    MapType.PROG_ARRAY: _program,
    MapType.ARRAY_OF_MAPS: _map,
    MapType.HASH_OF_MAPS: _map,
    MapType.CGROUP_ARRAY: _cgroup_value,
    MapType.DEVMAP: _device,
    MapType.DEVMAP_HASH: _device,
    MapType.CPUMAP: _cpu,
    MapType.SOCKMAP: _tcp,
    MapType.SOCKHASH: _tcp,
    MapType.REUSEPORT_SOCKARRAY: _sharing,
    MapType.SK_STORAGE: _of_socket,
    MapType.TASK_STORAGE: _of_task,
    MapType.INODE_STORAGE: _of_file,
    MapType.CGRP_STORAGE: _of_cgroup,
    MapType.INSN_ARRAY: _instruction,
    MapType.PERF_EVENT_ARRAY: _event,
    MapType.XSKMAP: _xdp_socket,
}
