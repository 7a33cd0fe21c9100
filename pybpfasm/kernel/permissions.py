"""What BPF asks of a process, by command and by type of program, and why the kernel said EPERM (capabilities(7)).

    EPERM ──> a capability is missing ──> its name
        └──> all are there ──> lockdown, a seccomp filter, a user namespace, a security module

CAP_BPF and CAP_PERFMON came in Linux 5.8; before, and still, CAP_SYS_ADMIN stands for both and for CAP_NET_ADMIN here.
"""

import os
import re
from collections.abc import Sequence
from enum import IntEnum

from pybpfasm.uapi import Command, ProgramType


class Capability(IntEnum):
    """Capabilities that BPF asks for, numbered as in linux/capability.h."""

    NET_ADMIN = 12
    SYS_ADMIN = 21
    SYS_RESOURCE = 24
    PERFMON = 38
    BPF = 39

    def __str__(self) -> str:
        return f"CAP_{self.name}"


# What most commands may ask for, depending on the object.
_USUAL = (Capability.BPF, Capability.NET_ADMIN)

# kernel/bpf/syscall.c: these look at one capability, whatever the object.
_SPECIAL = {
    Command.PROG_GET_NEXT_ID: (Capability.SYS_ADMIN,),
    Command.MAP_GET_NEXT_ID: (Capability.SYS_ADMIN,),
    Command.BTF_GET_NEXT_ID: (Capability.SYS_ADMIN,),
    Command.LINK_GET_NEXT_ID: (Capability.SYS_ADMIN,),
    Command.PROG_GET_FD_BY_ID: (Capability.SYS_ADMIN,),
    Command.MAP_GET_FD_BY_ID: (Capability.SYS_ADMIN,),
    Command.BTF_GET_FD_BY_ID: (Capability.SYS_ADMIN,),
    Command.LINK_GET_FD_BY_ID: (Capability.SYS_ADMIN,),
    Command.TASK_FD_QUERY: (Capability.SYS_ADMIN,),
    Command.ENABLE_STATS: (Capability.SYS_ADMIN,),
}

# These do without for the plainest maps and programs, if the sysctl lets them.
_OPEN_TO_ALL = (Command.MAP_CREATE, Command.PROG_LOAD)

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

_STATUS = "/proc/self/status"
_UNPRIVILEGED = "/proc/sys/kernel/unprivileged_bpf_disabled"
_UID_MAP = "/proc/self/uid_map"
_LOCKDOWN = "/sys/kernel/security/lockdown"


def command_denial(command: Command) -> str:
    """What keeps this process from a bpf(2) command, in words that follow "cannot …:"."""
    cause = denial(*_SPECIAL.get(command, _USUAL))
    setting = _read(_UNPRIVILEGED).strip()
    if command in _OPEN_TO_ALL and setting not in ("", "0") and not has(Capability.BPF):
        return f"{cause}, as kernel.unprivileged_bpf_disabled is {setting}"
    return cause


def program_denial(type_: ProgramType) -> str:
    """What keeps this process from loading a program of that type, likewise."""
    return denial(*_for_program(type_))


def missing_for(type_: ProgramType) -> list[str]:
    """The names of the capabilities that this process lacks for loading programs of that type."""
    return [str(each) for each in _for_program(type_) if not has(each)]


def denial(*wanted: Capability) -> str:
    """What keeps this process from something that takes the capabilities `wanted`, in words.

    Only what this process can see of itself is looked at; where all is there it names what else may be the cause.
    """
    status = _read(_STATUS)
    missing = [each for each in wanted if not _has(status, each)]
    if missing:
        needed = f"it needs root, or {_listed(wanted)}"
        return needed if len(missing) == len(wanted) else f"{needed}; {_listed(missing)} is missing"
    return _other_cause(status)


def has(capability: Capability) -> bool:
    """Whether this process has it, or one that stands for it."""
    return _has(_read(_STATUS), capability)


def _for_program(type_: ProgramType) -> tuple[Capability, ...]:
    if type_ in _NEITHER:
        return (Capability.BPF,)
    return (Capability.BPF, Capability.PERFMON if type_ in _TRACING else Capability.NET_ADMIN)


def _other_cause(status: str) -> str:
    shown = _read(_LOCKDOWN)  # empty where securityfs is not mounted
    lockdown = re.search(r"\[(\w+)\]", shown)
    if lockdown and lockdown[1] != "none":
        return f"kernel lockdown ({lockdown[1]}) forbids it"
    if _field(status, "Seccomp") not in ("", "0"):
        return "a seccomp filter forbids it: containers have one that refuses bpf()"
    if _read(_UID_MAP).split() not in (["0", "0", "4294967295"], []):
        return "the capabilities are those of a user namespace, and it takes the initial one's"
    module = "a security module" if shown else "a security module or kernel lockdown"
    return f"the capabilities are there: {module} forbids it, or the object is guarded (frozen, exclusive)"


def _has(status: str, capability: Capability) -> bool:
    effective = int(_field(status, "CapEff") or "0", 16)
    administrator = capability != Capability.SYS_RESOURCE and effective >> Capability.SYS_ADMIN & 1
    return bool(effective >> capability & 1 or administrator)


def _listed(capabilities: Sequence[Capability]) -> str:
    return " and ".join(map(str, capabilities))


def _field(status: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)", status, re.MULTILINE)
    return found[1] if found else ""


def _read(path: str) -> str:
    """The text; empty where it is not to be had, since an error about an error helps nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 1 << 16).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
