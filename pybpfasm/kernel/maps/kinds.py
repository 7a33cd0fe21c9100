"""What each type of map is: since when, what its keys and values mean to user space, what it cannot do.

Sources: kernel/bpf/*map*.c, net/core/sock_map.c, net/xdp/xskmap.c; what a type lacks was also tried on Linux 5.10 to
7.2. Where the kernel has more to say than this table, the kernel is asked: nothing is refused here that it might take.
"""

from enum import Enum

from pybpfasm.records import evolve, frozen
from pybpfasm.uapi import MapCreateFlag, MapType

_NO_FLAGS = MapCreateFlag(0)


class Operation(Enum):
    """What user space does with entries. The value completes "has no …"."""

    LOOKUP = "look-up from user space"
    UPDATE = "update from user space"
    DELETE = "delete"
    POP = "look-up-and-delete"
    WALK = "walk through its keys"


@frozen
class Shape:
    """What the kernel asks of a map at its creation; None where it asks for nothing.

    Sizes are in bytes. `entries` is "some", "none", or "pages" for a power of 2 that is a multiple of the page size.
    """

    key_sizes: tuple[int, ...] | None = None
    value_sizes: tuple[int, ...] | None = None
    entries: str = "some"
    flags: MapCreateFlag = _NO_FLAGS


@frozen
class Kind:
    """A type of map.

    `since` is the Linux version it came in. `key` and `value` say in words what user space hands over. With
    `key_is_fd` or `value_is_fd` that is a file descriptor; what is read back for such a value is an id or a cookie,
    see `value`. `takes_btf`: the kernel keeps types of its keys and values. `indexed`: keys are numbers from 0.
    `refers` names the object behind a descriptor.
    """

    title: str
    since: str
    key: str
    value: str
    shape: Shape = Shape()
    lacks: frozenset[Operation] = frozenset()
    per_cpu: bool = False
    indexed: bool = False
    key_is_fd: bool = False
    value_is_fd: bool = False
    takes_btf: bool = True
    needs_net_admin: bool = False
    refers: str = ""


_LOOKUP, _UPDATE, _DELETE, _POP, _WALK = Operation
_NO_PREALLOC = MapCreateFlag.NO_PREALLOC
_INDEX = "an index, u32"
_ANY_KEY, _ANY = "any bytes", "any bytes"
_INDEXED_BY = (4,)
_COOKIE_OR_FD = (4, 8)


def _lacks(*operations: Operation) -> frozenset[Operation]:
    return frozenset(operations)


def _hash(title: str, since: str, *, per_cpu: bool = False, flags: MapCreateFlag = _NO_FLAGS) -> Kind:
    return Kind(title, since, _ANY_KEY, _ANY, Shape(flags=flags), per_cpu=per_cpu)


def _array_of(title: str, since: str, value: str, refers: str, *lacks: Operation) -> Kind:
    return Kind(
        title,
        since,
        _INDEX,
        value,
        Shape(_INDEXED_BY, (4,)),
        _lacks(_POP, *lacks),
        indexed=True,
        value_is_fd=True,
        takes_btf=False,
        refers=refers,
    )


def _storage(title: str, since: str, key: str, refers: str) -> Kind:
    return Kind(
        title,
        since,
        key,
        "any bytes, which live and end with the object",
        Shape((4,), None, "none", _NO_PREALLOC),
        _lacks(_POP, _WALK),
        key_is_fd=True,
        refers=refers,
    )


def _keyless(title: str, since: str, value: str, *lacks: Operation, takes_btf: bool = False) -> Kind:
    return Kind(title, since, "none (b'')", value, Shape((0,)), _lacks(_WALK, _DELETE, *lacks), takes_btf=takes_btf)


def _ring(title: str, since: str) -> Kind:
    return Kind(title, since, "none", "none", Shape((0,), (0,), "pages"), frozenset(Operation), takes_btf=False)


def _cgroup_storage(title: str, since: str, *, per_cpu: bool) -> Kind:
    key = "a cgroup's id, u64, or with an attach type: struct bpf_cgroup_storage_key"
    shape = Shape((8, 16), None, "none")
    return Kind(title, since, key, _ANY, shape, _lacks(_POP, _DELETE), per_cpu=per_cpu)


_SOCKET_VALUE = "a TCP, UDP, Unix or vsock socket's fd; read back as its cookie, u64, if values have 8 bytes"
_DEVICE_VALUE = "a device's index, u32, or with a program's fd: struct bpf_devmap_val, read back with its id"

KINDS: dict[MapType, Kind] = {
    MapType.HASH: _hash("hash", "3.19"),
    MapType.ARRAY: Kind("array", "3.19", _INDEX, _ANY, Shape(_INDEXED_BY), _lacks(_DELETE, _POP), indexed=True),
    MapType.PROG_ARRAY: _array_of("program array", "4.2", "a program's fd; read back as its id", "program"),
    MapType.PERF_EVENT_ARRAY: _array_of("perf event array", "4.3", "a perf event's fd", "perf event", _LOOKUP),
    MapType.PERCPU_HASH: _hash("per-CPU hash", "4.6", per_cpu=True),
    MapType.PERCPU_ARRAY: Kind(
        "per-CPU array",
        "4.6",
        _INDEX,
        _ANY,
        Shape(_INDEXED_BY),
        _lacks(_DELETE, _POP),
        indexed=True,
        per_cpu=True,
    ),
    MapType.STACK_TRACE: Kind(
        "stack trace",
        "4.6",
        "a stack's id, u32, that bpf_get_stackid gave",
        "addresses, u64 each",
        Shape((4,)),
        _lacks(_UPDATE),
        takes_btf=False,
    ),
    MapType.CGROUP_ARRAY: _array_of("cgroup array", "4.8", "a cgroup2 directory's fd", "cgroup2 directory", _LOOKUP),
    MapType.LRU_HASH: _hash("LRU hash", "4.10"),
    MapType.LRU_PERCPU_HASH: _hash("LRU per-CPU hash", "4.10", per_cpu=True),
    MapType.LPM_TRIE: Kind(
        "longest-prefix-match trie",
        "4.11",
        "the prefix's length in bits, u32, and data of which the first bits count, in network byte order",
        _ANY,
        Shape(flags=_NO_PREALLOC),
        _lacks(_POP),
    ),
    MapType.ARRAY_OF_MAPS: _array_of("array of maps", "4.12", "a map's fd; read back as its id", "map"),
    MapType.HASH_OF_MAPS: Kind(
        "hash of maps",
        "4.12",
        _ANY_KEY,
        "a map's fd; read back as its id",
        Shape(None, (4,)),
        _lacks(_POP),
        value_is_fd=True,
        takes_btf=False,
        refers="map",
    ),
    MapType.DEVMAP: Kind(
        "device map",
        "4.14",
        _INDEX,
        _DEVICE_VALUE,
        Shape(_INDEXED_BY, (4, 8)),
        _lacks(_POP),
        indexed=True,
        takes_btf=False,
        needs_net_admin=True,
    ),
    MapType.SOCKMAP: Kind(
        "socket map",
        "4.14",
        _INDEX,
        _SOCKET_VALUE,
        Shape(_INDEXED_BY, _COOKIE_OR_FD),
        _lacks(_POP),
        indexed=True,
        value_is_fd=True,
        takes_btf=False,
        needs_net_admin=True,
        refers="socket",
    ),
    MapType.CPUMAP: Kind(
        "CPU map",
        "4.15",
        "a CPU's number, u32",
        "a queue's length in packets, u32, or with a program's fd: struct bpf_cpumap_val, read back with its id",
        Shape(_INDEXED_BY, (4, 8)),
        _lacks(_POP),
        indexed=True,
        takes_btf=False,
    ),
    MapType.XSKMAP: evolve(
        _array_of("XDP socket map", "4.18", "an AF_XDP socket's fd", "AF_XDP socket", _LOOKUP), needs_net_admin=True
    ),
    MapType.SOCKHASH: Kind(
        "socket hash",
        "4.18",
        _ANY_KEY,
        _SOCKET_VALUE,
        Shape(None, _COOKIE_OR_FD),
        _lacks(_POP),
        value_is_fd=True,
        takes_btf=False,
        needs_net_admin=True,
        refers="socket",
    ),
    MapType.CGROUP_STORAGE: _cgroup_storage("cgroup storage of a program", "4.19", per_cpu=False),
    MapType.REUSEPORT_SOCKARRAY: Kind(
        "reuseport socket array",
        "4.19",
        _INDEX,
        "a socket's fd, which has SO_REUSEPORT set and is bound; read back as its cookie, u64, if values have 8 bytes",
        Shape(_INDEXED_BY, _COOKIE_OR_FD),
        _lacks(_POP),
        indexed=True,
        value_is_fd=True,
        takes_btf=False,
        refers="socket with SO_REUSEPORT",
    ),
    MapType.PERCPU_CGROUP_STORAGE: _cgroup_storage("per-CPU cgroup storage of a program", "4.20", per_cpu=True),
    MapType.QUEUE: _keyless("queue", "4.20", _ANY),
    MapType.STACK: _keyless("stack", "4.20", _ANY),
    MapType.SK_STORAGE: _storage("socket storage", "5.2", "a socket's fd", "socket"),
    MapType.DEVMAP_HASH: Kind(
        "device hash",
        "5.4",
        "a number, u32",
        _DEVICE_VALUE,
        Shape((4,), (4, 8)),
        _lacks(_POP),
        takes_btf=False,
        needs_net_admin=True,
    ),
    MapType.STRUCT_OPS: Kind(
        "struct_ops",
        "5.6",
        "0, u32",
        "the kernel's struct bpf_struct_ops_NAME, with programs' fds in place of functions",
        Shape((4,)),
        _lacks(_POP),
        indexed=True,
        takes_btf=False,
    ),
    MapType.RINGBUF: _ring("ring buffer", "5.8"),
    MapType.INODE_STORAGE: _storage("inode storage", "5.10", "a file's fd", "file"),
    MapType.TASK_STORAGE: _storage("task storage", "5.11", "a process's pidfd", "process (a pidfd)"),
    MapType.BLOOM_FILTER: _keyless("bloom filter", "5.16", _ANY, _POP, takes_btf=True),
    MapType.USER_RINGBUF: _ring("user ring buffer", "6.1"),
    MapType.CGRP_STORAGE: _storage("cgroup storage", "6.2", "a cgroup2 directory's fd", "cgroup2 directory"),
    MapType.ARENA: Kind(
        "arena",
        "6.9",
        "none",
        "none: its memory is mapped",
        Shape((0,), (0,), "some", MapCreateFlag.MMAPABLE),
        frozenset(Operation),
        takes_btf=False,
    ),
    MapType.INSN_ARRAY: Kind(
        "instruction array",
        "6.19",
        _INDEX,
        "struct bpf_insn_array_value: an instruction's number, u32, and two places of it that the kernel fills in",
        Shape(_INDEXED_BY, (16,)),
        _lacks(_DELETE, _POP),
        indexed=True,
        takes_btf=False,
    ),
    MapType.RHASH: _hash("resizable hash", "7.2", flags=_NO_PREALLOC),
}

# Types of which the kernel wants to know the types of key and value (bpf_local_storage_map_alloc_check).
STORAGES = frozenset((MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE))

OF_MAPS = frozenset((MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS))


def kind_of(type_: int) -> Kind:
    """The row of a map type; one of a name and nothing else for a type that is newer than this table."""
    try:
        return KINDS[MapType(type_)]
    except (KeyError, ValueError):
        return Kind(f"type {int(type_)}", "?", _ANY_KEY, _ANY, Shape(entries="any"))
