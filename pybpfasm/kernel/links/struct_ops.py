"""struct_ops: a struct of functions that the kernel calls, filled with programs: a TCP congestion control, a scheduler.

    struct tcp_congestion_ops          the map's one value, struct bpf_struct_ops_tcp_congestion_ops
    +------------+----------+          +--------------+---------------------------------+
    | ssthresh   | pointer  |    ->    | the kernel's | ssthresh: a program's descriptor|
    | name       | "tiny"   |          | own fields   | name: "tiny"                    |
    +------------+----------+          +--------------+---------------------------------+

Where the members lie is read from the running kernel's BTF. The programs are loaded with `attach_to` set to
`struct.member`; what they get is an array of their arguments, 8 bytes each. From Linux 6.4 on a link registers the
struct; before (5.6), it is registered by the map's update and lasts until the entry is deleted.
"""

import errno
import struct
from collections.abc import Mapping
from sys import byteorder

from pybpfasm.btf import Btf, BtfBuilder, BtfError, Field, Int, Kind, NotFoundError
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import features, sys
from pybpfasm.kernel.btf_objects import vmlinux
from pybpfasm.kernel.descriptor import Descriptor
from pybpfasm.kernel.links.attempt import attempting, lacks
from pybpfasm.kernel.links.base import Attachment, LegacyAttachment, Link
from pybpfasm.kernel.maps import load_btf
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, Command, MapCreateFlag, MapType

Value = int | bytes | str

_PREFIX = "bpf_struct_ops_"
_KEY = 0

_CAUSES = {
    errno.EEXIST: "one of that name is registered already",
    errno.EINVAL: "a function that must be there is missing, a program is for another member, or a value is wrong",
    errno.EBUSY: "it is in use",
    errno.EOPNOTSUPP: "structs of this kind cannot be replaced while they are registered",
}


def attach_struct_ops(
    struct_name: str, programs: Mapping[str, Program], values: Mapping[str, Value] | None = None
) -> Attachment:
    """Register a struct with these programs as its functions and these values in its other members.

    A value is a number, or bytes or text for an array of bytes; members that are not named are zero. The programs may
    be closed afterwards. From Linux 6.4 on a `StructOpsLink`, else a `LegacyAttachment`.
    Raises `KernelError`: EEXIST if one of that name is registered, EINVAL if a function is missing that must be there;
    `BpfError` for a struct or a member that this kernel has not.
    """
    filled = struct_ops_value(struct_name, programs, values or {})
    attempted = f"register {struct_name}"
    if lacks(features.STRUCT_OPS_LINK):
        return _registered(struct_name, filled, attempted)
    with _create_map(struct_name, filled, MapCreateFlag.LINK, attempted) as map_:
        _update(map_, filled, attempted)
        request = sys.new("link_create", prog_fd=map_.fd, attach_type=AttachType.STRUCT_OPS)
        with attempting(attempted, _CAUSES):
            return StructOpsLink(sys.bpf(Command.LINK_CREATE, request, attempted))


class StructOpsLink(Link):
    """The link of a registered struct. Its `update` takes no program: `replace` puts another struct in its place."""

    def replace(
        self, struct_name: str, programs: Mapping[str, Program], values: Mapping[str, Value] | None = None
    ) -> None:
        """Put a struct of the same kind (and for tcp_congestion_ops of the same name) in place of this one.

        Raises `KernelError` as `attach_struct_ops` does; EOPNOTSUPP where the kind cannot do so.
        """
        filled = struct_ops_value(struct_name, programs, values or {})
        attempted = f"replace the registered {struct_name}"
        with _create_map(struct_name, filled, MapCreateFlag.LINK, attempted) as map_:
            _update(map_, filled, attempted)
            request = sys.new("link_update", link_fd=self.fd, new_prog_or_map_fd=map_.fd)
            with attempting(attempted, _CAUSES):
                sys.bpf(Command.LINK_UPDATE, request, attempted)

    def update(self, program: Program, old: Program | None = None) -> None:  # noqa: ARG002 - as the base says
        """Not possible: raises `BpfError`; `replace` is."""
        raise BpfError(f"cannot put program {program.spec.name} in place of a struct of functions: use replace")


def struct_ops_value(struct_name: str, programs: Mapping[str, Program], values: Mapping[str, Value]) -> bytes:
    """The map's value: the struct as this kernel has it, with programs' descriptors where it has pointers.

    Raises `BpfError` for a struct or a member that this kernel has not, or a value that does not fit.
    """
    types, value_id = _value_type(struct_name)
    filled = bytearray(types.size_of(value_id))
    start = types.field("data", within=value_id)
    for member, program in programs.items():
        place = _member(types, start, struct_name, member)
        if types.kind(types.strip(place.type_id)) != Kind.PTR:
            raise BpfError(f"{struct_name}.{member} is no function: it takes no program")
        struct.pack_into("=Q", filled, place.byte_offset, program.fd)
    for member, value in values.items():
        place = _member(types, start, struct_name, member)
        data = _encoded(value, types.size_of(place.type_id), f"{struct_name}.{member}")
        filled[place.byte_offset : place.byte_offset + len(data)] = data
    return bytes(filled)


def _value_type(struct_name: str) -> tuple[Btf, int]:
    try:
        types = vmlinux()
        return types, types.find(_PREFIX + struct_name, Kind.STRUCT)
    except NotFoundError:
        raise BpfError(f"this kernel has no struct_ops called {struct_name}") from None
    except BtfError as error:
        raise BpfError(f"cannot register {struct_name}: {error}") from None


def _member(types: Btf, start: Field, struct_name: str, member: str) -> Field:
    try:
        place = types.field(member, within=start.type_id)
    except BtfError:
        raise BpfError(f"struct {struct_name} of this kernel has no member {member!r}") from None
    if place.bit_size is not None:
        raise BpfError(f"{struct_name}.{member} is a bit field, which cannot be set")
    return Field(start.bit_offset + place.bit_offset, None, place.type_id)


def _encoded(value: Value, size: int, what: str) -> bytes:
    if isinstance(value, int):
        try:
            return value.to_bytes(size, byteorder, signed=value < 0)
        except OverflowError:
            raise BpfError(f"{what} has {size} bytes, {value} does not fit") from None
    data = value.encode() if isinstance(value, str) else value
    if len(data) > size:
        raise BpfError(f"{what} has {size} bytes, {value!r} has {len(data)}")
    return data


def _create_map(struct_name: str, filled: bytes, flags: int, attempted: str) -> Descriptor:
    _, value_id = _value_type(struct_name)
    # The kernel asks for a BTF object, though the types that count are its own (kernel/bpf/syscall.c, map_create).
    own = BtfBuilder()
    own.type_id(Int("int", 4, signed=True))
    with load_btf(own.encode(), struct_name) as types:
        request = sys.new(
            "map_create",
            map_type=MapType.STRUCT_OPS,
            key_size=4,
            value_size=len(filled),
            max_entries=1,
            map_flags=flags,
            map_name=struct_name.encode()[:15],
            btf_fd=types.fd,
            btf_vmlinux_value_type_id=value_id,
        )
        with attempting(attempted, _CAUSES, features.STRUCT_OPS):
            return Descriptor(sys.bpf(Command.MAP_CREATE, request, attempted))


def _update(map_: Descriptor, filled: bytes, attempted: str) -> None:
    key, value = sys.buffer(_KEY.to_bytes(4, byteorder)), sys.buffer(filled)
    request = sys.new("map_elem", map_fd=map_.fd, key=sys.address(key), value_or_next_key=sys.address(value))
    with attempting(attempted, _CAUSES):
        sys.bpf(Command.MAP_UPDATE_ELEM, request, attempted)


def _registered(struct_name: str, filled: bytes, attempted: str) -> LegacyAttachment:
    """Registered by the update itself, until the entry is deleted."""
    map_ = _create_map(struct_name, filled, 0, attempted)
    try:
        _update(map_, filled, attempted)
    except KernelError:
        map_.close()
        raise
    return LegacyAttachment(features.STRUCT_OPS_LINK.error(), lambda: _unregister(map_, struct_name))


def _unregister(map_: Descriptor, struct_name: str) -> None:
    key = sys.buffer(_KEY.to_bytes(4, byteorder))
    with map_:
        request = sys.new("map_elem", map_fd=map_.fd, key=sys.address(key))
        sys.bpf(Command.MAP_DELETE_ELEM, request, f"unregister {struct_name}")
