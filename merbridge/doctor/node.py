"""The node: its kernel, this process's privileges, cgroups, processes, and the place for the pins."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from merbridge.config import Config
from merbridge.datapath.datapath import NEEDED
from merbridge.datapath.hooks import OLDEST_KERNEL
from merbridge.datapath.pins import Pins
from merbridge.doctor.finding import Finding, note, ok, problem
from merbridge.watchers import open_process_events
from merbridge.watchers.cgroups import NO_CGROUP, host_cgroup_ids, known_cgroups, pod_cgroup_ids
from merbridge.watchers.observe import NodeObservation
from pybpfasm.kernel import features, is_bpffs

# By their numbers in linux/capability.h, with what the agent needs them for.
_CAPABILITIES = {
    "NET_ADMIN": (12, "to attach programs to cgroups and devices"),
    "SYS_PTRACE": (19, "to look at pods' network namespaces in /proc"),
    "SYS_ADMIN": (21, "for bpf(), for the bpf file system, and to enter pods' network namespaces"),
}


def look_at_kernel() -> Iterator[Finding]:
    """Whether it has what the programs call."""
    release = os.uname().release
    missing = [feature for feature in NEEDED if not feature.supported()]
    for feature in missing:
        yield problem("kernel", f"Linux {release}: {feature.error()}", f"take Linux {OLDEST_KERNEL} or later")
    if not missing:
        yield ok("kernel", f"Linux {release} has all that the programs need")
    if not features.TCX_LINK.supported():
        yield note(
            "kernel",
            "no tcx links (Linux 6.6): programs at pods' devices are tc filters, which `tc filter del` takes away",
        )


def look_at_privileges() -> Iterator[Finding]:
    """Whether this process has the capabilities that the agent needs: run `doctor` as the agent is run."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    missing = {name: why for name, (number, why) in _CAPABILITIES.items() if not effective >> number & 1}
    for name, why in missing.items():
        yield problem("privileges", f"CAP_{name} is missing, {why}", f"run as root, or add {name} to the container")
    if not missing:
        yield ok("privileges", ", ".join(f"CAP_{name}" for name in _CAPABILITIES))


def look_at_cgroups(config: Config, root: Path) -> Iterator[Finding]:
    """Whether pods' cgroups are found, and the kubelet's."""
    cgroups = known_cgroups(root)
    pods = pod_cgroup_ids(cgroups)
    if pods:
        yield ok("cgroups", f"{root}: cgroups of {len(pods)} pods")
    else:
        yield problem(
            "cgroups",
            f"{root}: no pod's cgroup is below it",
            "on a node with pods: let the kubelet use cgroup2, or name its tree with --cgroup-root",
        )
    exempt = config.exempt_cgroup
    if exempt != NO_CGROUP and not host_cgroup_ids(cgroups, root, exempt):
        yield note(
            "cgroups",
            f"no cgroup of the host is named {exempt}: the kubelet's probes of enrolled pods go to ztunnel",
            "name the kubelet's with --exempt-cgroup, or none",
        )


def look_at_processes(config: Config, observation: NodeObservation) -> Iterator[Finding]:
    """Whether pods' processes are seen, and whether the kernel tells of them."""
    seen = sum(bool(presence.netns) for presence in observation.pods.values())
    if seen:
        yield ok("processes", f"{config.proc}: {seen} pods with processes in network namespaces of their own")
    else:
        yield problem(
            "processes",
            f"{config.proc}: no process of a pod is there",
            "on a node with pods: set hostPID: true in the agent's pod, or name the node's proc with --proc",
        )
    events = open_process_events(config.proc, observation.host.cookie)
    events.close()
    if events.why:
        yield note("processes", f"the agent learns of new ones by {events.way}: {events.why}")


def look_at_pins(config: Config) -> Iterator[Finding]:
    """Whether there is a place for what has to outlive the agent."""
    root = Pins(config.bpffs).root
    if root.is_dir() and is_bpffs(root):
        yield ok("pins", f"{root} is in a bpf file system")
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        yield problem("pins", f"{root} is something else than a bpf file system", "name another place with --bpffs")
    else:
        yield note("pins", f"{root}: nothing is there yet: the agent makes it, with a bpf file system if it needs one")
