"""Programs at netfilter's hooks, beside the rules of nftables and iptables (Linux 6.4).

A program returns NF_DROP (0) or NF_ACCEPT (1) and sees struct bpf_nf_ctx: the packet and the hook's state.
"""

import errno
from enum import IntEnum

from pybpfasm.kernel import features
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, NetfilterFlag


class NetfilterFamily(IntEnum):
    """Which packets: NFPROTO_… of uapi linux/netfilter.h."""

    IPV4 = 2
    IPV6 = 10


class NetfilterHook(IntEnum):
    """Where on their way: NF_INET_… of uapi linux/netfilter.h."""

    PRE_ROUTING = 0
    LOCAL_IN = 1
    FORWARD = 2
    LOCAL_OUT = 3
    POST_ROUTING = 4


_CAUSES = {
    errno.EBUSY: "another program has this hook and priority: choose another priority",
    errno.ERANGE: "this priority is not for programs: the first and the last are the kernel's own, and a program that "
    "wants whole packets comes after defragmentation (above -400)",
    errno.EAFNOSUPPORT: "the kernel has no netfilter hooks for programs, or no defragmentation, of this family",
    errno.EINVAL: "the program is not of type netfilter",
    errno.ENOENT: "defragmentation needs the kernel's module nf_defrag_ipv4 or nf_defrag_ipv6: load it",
    errno.EOPNOTSUPP: "defragmentation needs Linux 6.6 or later",
}


def attach_netfilter(
    program: Program,
    family: NetfilterFamily,
    hook: NetfilterHook,
    priority: int,
    *,
    defragment: bool = False,
) -> Link:
    """Attach to a hook of the calling thread's network namespace, where lower priorities come first (0: filter).

    A priority is one program's. `defragment` (Linux 6.6) shows whole IP packets only. The link keeps the namespace; it
    cannot be updated: attach another with another priority, then close this one. Raises `KernelError`: EBUSY if a
    program has the priority, ERANGE for one that programs cannot have, ENOENT if the kernel cannot load the module that
    defragments; `UnsupportedFeatureError` before Linux 6.4, or in a kernel that was built without these links.
    """
    place = f"{hook.name.lower()} of {family.name.lower()} with priority {priority}"
    attempted = f"attach program {program.spec.name} to netfilter {place}"
    flags = NetfilterFlag.IP_DEFRAG if defragment else 0
    where = {"pf": family, "hooknum": hook, "priority": priority, "flags": flags}
    with attempting(attempted, _CAUSES, features.NETFILTER_LINK):
        return create(program, 0, attempted, attach_type=AttachType.NETFILTER, netfilter=where)
