"""The spec of a map that exists: sizes, flags and, where the kernel keeps them, the types of its keys and values."""

from typing import Any

from pybpfasm import btf
from pybpfasm.btf import BtfError
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.btf_objects import read_types, vmlinux
from pybpfasm.kernel.maps.failures import is_frozen
from pybpfasm.kernel.maps.kinds import kind_of
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Command, MapCreateFlag, MapType

# Flags of a descriptor, not of the map (bpf_map_flags_retain_permanent in kernel/bpf/syscall.c).
_OF_DESCRIPTORS = MapCreateFlag.RDONLY | MapCreateFlag.WRONLY

# Types to which the kernel adds a flag by itself (dev_map_init_map, insn_array_alloc).
_READ_ONLY_FOR_PROGRAMS = (MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.INSN_ARRAY)


def describe_map(fd: int) -> MapSpec:
    """What `MapSpec` there can be of the map behind `fd`.

    The shape of the maps in a map of maps is not known to user space; types are `Untyped` where the kernel keeps none
    or does not show them to this process. Raises `KernelError`, or `BpfError` for a map type that is newer than this
    library.
    """
    info = _ask(fd)
    try:
        type_ = MapType(info.type)
    except ValueError:
        raise BpfError(f"map {sys.text(info.name)} is of type {info.type}, which this library does not know") from None
    key, value = _types(info)
    return MapSpec(
        # A map may have no name; a spec has one.
        name=sys.text(info.name) or f"map_{info.id}",
        type=type_,
        key=key,
        value=value,
        max_entries=info.max_entries,
        flags=info.map_flags,
        frozen=is_frozen(fd),
        extra=info.map_extra,
    )


def differences(fd: int, spec: MapSpec) -> list[str]:
    """In what the map behind `fd` differs from a spec: a phrase each, `max_entries 3, not 4`."""
    info = _ask(fd)
    ignored = _OF_DESCRIPTORS
    if spec.type in _READ_ONLY_FOR_PROGRAMS:
        ignored |= MapCreateFlag.RDONLY_PROG
    shape = {
        "type": (info.type, int(spec.type)),
        "key_size": (info.key_size, spec.key.size),
        "value_size": (info.value_size, spec.value.size),
        "max_entries": (info.max_entries, spec.max_entries),
        "flags": (info.map_flags & ~ignored, spec.flags & ~ignored),
    }
    if spec.type == MapType.STRUCT_OPS:
        del shape["value_size"]  # the kernel's, which a spec need not know
    if spec.type == MapType.PERF_EVENT_ARRAY and not spec.max_entries:
        del shape["max_entries"]
    kinds = (
        [] if shape["type"][0] == spec.type else [f"type {kind_of(info.type).title}, not {kind_of(spec.type).title}"]
    )
    del shape["type"]
    return kinds + [f"{name} {found}, not {wanted}" for name, (found, wanted) in shape.items() if found != wanted]


def _types(info: Any) -> tuple[btf.Type | Untyped, btf.Type | Untyped]:
    key, value = Untyped(info.key_size), Untyped(info.value_size)
    try:
        if info.btf_vmlinux_value_type_id:
            return key, vmlinux().value_type(info.btf_vmlinux_value_type_id)
        if not info.btf_id or not info.btf_value_type_id:
            return key, value
        types = read_types(info.btf_id)
        known = types.value_type(info.btf_key_type_id) if info.btf_key_type_id else key
        return known, types.value_type(info.btf_value_type_id)
    except (KernelError, BtfError):  # not shown without CAP_SYS_ADMIN, or more than a tree of types can say
        return key, value


def _ask(fd: int) -> Any:
    info = sys.new("map_info")
    request = sys.new("info_by_fd", bpf_fd=fd, info_len=sys.size_of(info), info=sys.address(info))
    sys.bpf(Command.OBJ_GET_INFO_BY_FD, request, "ask the kernel for what a map is")
    return info
