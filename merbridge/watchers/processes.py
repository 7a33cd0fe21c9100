"""Which processes belong to pods, and in which network namespace each of them is."""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.cgroups import pod_uid_of
from merbridge.watchers.process_events import ProcessChanges

_NEEDS_PTRACE = "it needs root with CAP_SYS_PTRACE in the node's PID namespace"


YOUNG_SECONDS, FORGET_SECONDS = 5.0, 60.0

# Where changes are told, what was missed is looked for after a while, so that it takes a small part of a core.
_LEAST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 5.0
_SCANNING_SHARE = 0.02

# So many are read again at each look because they are young; of more, pods' alone.
_MOST_YOUNG = 4096


@attrs.frozen
class NetnsId:
    """A network namespace while some process or descriptor holds it; the kernel gives the numbers out again later."""

    device: int
    inode: int


@attrs.frozen
class PodProcess:
    """A process of a pod. `netns` is its main thread's; `by_v2` if its cgroup of the v2 hierarchy tells the pod."""

    pid: int
    pod_uid: str
    netns: NetnsId
    by_v2: bool = True


def pod_processes(proc: Path) -> Iterator[PodProcess]:
    """The processes whose cgroup, of any hierarchy, carries a pod's UID. One that ends meanwhile is left out.

    Raises `MerbridgeError` when `proc` is no procfs or a pod's namespace may not be looked at.
    """
    return ProcessTable(proc).look()


@attrs.frozen
class _Known:
    """A process as it was when it was read; `inode` is that of its directory, which no other process's ever has.

    `first` is when it was seen first (time.monotonic), `read` when it was read.
    """

    inode: int
    first: float
    read: float
    process: PodProcess | None


class ProcessTable:
    """The node's processes from one look to the next.

    A process may change its cgroup and its network namespace; runtimes' do, in the first moment of their lives. Where
    the kernel tells of changes, those processes alone are read that it tells of, and the pods' young ones; all of them
    at first, when something may be missing, and every `FORGET_SECONDS`. Where it does not, all are looked at each time,
    and one that is older than `YOUNG_SECONDS` is read again only every `FORGET_SECONDS`.
    """

    def __init__(
        self, proc: Path, clock: Callable[[], float] = time.monotonic, before_scan: Callable[[], None] = lambda: None
    ) -> None:
        """Nothing is read yet. `before_scan` is called before all are looked at: who tells of changes begins anew."""
        self._proc = proc
        self._clock = clock
        self._before_scan = before_scan
        self._known: dict[int, _Known] = {}
        self._young: set[int] = set()
        self._scanned = -math.inf
        self._pause_seconds = 0.0
        self._owes_scan = True
        self._is_unified = _is_unified()
        # Whether changes can be told at all: by the default hierarchy of cgroups, which has to be that of the pods.
        self.is_told_all = False
        # What was told but could not be read in the last look: the processes had ended.
        self.missed: frozenset[int] = frozenset()

    @property
    def was_read(self) -> bool:
        """Whether there was a look."""
        return self._scanned > -math.inf

    @property
    def is_scan_due(self) -> bool:
        """Whether the next look will be at all processes, whatever is told."""
        since = self._clock() - self._scanned
        return since >= FORGET_SECONDS or (self._owes_scan and since >= self._pause_seconds)

    def doubt(self, pids: Iterable[int]) -> None:
        """These were not what they were taken for: forget them, and look for others."""
        for pid in pids:
            self._known.pop(pid, None)
        self._young.difference_update(pids)
        self._owes_scan = True

    def look(self, changes: ProcessChanges | None = None) -> Iterator[PodProcess]:
        """Pods' processes now, by what was told since the last look; None: nobody tells.

        Raises as `pod_processes` does.
        """
        self.missed = frozenset()
        if changes is None or not self.is_told_all:
            self._scan()
        else:
            owes_scan = self._owes_scan or not changes.is_whole
            self._owes_scan = True  # should it fail
            self._owes_scan = not self._follow(changes) or owes_scan
            if self.is_scan_due:
                self._scan()
        found = [known.process for known in self._known.values() if known.process is not None]
        self.is_told_all = all(process.by_v2 for process in found) and (bool(found) or self._is_unified)
        return iter(found)

    def _follow(self, changes: ProcessChanges) -> bool:
        """Read those that were told; False if there may be others instead of them of which nobody tells."""
        now = self._clock()
        pids = (changes.told | self._young) - changes.went
        if not pids and not changes.went:
            return True
        before = self._picture()
        for pid in changes.went:
            self._known.pop(pid, None)
        missed = set()
        for pid in pids:
            inode = _inode(self._proc / str(pid))
            if inode is None:
                self._known.pop(pid, None)
                missed.add(pid)
            else:
                known = None if pid in changes.told else self._known.get(pid)
                self._known[pid] = self._read_again(pid, inode, known, now)
        self.missed = changes.told & missed
        self._young = {pid for pid in pids if self._is_young(pid)}
        is_much = len(self._young) > _MOST_YOUNG
        if is_much:
            self._young = {pid for pid in self._young if self._known[pid].process is not None}
        return before <= self._picture() and not is_much and not (changes.are_firsts and self.missed)

    def _scan(self) -> None:
        began = self._clock()
        before, self._known = self._known, {}
        self._owes_scan = True  # should it fail
        self._before_scan()
        for pid, inode in _pids(self._proc):
            known = before.get(pid)
            is_same = known is not None and known.inode == inode
            is_old = known is not None and known.read - known.first >= YOUNG_SECONDS
            if known is None or not (is_same and is_old and began - known.read < FORGET_SECONDS):
                known = self._read_again(pid, inode, known, began)
            self._known[pid] = known
        self._young = {pid for pid, known in self._known.items() if known.process is not None and self._is_young(pid)}
        self._owes_scan = False
        self._scanned = self._clock()
        took = self._scanned - began
        self._pause_seconds = min(max(_LEAST_PAUSE_SECONDS, took / _SCANNING_SHARE), _LONGEST_PAUSE_SECONDS)

    def _read_again(self, pid: int, inode: int, known: _Known | None, now: float) -> _Known:
        first = known.first if known is not None and known.inode == inode else now
        return _Known(inode, first, now, self._read(pid))

    def _is_young(self, pid: int) -> bool:
        known = self._known.get(pid)
        return known is not None and known.read - known.first < YOUNG_SECONDS

    def _picture(self) -> set[tuple[str, NetnsId]]:
        processes = (known.process for known in self._known.values())
        return {(process.pod_uid, process.netns) for process in processes if process is not None}

    def _read(self, pid: int) -> PodProcess | None:
        found = _pod_of_process(pid, self._proc)
        netns = netns_id(pid, self._proc) if found is not None else None
        return None if found is None or netns is None else PodProcess(pid, found[0], netns, found[1])


def _is_unified() -> bool:
    """Whether this machine has no hierarchy of cgroups but the default one."""
    try:
        return len(Path("/proc/self/cgroup").read_text().splitlines()) == 1
    except OSError:
        return False


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _pids(proc: Path) -> list[tuple[int, int]]:
    """Each process's id, and the inode's number of its directory."""
    try:
        with os.scandir(proc) as entries:
            pids = [(int(entry.name), entry.inode()) for entry in entries if entry.name.isdecimal()]
    except OSError as err:
        raise MerbridgeError(f"{proc}: cannot list processes: {err.strerror}: see --proc") from None
    if not pids:
        raise MerbridgeError(f"{proc}: not a proc file system, or an empty one: see --proc")
    return pids


def pod_uid_of_process(pid: int, proc: Path) -> str | None:
    """The UID of the pod that a process belongs to, by its cgroups; None for other processes and for ended ones.

    On v1 and hybrid hosts a v1 hierarchy carries the UID while the v2 line says `/`. A path may begin with `/..` where
    the reader's cgroup namespace does not hold it; the pod's part of it is looked for, not the beginning.
    """
    found = _pod_of_process(pid, proc)
    return None if found is None else found[0]


def _pod_of_process(pid: int, proc: Path) -> tuple[str, bool] | None:
    """The pod's UID, and whether it is in the v2 line."""
    try:
        text = (proc / str(pid) / "cgroup").read_bytes().decode(errors="surrogateescape")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # `hierarchy:controllers:path`, the v2 line being `0::path`; where the lines differ the v2 one wins.
    # A pod may give cgroups of its own names with any character but a line's end and a slash.
    lines = sorted(text.split("\n"), key=lambda line: not line.startswith("0::"))
    found = ((pod_uid_of(line.split(":", 2)[-1]), line.startswith("0::")) for line in lines)
    return next(((uid, by_v2) for uid, by_v2 in found if uid is not None), None)


def netns_id(pid: int, proc: Path) -> NetnsId | None:
    """The network namespace of a process, None once it has ended; raises `MerbridgeError` without the right to look."""
    path = netns_path(pid, proc)
    try:
        status = path.stat()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        raise MerbridgeError(f"{path}: permission denied: {_NEEDS_PTRACE}") from None
    except OSError as err:
        raise MerbridgeError(f"{path}: cannot look: {err.strerror}: see --proc") from None
    return NetnsId(status.st_dev, status.st_ino)


def netns_path(pid: int, proc: Path) -> Path:
    """The file that stands for a process's network namespace."""
    return proc / str(pid) / "ns" / "net"


def in_same_netns(pid: int, other: str, proc: Path) -> bool:
    """Whether two processes share a network namespace, learnt without the right to look into either (no ptrace).

    Each namespace has its own /proc/net, whose files' inode numbers no other namespace's share. `other` may be "self".
    """
    try:
        return (proc / str(pid) / "net" / "dev").stat().st_ino == (proc / other / "net" / "dev").stat().st_ino
    except OSError:
        return False
