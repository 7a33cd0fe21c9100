"""Creation of a map from its spec (BPF_MAP_CREATE), with the types of key and value, and why the kernel refuses."""

import errno
import mmap
import os
import re
from contextlib import ExitStack
from typing import Any

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.kernel import sys
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.maps.cpus import possible_cpus
from pybpfasm.kernel.maps.errors import ENOTSUPP, errno_name
from pybpfasm.kernel.maps.kinds import KINDS, OF_MAPS, STORAGES, Kind, kind_of
from pybpfasm.kernel.maps.names import object_name
from pybpfasm.kernel.maps.struct_ops import have_kernel_read_its_types, struct_ops_type_id, struct_ops_value
from pybpfasm.records import evolve
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Command, MapCreateFlag, MapType

_INT = btf.Int("int", 4, signed=True)


def arranged(spec: MapSpec) -> MapSpec:
    """The spec with what only the running kernel knows: how many CPUs there are, the value of a struct_ops map."""
    if spec.type == MapType.PERF_EVENT_ARRAY and not spec.max_entries:
        return spec.resized(possible_cpus())
    if spec.type == MapType.STRUCT_OPS:
        return evolve(spec, value=struct_ops_value(spec))
    return spec


def create_map(spec: MapSpec, numa_node: int | None, inner_fd: int | None) -> int:
    """A descriptor of the new map; `inner_fd` is a map of the shape of those in a map of maps."""
    attempted = f"create map {spec.name}"
    with ExitStack() as held:
        try:
            attributes = _attributes(spec, numa_node)
        except BpfError as error:  # a number that does not fit
            raise BpfError(f"cannot {attempted}: {error}") from None
        if spec.type in OF_MAPS:
            attributes.inner_map_fd = _inner(spec, inner_fd, held)
        _add_types(spec, attributes, held)
        try:
            return _submit(spec, attributes, attempted)
        except KernelError as error:
            raise _explained(spec, error, attempted, numa_node) from None


def _submit(spec: MapSpec, attributes: Any, attempted: str) -> int:
    try:
        return sys.bpf(Command.MAP_CREATE, attributes, attempted)
    except KernelError as error:
        if spec.type != MapType.STRUCT_OPS or error.errno != ENOTSUPP:
            raise
    have_kernel_read_its_types()
    return sys.bpf(Command.MAP_CREATE, attributes, attempted)


def load_btf(data: bytes, what: str) -> Descriptor:
    """Load BTF into the kernel; `what` it describes is named in the error."""
    held = sys.buffer(data)
    attributes = sys.new("btf_load", btf=sys.address(held), btf_size=len(data))
    return Descriptor(sys.bpf(Command.BTF_LOAD, attributes, f"load {what} (BTF)"))


def supports_map_type(type_: MapType) -> str | None:
    """The kernel's words of refusal of the plainest map of a type; None if it makes one.

    Raises `KernelError` where it cannot tell (EPERM, say).
    """
    try:
        os.close(_create_plainest(type_))
    except KernelError as error:
        if error.errno not in _REFUSALS:
            raise
        return str(error)
    except BpfError as error:  # the kernel does not show its types, or has not that of the value
        return str(error)
    return None


_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)

# The first table that there was for struct_ops, in every kernel with TCP since.
_TCP_TABLE = btf.Struct("tcp_congestion_ops", 8)


def _attributes(spec: MapSpec, numa_node: int | None = None) -> Any:
    node = {} if numa_node is None else {"numa_node": numa_node}
    return sys.new(
        "map_create",
        map_type=spec.type,
        key_size=spec.key.size,
        value_size=spec.value.size,
        max_entries=spec.max_entries,
        map_flags=spec.flags if numa_node is None else spec.flags | MapCreateFlag.NUMA_NODE,
        map_extra=spec.extra,
        map_name=object_name(spec.name),
        **node,
    )


def _inner(spec: MapSpec, inner_fd: int | None, held: ExitStack) -> int:
    """A map as a pattern, needed until the map of maps is made."""
    if inner_fd is not None:
        return inner_fd
    if spec.inner is None:
        raise BpfError(
            f"cannot create map {spec.name}: a map of maps needs the shape of the maps in it (MapSpec.inner)"
        )
    return held.enter_context(Descriptor(create_map(spec.inner, None, None))).fd


def _add_types(spec: MapSpec, attributes: Any, held: ExitStack) -> None:
    encoder = btf.Encoder()
    types = _types(spec)
    if spec.type == MapType.STRUCT_OPS:
        attributes.btf_vmlinux_value_type_id = struct_ops_type_id(spec)
        encoder.type_id(_INT)  # the kernel wants some types of ours beside its own
    elif types is None:
        return
    else:
        attributes.btf_key_type_id, attributes.btf_value_type_id = map(encoder.type_id, types)
    attributes.btf_fd = held.enter_context(load_btf(encoder.encode(), f"the types of map {spec.name}")).fd


def _types(spec: MapSpec) -> tuple[btf.Type, btf.Type] | None:
    """The types of key and value, where the kernel takes them."""
    key, value = spec.key, spec.value
    if spec.type in STORAGES:
        # Asked for always: of bytes the types are made up (bpf_local_storage_map_alloc_check, ..._check_btf).
        bytes_ = btf.Array(btf.Int("unsigned char", 1), value.size)
        return (_INT if isinstance(key, Untyped) else key), (bytes_ if isinstance(value, Untyped) else value)
    if not kind_of(spec.type).takes_btf or isinstance(value, Untyped):
        return None
    if spec.type == MapType.BLOOM_FILTER and not key.size:
        return btf.Void(), value
    if isinstance(key, Untyped):
        return None
    # trie_check_btf in kernel/bpf/lpm_trie.c: only structs.
    return None if spec.type == MapType.LPM_TRIE and not isinstance(key, btf.Struct) else (key, value)


# --- why the kernel refused -------------------------------------------------------------------------------------------


def _explained(spec: MapSpec, error: KernelError, attempted: str, numa_node: int | None) -> BpfError:
    number, kind = error.errno or 0, kind_of(spec.type)
    if spec.type not in KINDS:
        text = f"this library knows no maps of type {int(spec.type)}, nor does this kernel"
        return KernelError(number, f"cannot {attempted}: {text} ({errno_name(number)})")
    cause = None
    if number in _REFUSALS:
        cause = _mistake(spec, kind)
        if cause is None:
            refusal = _type_refused(spec.type)
            if refusal is not None:
                if not _is_at_least(kind.since):
                    return UnsupportedFeatureError(f"maps of type {kind.title}", kind.since)
                cause = f"this kernel was built without maps of type {kind.title}"
            else:
                cause = _other_mistake(spec, kind, numa_node)
    elif number == errno.EPERM:
        wanted = "CAP_BPF and CAP_NET_ADMIN" if kind.needs_net_admin else "CAP_BPF"
        cause = f"it needs root, or {wanted}"
    elif number in (errno.ENOMEM, errno.E2BIG):
        size = f"{spec.max_entries} entries of {spec.key.size} + {spec.value.size} bytes"
        cause = f"{size} are more than the kernel may hold, or has memory for: lower max_entries"
    if cause is None:
        return error
    return KernelError(number, f"cannot {attempted}: {cause} ({errno_name(number)})")


def _mistake(spec: MapSpec, kind: Kind) -> str | None:
    """What in the spec no map of its type can have."""
    for what, size, possible in (
        ("keys", spec.key.size, kind.shape.key_sizes),
        ("values", spec.value.size, kind.shape.value_sizes),
    ):
        if possible is not None and size not in possible:
            wanted = " or ".join(map(str, possible))
            return f"{what} of a map of type {kind.title} have {wanted} bytes, not {size}"
    entries = spec.max_entries
    if kind.shape.entries == "none" and entries:
        return f"a map of type {kind.title} has no number of entries: max_entries is 0"
    if kind.shape.entries == "some" and not entries:
        return "max_entries is 0: it has to be a number of entries"
    if kind.shape.entries == "pages" and (entries & (entries - 1) or not entries or entries % mmap.PAGESIZE):
        return f"max_entries, in bytes, is a power of 2 that is a multiple of {mmap.PAGESIZE}, not {entries}"
    missing = kind.shape.flags & ~spec.flags
    if missing:
        return f"a map of type {kind.title} needs the flag {missing.name}"
    return None


def _other_mistake(spec: MapSpec, kind: Kind, numa_node: int | None) -> str:
    """What may be wrong where the kernel makes maps of the type, but not this one."""
    if not spec.key.size and kind.shape.key_sizes is None:
        return "keys have no size: name their type, or Untyped(bytes)"
    if not spec.value.size and kind.shape.value_sizes is None:
        return "values have no size: name their type, or Untyped(bytes)"
    asked = [f"keys of {spec.key.size} bytes", f"values of {spec.value.size}", f"flags {int(spec.flags):#x}"]
    asked += [f"map_extra {spec.extra:#x}"] if spec.extra else []
    asked += [] if numa_node is None else [f"NUMA node {numa_node}"]
    return f"one of these is not for maps of type {kind.title}, or not known to this kernel: {', '.join(asked)}"


def _type_refused(type_: MapType) -> str | None:
    try:
        return supports_map_type(type_)
    except KernelError:
        return None


def _create_plainest(type_: MapType) -> int:
    """A map of the type with nothing asked for."""
    shape = kind_of(type_).shape
    entries = {"none": 0, "pages": mmap.PAGESIZE}.get(shape.entries, 1)
    plain = MapType.ARRAY
    spec = MapSpec(
        "probe",
        type_,
        Untyped(8 if type_ == MapType.LPM_TRIE else (shape.key_sizes or (4,))[0]),
        _TCP_TABLE if type_ == MapType.STRUCT_OPS else Untyped((shape.value_sizes or (8,))[0]),
        entries,
        int(shape.flags),
        MapSpec("probe", plain, Untyped(4), Untyped(8), 1) if type_ in OF_MAPS else None,
    )
    with ExitStack() as held:
        attributes = _attributes(arranged(spec))
        if type_ in OF_MAPS:
            attributes.inner_map_fd = _inner(spec, None, held)
        _add_types(spec, attributes, held)
        return _submit(spec, attributes, f"create a map of type {kind_of(type_).title}")


def _is_at_least(version: str) -> bool:
    """Whether the running kernel calls itself that old; a message's wording hangs on it, nothing else."""
    return _numbers(os.uname().release) >= _numbers(version)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])
