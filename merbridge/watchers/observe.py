"""One look at the node: the pods present, their cgroups and network namespaces.

What costs time is kept from one look to the next: see `ProcessTable` and `NetnsTable`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.cgroups import NO_CGROUP, Cgroup, host_cgroup_ids, known_cgroups, pod_cgroup_ids
from merbridge.watchers.netns import Netns, NetnsGoneError, NetnsTable, read_netns
from merbridge.watchers.processes import NetnsId, ProcessTable, in_same_netns, netns_id, pod_uid_of_process

_Pids = list[int]


@attrs.frozen
class PodPresence:
    """A pod that has cgroups or processes on the node.

    `netns` are the distinct network namespaces of its processes, by inode number; the host's is never among them.
    """

    uid: str
    cgroup_ids: frozenset[int]
    netns: tuple[Netns, ...]


@attrs.frozen
class NodeObservation:
    """The pods present on the node by UID (the kubelet's: see `merbridge.model.Pod.kubelet_uid`).

    `host` is the node's own network namespace, `exempt_cgroups` are the ids of the host's cgroups whose connections are
    left alone.
    """

    pods: Mapping[str, PodPresence]
    host: Netns
    exempt_cgroups: frozenset[int] = frozenset()

    def is_same(self, other: "NodeObservation") -> bool:
        """Whether the same was seen, by the same processes."""
        return self == other and self._witnesses() == other._witnesses()

    def _witnesses(self) -> list[int]:
        return [self.host.pid, *(netns.pid for pod in self.pods.values() for netns in pod.netns)]


class NodeObserver:
    """Looks at the node's processes through `proc` and at its cgroup2 tree below `cgroup_root`.

    `exempt` names cgroups of the host, see `merbridge.watchers.cgroups.host_cgroup_ids`; `host_pid` is a process in the
    node's own network namespace.
    """

    def __init__(self, proc: Path, cgroup_root: Path, exempt: str = NO_CGROUP, host_pid: int = 1) -> None:
        """Nothing is read yet."""
        self._proc = proc
        self._cgroup_root = cgroup_root
        self._exempt = exempt
        self._host_pid = host_pid
        self._processes = ProcessTable(proc)
        self._namespaces = NetnsTable(proc)

    def observe(self, cgroups: Sequence[Cgroup] | None = None) -> NodeObservation:
        """Look now; raises `MerbridgeError` when the privilege, the kernel or the directories do not allow it.

        `cgroups` are those below the cgroup root, where they are known.
        """
        host = self._host()
        pids_by_netns = self._pids_by_pod_and_netns(host)
        if cgroups is None:
            # After the processes, so that no cgroup of a process seen above is missed.
            cgroups = known_cgroups(self._cgroup_root)
        cgroup_ids = pod_cgroup_ids(cgroups)
        namespaces = self._read_all(pids_by_netns, host)
        self._namespaces.forget_unseen()
        uids = sorted(cgroup_ids.keys() | pids_by_netns.keys())
        pods = {uid: PodPresence(uid, cgroup_ids.get(uid, frozenset()), namespaces.get(uid, ())) for uid in uids}
        return NodeObservation(pods, host, host_cgroup_ids(cgroups, self._cgroup_root, self._exempt))

    def _host(self) -> Netns:
        pid = self._pid_on_the_host_network()
        identity = netns_id(pid, self._proc) if self._host_pid != 1 else None
        try:
            return read_netns(pid, self._proc) if identity is None else self._namespaces.read(identity, pid)
        except NetnsGoneError:
            raise MerbridgeError(f"{self._proc}: process {pid} has ended: see --host-pid") from None

    def _pid_on_the_host_network(self) -> int:
        """The process that was named; for PID 1 this one, where that may not be looked at and both are in one."""
        if self._host_pid != 1:
            return self._host_pid
        try:
            if netns_id(1, self._proc) is not None:
                return 1
        except MerbridgeError:
            if in_same_netns(1, "self", self._proc):
                return int((self._proc / "self").readlink().name)
            raise
        raise MerbridgeError(f"{self._proc}: no process 1 there: see --proc")

    def _pids_by_pod_and_netns(self, host: Netns) -> Mapping[str, Mapping[NetnsId, _Pids]]:
        found: dict[str, dict[NetnsId, _Pids]] = defaultdict(lambda: defaultdict(list))
        for process in self._processes.look():
            # A runtime's helper is in the pod's cgroup before it enters the pod's namespace.
            if process.netns.inode != host.inode:
                found[process.pod_uid][process.netns].append(process.pid)
        return found

    def _read_all(
        self, pids_by_netns: Mapping[str, Mapping[NetnsId, _Pids]], host: Netns
    ) -> Mapping[str, tuple[Netns, ...]]:
        return {
            uid: tuple(sorted(self._read_of_pod(uid, holders, host), key=lambda netns: netns.inode))
            for uid, holders in pids_by_netns.items()
        }

    def _read_of_pod(self, uid: str, pids_by_netns: Mapping[NetnsId, _Pids], host: Netns) -> set[Netns]:
        read = (self._read_by_any(uid, identity, pids) for identity, pids in pids_by_netns.items())
        return {netns for netns in read if netns is not None and netns.cookie != host.cookie}

    def _is_of(self, pid: int, uid: str) -> bool:
        return pod_uid_of_process(pid, self._proc) == uid

    def _read_by_any(self, uid: str, identity: NetnsId, pids: _Pids) -> Netns | None:
        for pid in pids:
            try:
                # The PID may be another pod's process by now.
                return self._namespaces.read(identity, pid, partial(self._is_of, pid, uid))
            except NetnsGoneError:
                continue
        return None
