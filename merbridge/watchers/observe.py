"""One look at the node: the pods present, their cgroups and network namespaces.

What costs time is kept from one look to the next: see `ProcessTable` and `NetnsTable`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.cgroups import NO_CGROUP, Cgroup, host_cgroup_ids, known_cgroups, pod_cgroup_ids
from merbridge.watchers.netns import Netns, NetnsGoneError, NetnsTable, read_netns
from merbridge.watchers.process_events import SCANS, ProcessChanges, ProcessEvents
from merbridge.watchers.processes import (
    NetnsId,
    PodProcess,
    ProcessTable,
    in_same_netns,
    netns_id,
    pod_uid_of_process,
)

_Pids = list[int]
_PidsByPod = Mapping[str, Mapping[NetnsId, _Pids]]

# By pod: processes in each namespace, and the namespaces as they were read.
_Found = tuple[_PidsByPod, Mapping[str, "tuple[Netns, ...]"]]

_NOTHING_TOLD = ProcessChanges()

# So many network namespaces of a pod are followed.
MOST_NETNS = 16


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
        self._events: ProcessEvents | None = None
        self._host_cookie = 0
        # A line on events that cannot be read: all processes are looked at then.
        self.problem = ""
        self._witnesses: frozenset[int] = frozenset()
        self._new_witnesses: frozenset[int] = frozenset()

    def follow(self, events: ProcessEvents, host: Netns) -> None:
        """Go by these events from now on, which leave out processes in the host's namespace; they stay the caller's."""
        self._events, self._host_cookie = events, host.cookie
        self._processes = ProcessTable(self._proc, before_scan=events.forget_all)

    @property
    def scans(self) -> bool:
        """Whether each look is at all processes."""
        return self._events is None or self._events.way == SCANS or not self._processes.is_told_all

    @property
    def way(self) -> str:
        """How changes of processes are noticed, for people."""
        way = SCANS if self._events is None else self._events.way
        is_believed = not self._processes.was_read or self._processes.is_told_all
        return way if way == SCANS or is_believed else f"{SCANS} (cgroup v1)"

    def observe(self, cgroups: Sequence[Cgroup] | None = None) -> NodeObservation:
        """Look now; raises `MerbridgeError` when the privilege, the kernel or the directories do not allow it.

        `cgroups` are those below the cgroup root, where they are known.
        """
        host = self._host()
        changes = self._changes(host)
        pids_by_netns, namespaces = self._look(host, changes)
        if changes is not None and self._processes.is_scan_due:
            pids_by_netns, namespaces = self._look(host, _NOTHING_TOLD)
        self._watch(namespaces, changes)
        if cgroups is None:
            # After the processes, so that no cgroup of a process seen above is missed.
            cgroups = known_cgroups(self._cgroup_root)
        cgroup_ids = pod_cgroup_ids(cgroups)
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

    def _changes(self, host: Netns) -> ProcessChanges | None:
        if self._events is None or host.cookie != self._host_cookie:
            return None
        try:
            changes = self._events.read()
        except Exception as error:  # noqa: BLE001  # whatever it is, as if it had been lost
            self.problem = " ".join(f"{self._events.way}: cannot be read: {error}".split())
            changes = ProcessChanges(is_whole=False)
        else:
            self.problem = ""
        if changes is None:
            return None
        # One may have ended before it was watched: look once more.
        return attrs.evolve(changes, told=changes.told | (self._new_witnesses - changes.went))

    def _look(self, host: Netns, changes: ProcessChanges | None) -> _Found:
        pids_by_netns = self._pids_by_pod_and_netns(host, self._processes.look(changes))
        if self._events is not None and self._processes.missed:
            self._events.forget(self._processes.missed)
        return pids_by_netns, self._read_all(pids_by_netns, host)

    def _watch(self, namespaces: Mapping[str, tuple[Netns, ...]], changes: ProcessChanges | None) -> None:
        if self._events is None or changes is None:
            return
        witnesses = frozenset(netns.pid for of_pod in namespaces.values() for netns in of_pod)
        self._events.watch(witnesses)
        self._new_witnesses = witnesses - (self._witnesses - changes.went)
        self._witnesses = witnesses

    def _pids_by_pod_and_netns(self, host: Netns, processes: Iterable[PodProcess]) -> _PidsByPod:
        found: dict[str, dict[NetnsId, _Pids]] = defaultdict(lambda: defaultdict(list))
        for process in processes:
            # A runtime's helper is in the pod's cgroup before it enters the pod's namespace.
            if process.netns.inode != host.inode:
                found[process.pod_uid][process.netns].append(process.pid)
        return found

    def _read_all(self, pids_by_netns: _PidsByPod, host: Netns) -> Mapping[str, tuple[Netns, ...]]:
        return {
            uid: tuple(sorted(self._read_of_pod(uid, holders, host), key=lambda netns: netns.inode))
            for uid, holders in pids_by_netns.items()
        }

    def _read_of_pod(self, uid: str, pids_by_netns: Mapping[NetnsId, _Pids], host: Netns) -> set[Netns]:
        # A pod has one, seldom a few. Of one that makes them without end those count that were known before, then those
        # of the oldest processes; in the others it is known by its cgroups.
        order = sorted(pids_by_netns.items(), key=lambda each: (not self._namespaces.knows(each[0]), min(each[1])))
        read = (self._read_by_any(uid, identity, pids) for identity, pids in order[:MOST_NETNS])
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
        self._processes.doubt(pids)
        return None
