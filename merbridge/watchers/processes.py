"""Which processes belong to pods, and in which network namespace each of them is."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.cgroups import pod_uid_of

_NEEDS_PTRACE = "it needs root with CAP_SYS_PTRACE in the node's PID namespace"


YOUNG_SECONDS, FORGET_SECONDS = 5.0, 60.0


@attrs.frozen
class NetnsId:
    """A network namespace while some process or descriptor holds it; the kernel gives the numbers out again later."""

    device: int
    inode: int


@attrs.frozen
class PodProcess:
    """A process of a pod. `netns` is its main thread's."""

    pid: int
    pod_uid: str
    netns: NetnsId


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

    A process may change its cgroup and its network namespace; runtimes' do, in the first moment of their lives. So one
    that is older than `YOUNG_SECONDS` is read again only every `FORGET_SECONDS`.
    """

    def __init__(self, proc: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read yet."""
        self._proc = proc
        self._clock = clock
        self._known: dict[int, _Known] = {}

    def look(self) -> Iterator[PodProcess]:
        """Pods' processes now; raises as `pod_processes` does."""
        now = self._clock()
        before, self._known = self._known, {}
        for pid, inode in _pids(self._proc):
            known = before.get(pid)
            first = known.first if known is not None and known.inode == inode else now
            is_old = known is not None and known.read - first >= YOUNG_SECONDS and now - known.read < FORGET_SECONDS
            if known is None or known.inode != inode or not is_old:
                known = _Known(inode, first, now, self._read(pid))
            self._known[pid] = known
            if known.process is not None:
                yield known.process

    def _read(self, pid: int) -> PodProcess | None:
        uid = pod_uid_of_process(pid, self._proc)
        netns = netns_id(pid, self._proc) if uid is not None else None
        return None if uid is None or netns is None else PodProcess(pid, uid, netns)


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
    try:
        text = (proc / str(pid) / "cgroup").read_bytes().decode(errors="surrogateescape")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # `hierarchy:controllers:path`, the v2 line being `0::path`; where the lines differ the v2 one wins.
    # A pod may give cgroups of its own names with any character but a line's end and a slash.
    lines = sorted(text.split("\n"), key=lambda line: not line.startswith("0::"))
    uids = (pod_uid_of(line.split(":", 2)[-1]) for line in lines)
    return next((uid for uid in uids if uid is not None), None)


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
