"""Programs on cgroups (v2): what the processes in a cgroup and below it do with sockets, and some other things.

A program of the cgroup itself runs before those of the cgroups above it, unless one is attached as `preorder`.
All that are attached run; one that refuses is enough.
"""

import errno
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from pybpfasm.kernel import features, sys
from pybpfasm.kernel.links.attempt import attempting, lacks
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.links.direct import DirectAttachment, attach_directly, detach_directly
from pybpfasm.kernel.links.order import Order, ordering
from pybpfasm.kernel.links.query import Attached, query
from pybpfasm.kernel.links.target import opened
from pybpfasm.kernel.permissions import missing_for
from pybpfasm.kernel.programs import Program
from pybpfasm.records import frozen
from pybpfasm.uapi import AttachFlag, AttachType, ProgramType


@frozen
class CgroupHook:
    """A hook of cgroups: which programs it takes, and the Linux version it came in."""

    program_type: ProgramType
    since: str


_HOOKS: Iterable[tuple[ProgramType, str, tuple[AttachType, ...]]] = (
    (ProgramType.CGROUP_SKB, "4.10", (AttachType.CGROUP_INET_INGRESS, AttachType.CGROUP_INET_EGRESS)),
    (ProgramType.CGROUP_SOCK, "4.10", (AttachType.CGROUP_INET_SOCK_CREATE,)),
    (ProgramType.CGROUP_SOCK, "4.17", (AttachType.CGROUP_INET4_POST_BIND, AttachType.CGROUP_INET6_POST_BIND)),
    (ProgramType.CGROUP_SOCK, "5.9", (AttachType.CGROUP_INET_SOCK_RELEASE,)),
    (ProgramType.SOCK_OPS, "4.13", (AttachType.CGROUP_SOCK_OPS,)),
    (ProgramType.CGROUP_DEVICE, "4.15", (AttachType.CGROUP_DEVICE,)),
    (
        ProgramType.CGROUP_SOCK_ADDR,
        "4.17",
        (
            AttachType.CGROUP_INET4_BIND,
            AttachType.CGROUP_INET6_BIND,
            AttachType.CGROUP_INET4_CONNECT,
            AttachType.CGROUP_INET6_CONNECT,
        ),
    ),
    (ProgramType.CGROUP_SOCK_ADDR, "4.18", (AttachType.CGROUP_UDP4_SENDMSG, AttachType.CGROUP_UDP6_SENDMSG)),
    (ProgramType.CGROUP_SOCK_ADDR, "5.2", (AttachType.CGROUP_UDP4_RECVMSG, AttachType.CGROUP_UDP6_RECVMSG)),
    (
        ProgramType.CGROUP_SOCK_ADDR,
        "5.8",
        (
            AttachType.CGROUP_INET4_GETPEERNAME,
            AttachType.CGROUP_INET6_GETPEERNAME,
            AttachType.CGROUP_INET4_GETSOCKNAME,
            AttachType.CGROUP_INET6_GETSOCKNAME,
        ),
    ),
    (
        ProgramType.CGROUP_SOCK_ADDR,
        "6.7",
        (
            AttachType.CGROUP_UNIX_CONNECT,
            AttachType.CGROUP_UNIX_SENDMSG,
            AttachType.CGROUP_UNIX_RECVMSG,
            AttachType.CGROUP_UNIX_GETPEERNAME,
            AttachType.CGROUP_UNIX_GETSOCKNAME,
        ),
    ),
    (ProgramType.CGROUP_SYSCTL, "5.2", (AttachType.CGROUP_SYSCTL,)),
    (ProgramType.CGROUP_SOCKOPT, "5.3", (AttachType.CGROUP_GETSOCKOPT, AttachType.CGROUP_SETSOCKOPT)),
    (ProgramType.LSM, "6.0", (AttachType.LSM_CGROUP,)),
)

CGROUP_HOOKS: Mapping[AttachType, CgroupHook] = {
    hook: CgroupHook(program_type, since) for program_type, since, hooks in _HOOKS for hook in hooks
}


class CgroupMode(Enum):
    """Who may be beside a program that is attached without a link; links are always MULTI."""

    EXCLUSIVE = AttachFlag(0)  # nobody, and nobody in the cgroups below
    OVERRIDE = AttachFlag.ALLOW_OVERRIDE  # one in a cgroup below runs instead of it
    MULTI = AttachFlag.ALLOW_MULTI  # others here and below run, too


_CAUSES = {
    errno.EBADF: "the target is no cgroup (v2)",
    errno.EINVAL: "the kernel takes a program without a link once, and places links beside links, others beside others",
    errno.ENOENT: "the cgroup is gone, or the program or link to be placed beside or replaced is not attached there",
    errno.ESTALE: "what is attached there has changed since expected_revision was read: query again",
    errno.E2BIG: "64 programs are attached there, which is as many as can be",
}


def attach_cgroup(
    program: Program,
    cgroup: int | Path,
    *,
    hook: AttachType | None = None,
    order: Order | None = None,
    expected_revision: int = 0,
    preorder: bool = False,
) -> Link:
    """Attach to a cgroup (v2), by path or descriptor, and all below it, beside the programs of others (Linux 5.7).

    The hook is the one the program was loaded for, unless it was opened and does not say. Without an `order` it comes
    last; the anchor of one is a link. `preorder` has it run before the programs of the cgroups below. With
    `expected_revision`, from `query_cgroup`, only if nothing was attached or detached since. These three need Linux
    6.17. Raises `KernelError`: EBADF if `cgroup` is none, ENOENT if what `order` names is not attached, EINVAL if it
    has no link or the program is not for this hook, ESTALE for another revision; `UnsupportedFeatureError` where the
    kernel lacks one of these.
    """
    chosen = _hook_of(program, hook)
    attempted = f"attach program {program.spec.name} to the cgroup's hook {chosen.name.lower()}"
    place = ordering(order, expected_revision)
    if preorder:
        place["flags"] = place.get("flags", AttachFlag(0)) | AttachFlag.PREORDER
    if place:
        _require_order()
    with opened(cgroup) as target, attempting(attempted, _causes(program), features.CGROUP_LINK):
        return create(program, target, attempted, attach_type=chosen, **place)


def attach_cgroup_directly(
    program: Program,
    cgroup: int | Path,
    *,
    hook: AttachType | None = None,
    mode: CgroupMode = CgroupMode.MULTI,
    replace: Program | None = None,
    order: Order | None = None,
    expected_revision: int = 0,
) -> DirectAttachment:
    """Attach without a link, as kernels before 5.7 did: for another mode than a link's, or to take another's place.

    In the modes EXCLUSIVE and OVERRIDE it takes the place of a program that is there in the same mode; in MULTI that of
    `replace` (Linux 5.6), else the last, or, from Linux 6.17 on, that of `order`, whose anchor is a program without a
    link; `expected_revision` is as in `attach_cgroup`. Raises `KernelError`: EPERM if what is attached here or above
    does not allow the mode, EBADF if `cgroup` is none, EINVAL if the program is there already or is for another hook,
    ENOENT if what `order` or `replace` names is not there.
    """
    chosen = _hook_of(program, hook)
    attempted = f"attach program {program.spec.name} to the cgroup's hook {chosen.name.lower()}"
    if order or expected_revision:
        _require_order()
    flags, relative = (order.flags, order.relative) if order else (AttachFlag(0), 0)
    with opened(cgroup) as target, attempting(attempted, _causes(program)):
        attach_directly(
            program,
            target,
            chosen,
            mode.value | flags,
            attempted,
            replaced=replace,
            relative=relative,
            expected_revision=expected_revision,
        )
        return DirectAttachment(program, target, chosen, mode.value, features.CGROUP_LINK)


def detach_cgroup_directly(program: Program, cgroup: int | Path, *, hook: AttachType | None = None) -> None:
    """Detach a program that was attached without a link, by this process or another.

    Raises `KernelError`: ENOENT if it is not there, or a link holds it.
    """
    chosen = _hook_of(program, hook)
    attempted = f"detach program {program.spec.name} from the cgroup's hook {chosen.name.lower()}"
    with opened(cgroup) as target, attempting(attempted, {errno.ENOENT: "it is not attached there, or by a link"}):
        detach_directly(program, target, chosen, attempted)


def query_cgroup(cgroup: int | Path, hook: AttachType, *, effective: bool = False) -> Attached:
    """What is attached to a cgroup at a hook: to itself, or, if `effective`, all that runs for it, in that order.

    Raises `KernelError`: EBADF if `cgroup` is none, EINVAL if the kernel does not know the hook.
    """
    attempted = f"ask what is attached to the cgroup's hook {hook.name.lower()}"
    if hook not in CGROUP_HOOKS:
        raise sys.failure(errno.EINVAL, attempted, "cgroups have no such hook")
    causes = {
        errno.EBADF: _CAUSES[errno.EBADF],
        errno.EINVAL: f"the kernel lacks it: it needs Linux {CGROUP_HOOKS[hook].since} or later",
    }
    with opened(cgroup) as target, attempting(attempted, causes):
        return query(target, hook, attempted, effective=effective)


def _hook_of(program: Program, hook: AttachType | None) -> AttachType:
    chosen = program.spec.attach_type if hook is None else hook
    known = CGROUP_HOOKS.get(chosen)
    if known is None or known.program_type != program.spec.type:
        kind = f"of type {program.spec.type.name.lower()} for hook {chosen.name.lower()}"
        attempted = f"attach program {program.spec.name} to a cgroup"
        raise sys.failure(errno.EINVAL, attempted, f"it is {kind}, which cgroups do not have")
    return chosen


def _causes(program: Program) -> Mapping[int, str]:
    """What errors mean; EPERM means this only to who has the privilege."""
    if missing_for(program.spec.type):
        return _CAUSES
    return {**_CAUSES, errno.EPERM: "a program here or above was attached in a mode that lets none beside it"}


def _require_order() -> None:
    """Older kernels have other arguments at a revision's place, and do not look at them for cgroups."""
    if lacks(features.CGROUP_ORDER):
        raise features.CGROUP_ORDER.error()
