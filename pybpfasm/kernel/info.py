"""What the kernel says of its objects (BPF_OBJ_GET_INFO_BY_FD). Ids are unique while the object lives."""

from typing import Any

from pybpfasm.kernel import sys
from pybpfasm.records import frozen
from pybpfasm.uapi import Command


@frozen
class MapInfo:
    """A map; sizes in bytes, `name` cut to 15 characters."""

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@frozen
class ProgramInfo:
    """A program; `name` is cut to 15 characters, what an older kernel does not tell is 0.

    `tag` is the kernel's hash of its instructions, map references left out. `load_time_ns` counts from boot, sizes
    are in bytes. Run time, number of runs and of runs missed (a program is not run within itself; 5.12) are counted
    while `enable_stats` is in force. `verified_instructions` are those that the verifier went through (5.16). `btf_id`
    names the program's own types, the attach ids what it is attached to by BTF (5.17).
    """

    id: int
    type: int
    tag: bytes
    name: str
    map_ids: frozenset[int]
    load_time_ns: int = 0
    created_by_uid: int = 0
    gpl_compatible: bool = False
    btf_id: int = 0
    translated_size: int = 0
    jited_size: int = 0
    verified_instructions: int = 0
    run_time_ns: int = 0
    run_count: int = 0
    recursion_misses: int = 0
    attach_btf_object_id: int = 0
    attach_btf_id: int = 0


@frozen
class TypesInfo:
    """A BTF object; `name` is `vmlinux` or a module's for the kernel's types, empty for programs' and maps'."""

    id: int
    size: int
    name: str
    kernel: bool


def map_info(fd: int) -> MapInfo:
    """What the kernel says of the map behind `fd`."""
    info = _ask(fd, "map_info")
    return MapInfo(
        info.id, info.type, info.key_size, info.value_size, info.max_entries, info.map_flags, sys.text(info.name)
    )


def program_info(fd: int) -> ProgramInfo:
    """What the kernel says of the program behind `fd`."""
    count = _ask(fd, "prog_info").nr_map_ids
    ids = sys.words(count)
    info = _ask(fd, "prog_info", nr_map_ids=count, map_ids=sys.address(ids))
    return ProgramInfo(
        id=info.id,
        type=info.type,
        tag=bytes(info.tag),
        name=sys.text(info.name),
        map_ids=frozenset(ids),
        load_time_ns=info.load_time,
        created_by_uid=info.created_by_uid,
        gpl_compatible=bool(info.gpl_compatible & 1),
        btf_id=info.btf_id,
        translated_size=info.xlated_prog_len,
        jited_size=info.jited_prog_len,
        verified_instructions=info.verified_insns,
        run_time_ns=info.run_time_ns,
        run_count=info.run_cnt,
        recursion_misses=info.recursion_misses,
        attach_btf_object_id=info.attach_btf_obj_id,
        attach_btf_id=info.attach_btf_id,
    )


def translated_program(fd: int) -> bytes:
    """The instructions that the verifier made of the program behind `fd`: 8 bytes a slot, in the machine's byte order.

    Empty where the kernel does not show them: it takes CAP_BPF (kernel/bpf/syscall.c, bpf_prog_get_info_by_fd).
    """
    size = _ask(fd, "prog_info").xlated_prog_len
    if not size:
        return b""
    memory = sys.buffer(size)
    info = _ask(fd, "prog_info", xlated_prog_len=size, xlated_prog_insns=sys.address(memory))
    return sys.contents(memory) if info.xlated_prog_insns else b""


def types_info(fd: int) -> TypesInfo:
    """What the kernel says of the BTF object behind `fd`; older kernels than 5.11 do not tell name and kind."""
    name = sys.buffer(_NAME_ROOM)
    info = _ask(fd, "btf_info", name=sys.address(name), name_len=_NAME_ROOM)
    return TypesInfo(info.id, info.btf_size, sys.contents(name).split(b"\0", 1)[0].decode(), bool(info.kernel_btf))


def types_data(fd: int) -> bytes:
    """The bytes of the BTF object behind `fd`."""
    size = _ask(fd, "btf_info").btf_size
    memory = sys.buffer(size)
    _ask(fd, "btf_info", btf=sys.address(memory), btf_size=size)
    return sys.contents(memory)


# MODULE_NAME_LEN is 56 on 64-bit machines (include/linux/module.h).
_NAME_ROOM = 64


def _ask(fd: int, structure: str, **fields: int) -> Any:
    info = sys.new(structure, **fields)
    request = sys.new("info_by_fd", bpf_fd=fd, info_len=sys.size_of(info), info=sys.address(info))
    sys.bpf(Command.OBJ_GET_INFO_BY_FD, request, f"ask the kernel for {structure.replace('_', ' ')}")
    return info
