"""Attaching a program by what its section or its author says of it, as libbpf's auto-attach does.

What a program does not say itself (a cgroup, an interface, a namespace, a map of sockets) is in `Targets`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from pybpfasm.errors import BpfError
from pybpfasm.kernel.links.base import Attachment
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.records import frozen
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType


@frozen
class Targets:
    """Where programs are to be attached that do not say it themselves; None where there are no such programs."""

    cgroup: int | Path | None = None
    interface: int | str | None = None
    netns: int | Path | None = None
    sockets: Map | None = None


Attach = Callable[[Program], Attachment]

# Types that run when something else calls them: user space, another program, a socket option.
_NOT_ATTACHED = {
    ProgramType.SYSCALL,
    ProgramType.SOCKET_FILTER,
    ProgramType.SCHED_ACT,
    ProgramType.STRUCT_OPS,
    ProgramType.SK_REUSEPORT,
    ProgramType.LWT_IN,
    ProgramType.LWT_OUT,
    ProgramType.LWT_XMIT,
    ProgramType.LWT_SEG6LOCAL,
}

_OFFSET = re.compile(r"(?P<name>[^+]+)(\+(?P<offset>0x[0-9a-fA-F]+|\d+))?")


def is_attached(spec: ProgramSpec) -> bool:
    """Whether programs of this kind are attached to something at all."""
    if spec.type == ProgramType.XDP:
        return spec.attach_type == AttachType.XDP
    return spec.type not in _NOT_ATTACHED


def way_to_attach(spec: ProgramSpec, targets: Targets) -> Attach:
    """How to attach such a program. Raises `BpfError` if its place is not known, and says what to name."""
    found = _at_target(spec, targets) or _at_its_own_place(spec, targets)
    if found is None:
        kind = f"of type {spec.type.name.lower()}" + (f" (section {spec.section!r})" if spec.section else "")
        raise BpfError(
            f"cannot tell where to attach program {spec.name}: it is {kind}; attach it by pybpfasm.kernel.links"
        )
    return found


def _at_target(spec: ProgramSpec, targets: Targets) -> Attach | None:
    """Programs whose place is one of the targets."""
    from pybpfasm.kernel import links
    from pybpfasm.kernel.links.cgroup import CGROUP_HOOKS

    hook = CGROUP_HOOKS.get(spec.attach_type)
    if hook is not None and hook.program_type == spec.type:
        cgroup = targets.cgroup
        if cgroup is None:
            raise _missing(spec, "cgroup")
        return lambda program: links.attach_cgroup(program, cgroup)
    match spec.type:
        case ProgramType.XDP | ProgramType.SCHED_CLS:
            return _at_interface(spec, targets)
        case ProgramType.SK_MSG | ProgramType.SK_SKB if spec.attach_type:
            sockets = targets.sockets
            if sockets is None:
                raise _missing(spec, "sockets")
            return lambda program: links.attach_sockmap(program, sockets)
    return None


def _at_interface(spec: ProgramSpec, targets: Targets) -> Attach | None:
    from pybpfasm.kernel.links.netkit import NetkitEnd, attach_netkit
    from pybpfasm.kernel.links.tc import attach_traffic
    from pybpfasm.kernel.links.tcx import Direction
    from pybpfasm.kernel.links.xdp import attach_xdp

    directions = {AttachType.TCX_INGRESS: Direction.INGRESS, AttachType.TCX_EGRESS: Direction.EGRESS}
    ends = {AttachType.NETKIT_PRIMARY: NetkitEnd.PRIMARY, AttachType.NETKIT_PEER: NetkitEnd.PEER}
    if spec.attach_type not in directions and spec.attach_type not in ends and spec.type != ProgramType.XDP:
        return None
    interface = targets.interface
    if interface is None:
        raise _missing(spec, "interface")
    if spec.attach_type in directions:
        return lambda program: attach_traffic(program, interface, directions[spec.attach_type])
    if spec.attach_type in ends:
        return lambda program: attach_netkit(program, interface, ends[spec.attach_type])
    return lambda program: attach_xdp(program, interface)


def _at_its_own_place(spec: ProgramSpec, targets: Targets) -> Attach | None:
    """Programs that say themselves where they belong, or that belong to a network namespace."""
    from pybpfasm.kernel import links
    from pybpfasm.kernel.links.netns import OWN, attach_netns

    match spec.type:
        case ProgramType.SK_LOOKUP | ProgramType.FLOW_DISSECTOR:
            netns = OWN if targets.netns is None else targets.netns
            return lambda program: attach_netns(program, netns)
        case ProgramType.TRACEPOINT if spec.attach_to:
            return links.attach_tracepoint
        case ProgramType.RAW_TRACEPOINT | ProgramType.RAW_TRACEPOINT_WRITABLE if spec.attach_to:
            return links.attach_raw_tracepoint
        case ProgramType.TRACING if spec.attach_type == AttachType.TRACE_ITER:
            return links.attach_iterator
        case ProgramType.TRACING | ProgramType.LSM | ProgramType.EXT:
            return links.attach_tracing
        case ProgramType.KPROBE if spec.attach_to and not spec.attach_type:
            return _at_probe(spec, spec.attach_to)
    return None


def _at_probe(spec: ProgramSpec, place: str) -> Attach | None:
    """Probes of functions of the kernel (`kprobe/NAME+OFFSET`) and of programs (`uprobe/PATH:NAME+OFFSET`)."""
    from pybpfasm.kernel import links

    kind = spec.section.removeprefix("?").partition("/")[0].removesuffix(".s")
    path, _, function = place.rpartition(":")
    found = _OFFSET.fullmatch(function)
    if found is None:
        return None
    name, offset = found["name"], int(found["offset"] or "0", 0)
    match kind:
        case "kprobe" | "kretprobe":
            return lambda program: links.attach_kprobe(program, name, offset=offset, on_return=kind == "kretprobe")
        case "uprobe" | "uretprobe" if path:
            return lambda program: links.attach_uprobe(
                program, Path(path), name, offset=offset, on_return=kind == "uretprobe"
            )
    return None


def _missing(spec: ProgramSpec, name: str) -> BpfError:
    where = spec.section or spec.attach_type.name.lower()
    return BpfError(f"program {spec.name} ({where}) needs a target: {name}=…")
