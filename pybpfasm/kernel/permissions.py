"""What programs need to be allowed, by their type, and why one that is attached may never be called."""

from pathlib import Path

from pybpfasm.kernel.capabilities import Capability, denial, has
from pybpfasm.uapi import ProgramType

# kernel/bpf/syscall.c, is_perfmon_prog_type and is_net_admin_prog_type.
_TRACING = {
    ProgramType.KPROBE,
    ProgramType.TRACEPOINT,
    ProgramType.PERF_EVENT,
    ProgramType.RAW_TRACEPOINT,
    ProgramType.RAW_TRACEPOINT_WRITABLE,
    ProgramType.TRACING,
    ProgramType.LSM,
    ProgramType.STRUCT_OPS,
    ProgramType.EXT,
}
_NEITHER = {ProgramType.SOCKET_FILTER, ProgramType.SYSCALL}

_MODULES = Path("/sys/kernel/security/lsm")


def permission_cause(type_: ProgramType) -> str:
    """What keeps this process from loading a program of that type, in words."""
    return denial(*_wanted(type_))


def missing(type_: ProgramType) -> list[str]:
    """The names of the capabilities that this process lacks for loading programs of that type."""
    return [str(each) for each in _wanted(type_) if not has(each)]


def _wanted(type_: ProgramType) -> tuple[Capability, ...]:
    if type_ in _NEITHER:
        return (Capability.BPF,)
    return (Capability.BPF, Capability.PERFMON if type_ in _TRACING else Capability.NET_ADMIN)


def inactive_lsm() -> str | None:
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
