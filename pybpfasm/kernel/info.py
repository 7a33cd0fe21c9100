"""What the kernel says of its objects (BPF_OBJ_GET_INFO_BY_FD). Ids are unique while the object lives."""

from typing import Any

import attrs

from pybpfasm.kernel import sys
from pybpfasm.uapi import Command


@attrs.frozen
class MapInfo:
    """A map; sizes in bytes, `name` cut to 15 characters."""

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@attrs.frozen
class ProgramInfo:
    """A program. `tag` is the kernel's hash of its instructions, map references left out.

    `jited_size` is in bytes; `verified_instructions` are those that the verifier went through (0 before Linux 5.16).
    """

    id: int
    type: int
    tag: bytes
    name: str
    map_ids: frozenset[int]
    jited_size: int = 0
    verified_instructions: int = 0


@attrs.frozen
class LinkInfo:
    """A link: which program it attaches. `target` is a cgroup id or a map id; 0 when the target is gone."""

    id: int
    type: int
    program_id: int
    target: int
    attach_type: int


# Link types of enum bpf_link_type, with the member of struct bpf_link_info that they fill.
_CGROUP, _SOCKMAP = 3, 14


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
        jited_size=info.jited_prog_len,
        verified_instructions=info.verified_insns,
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


def link_info(fd: int) -> LinkInfo:
    """What the kernel says of the link behind `fd`."""
    info = _ask(fd, "link_info")
    if info.type == _SOCKMAP:
        return LinkInfo(info.id, info.type, info.prog_id, info.sockmap.map_id, info.sockmap.attach_type)
    return LinkInfo(info.id, info.type, info.prog_id, info.cgroup.cgroup_id, info.cgroup.attach_type)


def _ask(fd: int, structure: str, **fields: int) -> Any:
    info = sys.new(structure, **fields)
    request = sys.new("info_by_fd", bpf_fd=fd, info_len=sys.size_of(info), info=sys.address(info))
    sys.bpf(Command.OBJ_GET_INFO_BY_FD, request, f"ask the kernel for {structure.replace('_', ' ')}")
    return info
