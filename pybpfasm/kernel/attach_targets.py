"""What a program is verified for, where BTF names it: a kernel function, a tracepoint, an LSM hook, a struct's member.

    type        attach type             attach_to                   BTF
    tracing     fentry, fexit, fmod_ret function, module:function   FUNC function
    tracing     tp_btf (trace_raw_tp)   tracepoint                  TYPEDEF btf_trace_tracepoint
    tracing     iter                    kind: task, bpf_map_elem    FUNC bpf_iter_kind
    lsm         lsm_mac, lsm_cgroup     hook: file_open             FUNC bpf_lsm_hook
    struct_ops                          struct.member               STRUCT struct; attach type: the member's number
    ext                                 function of `target`        FUNC function in that program's own types
    tracing     fentry, fexit           function of `target`        likewise

As libbpf's libbpf_find_attach_btf_id does it (tools/lib/bpf/libbpf.c).
"""

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pybpfasm.btf import BtfError, Kind, NotFoundError, kinds
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel.btf_objects import find_type, open_module_types, read_types, vmlinux
from pybpfasm.records import frozen
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType

if TYPE_CHECKING:
    from pybpfasm.kernel.programs import Program

_PREFIXES = {
    AttachType.TRACE_RAW_TP: ("btf_trace_", Kind.TYPEDEF, "tracepoint"),
    AttachType.TRACE_ITER: ("bpf_iter_", Kind.FUNC, "iterator"),
    AttachType.LSM_MAC: ("bpf_lsm_", Kind.FUNC, "LSM hook"),
    AttachType.LSM_CGROUP: ("bpf_lsm_", Kind.FUNC, "LSM hook"),
}
_FUNCTION = ("", Kind.FUNC, "kernel function")

_EXAMPLES = {
    ProgramType.TRACING: 'a function or tracepoint: "tcp_connect"',
    ProgramType.LSM: 'an LSM hook: "file_open"',
    ProgramType.STRUCT_OPS: 'a struct and its member: "tcp_congestion_ops.ssthresh"',
    ProgramType.EXT: "a function of the program that it extends",
}


@frozen
class AttachTarget:
    """What to fill into PROG_LOAD: `fd` is of a BTF object or of a program, 0 for vmlinux."""

    btf_id: int
    fd: int
    attach_type: int


def attach_target(spec: ProgramSpec, target: "Program | None", held: ExitStack) -> AttachTarget:
    """What a program of a kind that is attached by BTF is verified for.

    `held` keeps open what the target's descriptor needs. Raises `KernelError` (ENOENT) for a name that is not there,
    `BpfError` where none is given, or the kernel has no types.
    """
    if spec.attach_to is None:
        raise BpfError(f"program {spec.name} needs attach_to: {_EXAMPLES[spec.type]}")
    try:
        if target is not None:
            return _of_program(spec, spec.attach_to, target)
        if spec.type == ProgramType.EXT:
            raise BpfError(f"program {spec.name} extends another: pass that as Program.load(…, target=program)")
        if spec.type == ProgramType.STRUCT_OPS:
            return _member(spec, spec.attach_to)
        return _in_kernel(spec, spec.attach_to, held)
    except BtfError as error:
        raise BpfError(f"cannot load program {spec.name}, which is attached by BTF: {error}") from None


def _in_kernel(spec: ProgramSpec, name: str, held: ExitStack) -> AttachTarget:
    prefix, kind, what = _PREFIXES.get(spec.attach_type, _FUNCTION)
    module, colon, bare = name.rpartition(":")
    try:
        found = find_type(f"{module}{colon}{prefix}{bare}", kind)
    except NotFoundError:
        where = f"module {module}" if module else "the kernel"
        reason = "it is misspelt, compiled away, or in a module that is not loaded"
        raise _absent(spec, f"{where} has no {what} {bare!r}: {reason}") from None
    fd = 0 if found.module is None else held.enter_context(open_module_types(found.module)).fd
    return AttachTarget(found.type_id, fd, spec.attach_type)


def _member(spec: ProgramSpec, path: str) -> AttachTarget:
    struct, dot, member = path.partition(".")
    if not dot:
        raise BpfError(f"program {spec.name}: attach_to is {path!r}, but has to name {_EXAMPLES[spec.type]}")
    try:
        type_id = vmlinux().find(struct, Kind.STRUCT)
    except NotFoundError:
        raise _absent(spec, f"this kernel has no struct {struct}") from None
    record = vmlinux().type(type_id)
    members = [each.name for each in record.members] if isinstance(record, kinds.Struct) else []
    if member not in members:
        raise _absent(spec, f"struct {struct} of this kernel has no member {member!r}")
    return AttachTarget(type_id, 0, members.index(member))


def _of_program(spec: ProgramSpec, function: str, target: "Program") -> AttachTarget:
    number = target.info().btf_id
    if not number:
        raise _absent(spec, f"its target, program {target.spec.name}, has no types (BTF)")
    try:
        return AttachTarget(read_types(number).find(function, Kind.FUNC), target.fd, spec.attach_type)
    except NotFoundError:
        raise _absent(spec, f"its target, program {target.spec.name}, has no function {function!r}") from None


def _absent(spec: ProgramSpec, text: str) -> KernelError:
    return KernelError(errno.ENOENT, f"cannot load program {spec.name}: {text} (ENOENT)")
