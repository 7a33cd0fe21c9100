"""What runs on this node: pods' processes, cgroups and network namespaces, and events that say when to look again."""

from merbridge.watchers.cgroups import host_cgroup_root, known_cgroups, pod_cgroup_ids, pod_uid_of
from merbridge.watchers.inotify import CgroupWatcher
from merbridge.watchers.netns import Netns, read_netns
from merbridge.watchers.observe import NodeObservation, NodeObserver, PodPresence
from merbridge.watchers.process_events import ProcessEvents, open_process_events
from merbridge.watchers.processes import PodProcess, pod_processes

__all__ = [
    "CgroupWatcher",
    "Netns",
    "NodeObservation",
    "NodeObserver",
    "PodPresence",
    "PodProcess",
    "ProcessEvents",
    "host_cgroup_root",
    "known_cgroups",
    "open_process_events",
    "pod_cgroup_ids",
    "pod_processes",
    "pod_uid_of",
    "read_netns",
]
