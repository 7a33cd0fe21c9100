"""The kernel's types, as a program's declarations refer to them. They are read when the first of them is asked for.

struct       task_struct, kuid_t             STRUCT, UNION, also without a name behind a TYPEDEF
function     tcp_connect, nf_nat:nf_nat_fn   FUNC
tracepoint   sched_switch                    TYPEDEF btf_trace_sched_switch
LSM hook     file_open                       FUNC bpf_lsm_file_open
iterator     task                            FUNC bpf_iter_task
member       tcp_congestion_ops.ssthresh     a pointer to a function, in a STRUCT
netfilter                                    STRUCT bpf_nf_ctx
"""

from __future__ import annotations

from functools import lru_cache

from pybpfasm.btf import Btf, Kind, NotFoundError, kernel_btf, kinds
from pybpfasm.btf.sizes import strip
from pybpfasm.lang.programs import ProgramKind
from pybpfasm.records import frozen
from pybpfasm.uapi import AttachType, ProgramType

_WRAPPED = {AttachType.TRACE_ITER: "bpf_iter_", AttachType.LSM_MAC: "bpf_lsm_", AttachType.LSM_CGROUP: "bpf_lsm_"}

# A parameter takes a place of 8 bytes in what the program is handed.
_PLACE_BYTES = 8


@frozen
class Member:
    """A field: the byte where it starts, its type; of a bit field its first bit from there, and how many."""

    offset: int
    type_id: int
    shift: int = 0
    bits: int | None = None


@frozen
class Passed:
    """A parameter, or a result: its name, its type, the byte where it lies in what the program is handed."""

    name: str
    type_id: int
    offset: int


@frozen
class Prototype:
    """What a program at some place is handed; `result` is None for a function that returns nothing."""

    name: str
    types: Btf
    parameters: tuple[Passed, ...]
    result: Passed | None


class KernelTypes:
    """Questions to the kernel's types. All of them raise `BtfError`, `NotFoundError` for what is not there."""

    def __init__(self, given: Btf | None = None) -> None:
        self._given = given
        self._structs: dict[str, int] = {}
        self._members: dict[tuple[str, str], Member] = {}

    @property
    def btf(self) -> Btf:
        """The types: those that were given, or the running kernel's."""
        if self._given is None:
            self._given = kernel_btf()
        return self._given

    def struct(self, name: str) -> int:
        """The id of a struct or a union, or of one without a name of its own, by its typedef."""
        if name not in self._structs:
            self._structs[name] = self._find(name)
        return self._structs[name]

    def _find(self, name: str) -> int:
        try:
            return self.btf.find(name, Kind.STRUCT, Kind.UNION)
        except NotFoundError:
            found = strip(self.btf, self.btf.find(name, Kind.TYPEDEF))
            if self.btf.kind(found) in (Kind.STRUCT, Kind.UNION):
                return found
            raise

    def member(self, struct: str, name: str) -> Member:
        """A field of a struct."""
        known = self._members.get((struct, name))
        if known is None:
            found = self.btf.field(name, self.struct(struct))
            if found.bit_size is None:
                known = Member(found.bit_offset // 8, found.type_id)
            else:
                known = self._bit_field(found.type_id, found.bit_offset, found.bit_size)
            self._members[struct, name] = known
        return known

    def record(self, type_id: int) -> kinds.Record:
        """What an id is, behind other names and qualifiers."""
        return self.btf.type(strip(self.btf, type_id))

    def prototype(self, kind: ProgramKind) -> Prototype:
        """What programs of a kind are handed at the place that they name."""
        if kind.program_type == ProgramType.NETFILTER:
            return self._fields("bpf_nf_ctx")
        place = kind.attach_to or ""
        module, _, bare = place.rpartition(":")
        types = kernel_btf(module) if module else self.btf
        is_tracepoint = kind.attach_type == AttachType.TRACE_RAW_TP or kind.program_type == ProgramType.RAW_TRACEPOINT
        if is_tracepoint:
            # The first parameter is for the tracepoint itself.
            function = _function(types, types.find(f"btf_trace_{bare}", Kind.TYPEDEF))
            return _prototype(place, types, function, function.parameters[1:])
        if kind.program_type == ProgramType.STRUCT_OPS:
            struct, _, member = bare.partition(".")
            function = _function(types, self.member(struct, member).type_id)
        else:
            function = _function(types, types.find(_WRAPPED.get(kind.attach_type, "") + bare, Kind.FUNC))
        return _prototype(place, types, function, function.parameters)

    def _fields(self, struct: str) -> Prototype:
        """A struct of pointers, as if each of them were handed over."""
        record = self.record(self.struct(struct))
        assert isinstance(record, kinds.Struct)  # noqa: S101 - as it is called
        passed = tuple(Passed(each.name, each.type_id, each.bit_offset // 8) for each in record.members)
        return Prototype(struct, self.btf, passed, None)

    def _bit_field(self, type_id: int, bit_offset: int, bit_size: int) -> Member:
        size = self.btf.size_of(type_id) * 8
        start = bit_offset // size * size
        if bit_offset + bit_size > start + size:
            start = bit_offset // 8 * 8
        return Member(start // 8, type_id, bit_offset - start, bit_size)


@lru_cache(maxsize=1)
def kernel_types(given: Btf | None) -> KernelTypes:
    """Those of a blob, or of the running kernel; the programs of a collection share what was found."""
    return KernelTypes(given)


def told(types: Btf, type_id: int) -> str:
    """A type as C has it, in one line."""
    record = types.type(type_id)
    match record:
        case kinds.Void():
            return "void"
        case kinds.Ptr(type_id=pointee):
            return f"{told(types, pointee).rstrip()} *".replace("* *", "**")
        case kinds.Const(type_id=inner):
            return f"const {told(types, inner)}"
        case kinds.Volatile(type_id=inner) | kinds.Restrict(type_id=inner) | kinds.TypeTag(type_id=inner):
            return told(types, inner)
        case kinds.Struct(name=name) | kinds.Fwd(name=name):
            return f"struct {name}".rstrip()
        case kinds.Union(name=name):
            return f"union {name}".rstrip()
        case kinds.Enum(name=name) | kinds.Enum64(name=name):
            return f"enum {name}".rstrip()
        case kinds.Array(type_id=element, count=count):
            return f"{told(types, element)}[{count}]"
        case kinds.FuncProto():
            return "function"
        case _:
            return types.name(type_id)


def _function(types: Btf, type_id: int) -> kinds.FuncProto:
    """The prototype of a function, of a pointer to one, or of a name of either."""
    record = types.type(strip(types, type_id))
    if isinstance(record, kinds.Ptr | kinds.Func):
        record = types.type(strip(types, record.type_id))
    if not isinstance(record, kinds.FuncProto):
        raise NotFoundError(f"{told(types, type_id)} is no function")
    return record


def _prototype(name: str, types: Btf, function: kinds.FuncProto, parameters: tuple[kinds.Parameter, ...]) -> Prototype:
    places: list[Passed] = []
    offset = 0
    for each in parameters:
        if each.type_id == 0:
            break
        places.append(Passed(each.name, each.type_id, offset))
        offset += -(-types.size_of(each.type_id) // _PLACE_BYTES) * _PLACE_BYTES
    returned = function.return_type_id
    result = None if returned == 0 else Passed("result", returned, offset)
    return Prototype(name, types, tuple(places), result)
