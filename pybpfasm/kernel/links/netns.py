"""Programs on network namespaces: sk_lookup chooses a packet's socket, a flow dissector takes packets apart."""

import errno
from pathlib import Path

from pybpfasm.kernel import features
from pybpfasm.kernel.links.attempt import attempting
from pybpfasm.kernel.links.base import Link, create
from pybpfasm.kernel.links.query import Attached, query
from pybpfasm.kernel.links.target import opened
from pybpfasm.kernel.programs import Program
from pybpfasm.uapi import AttachType, ProgramType

OWN = Path("/proc/thread-self/ns/net")

_HOOKS = {ProgramType.SK_LOOKUP: AttachType.SK_LOOKUP, ProgramType.FLOW_DISSECTOR: AttachType.FLOW_DISSECTOR}

_CAUSES = {
    errno.E2BIG: "it has as many as it can have: one flow dissector, 64 sk_lookup programs",
    errno.EEXIST: "a program that has no link is attached there, or the first namespace has a flow dissector for all",
    errno.EINVAL: "the target is no network namespace, or the program is for another kind of hook",
}


def attach_netns(program: Program, netns: int | Path = OWN) -> Link:
    """Attach an sk_lookup program (Linux 5.9) or a flow dissector (5.8) to a network namespace.

    `netns` is a descriptor or a path such as /proc/PID/ns/net; without it, the calling thread's. sk_lookup programs run
    in the order in which they were attached; of flow dissectors there is one. The link does not keep the namespace.
    Raises `KernelError`: E2BIG if there are as many as can be, EEXIST if one is attached that has no link, EINVAL for
    other programs and targets; `UnsupportedFeatureError` on an older kernel.
    """
    attempted = f"attach program {program.spec.name} to the network namespace"
    hook = _HOOKS.get(program.spec.type, program.spec.attach_type)
    with opened(netns) as target, attempting(attempted, _CAUSES, features.NETNS_LINK):
        return create(program, target, attempted, attach_type=hook)


def query_netns(hook: AttachType, netns: int | Path = OWN) -> Attached:
    """The programs of a network namespace at a hook, SK_LOOKUP or FLOW_DISSECTOR (Linux 5.8).

    Raises `KernelError`: EINVAL for another hook or another kind of target.
    """
    attempted = f"ask what is attached to the network namespace's hook {hook.name.lower()}"
    causes = {errno.EINVAL: "network namespaces have no such hook, or the target is none"}
    with opened(netns) as target, attempting(attempted, causes):
        return query(target, hook, attempted)
