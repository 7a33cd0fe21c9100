"""Programs that the kernel calls at places named by BTF: fentry, fexit, fmod_ret, tp_btf, LSM hooks, and replacements.

Where such a program goes was said when it was loaded (`attach_to`): the verifier knows the arguments from there. A
program that traces or replaces a function of another program may be attached to more of the same prototype.
"""

import errno
from pathlib import Path

from pybpfasm.btf import Kind
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.kernel.btf_objects import read_types
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, Command, ProgramType

_KINDS = (ProgramType.TRACING, ProgramType.LSM, ProgramType.EXT)

_MODULES = Path("/sys/kernel/security/lsm")

_CAUSES = {
    errno.EBUSY: "the function has another program that takes its place or must be alone there",
    errno.EINVAL: "the function cannot be traced (notrace, or too short), or cookies are not known to this kernel",
    errno.EOPNOTSUPP: "this kernel has no trampolines for it (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)",
    errno.E2BIG: "the function has as many programs as can be (38)",
    errno.ENOENT: "it was attached once, which before Linux 5.13 is all (load it again), or its function is gone",
}


def attach_tracing(program: Program, *, cookie: int = 0) -> Link:
    """Attach a program of type tracing (fentry, fexit, fmod_ret, tp_btf; Linux 5.5), LSM (5.7) or ext (5.6).

    It goes where it was loaded for. `cookie` is what bpf_get_attach_cookie gives (Linux 5.19). An LSM program for
    cgroups is for `attach_cgroup`, an iterator for `attach_iterator`.
    Raises `KernelError`: EBUSY if its function has been replaced already, EINVAL where it cannot be traced, EOPNOTSUPP
    for an LSM program that would never be called; `BpfError` for a program of another type.
    """
    _check(program)
    attempted = f"attach program {program.spec.name} to {program.spec.attach_to or 'what it was loaded for'}"
    inactive = _inactive_lsm() if program.spec.type == ProgramType.LSM else None
    if inactive is not None:
        raise sys.failure(errno.EOPNOTSUPP, attempted, inactive)
    with attempting(attempted, _CAUSES):
        if cookie:
            return create(program, 0, attempted, tracing={"cookie": cookie})
        # Older kernels know tracing programs by this command alone.
        request = sys.new("raw_tracepoint_open", prog_fd=program.fd)
        return Link(sys.bpf(Command.RAW_TRACEPOINT_OPEN, request, attempted))


def attach_to_program(program: Program, target: Program, function: str, *, cookie: int = 0) -> Link:
    """Attach to a function of another program: replace it (ext), or trace it (fentry, fexit) (Linux 5.10).

    It may be another than it was loaded for, of the same prototype. The function has to be global to be replaced, and
    is itself again when the link ends.
    Raises `KernelError`: ENOENT if the target has no such function, EBUSY if it is replaced already, EINVAL if the
    prototypes differ.
    """
    _check(program)
    attempted = f"attach program {program.spec.name} to function {function} of program {target.spec.name}"
    causes = _CAUSES | {errno.EINVAL: "the prototypes differ, or the function is static"}
    fields = {"target_btf_id": _function_id(target, function, attempted), "cookie": cookie}
    with attempting(attempted, causes):
        return create(program, target.fd, attempted, attach_type=program.spec.attach_type, tracing=fields)


def _check(program: Program) -> None:
    spec = program.spec
    fits = spec.type in _KINDS and spec.attach_type not in (AttachType.TRACE_ITER, AttachType.LSM_CGROUP)
    if not fits:
        kind = f"{spec.type.name.lower()}, for {spec.attach_type.name.lower()}"
        raise BpfError(f"cannot attach program {spec.name} as one of tracing: it is of type {kind}")


def _inactive_lsm() -> str | None:
    """Why LSM programs, though attached, are never called: bpf is no active security module; None if it is.

    None, too, where securityfs is not mounted, and it cannot be told.
    """
    try:
        active = _MODULES.read_text().strip()
    except OSError:
        return None
    if "bpf" in active.split(","):
        return None
    return f"bpf is not among the active security modules: boot with lsm={active},bpf"


def _function_id(target: Program, function: str, attempted: str) -> int:
    number = target.info().btf_id
    found = read_types(number).find_all(function, Kind.FUNC) if number else []
    if not found:
        text = f"program {target.spec.name} has no function of that name in its BTF"
        raise KernelError(errno.ENOENT, f"cannot {attempted}: {text} (ENOENT)")
    return found[0]
