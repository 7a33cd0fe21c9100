"""Events that say that the node or a file may have changed: a reason to look again, never a fact by itself."""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # it ships no types

from merbridge.watchers.cgroups import Cgroup, cgroups_below

_DIRECTORY_EVENTS = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ONLYDIR
_FILE_DIRECTORY_EVENTS = _DIRECTORY_EVENTS | flags.CLOSE_WRITE

# So long the tree is believed to be as events have it.
WALK_SECONDS = 30.0

_LIMITS = {
    errno.ENOSPC: "out of inotify watches: raise sysctl fs.inotify.max_user_watches",
    errno.EMFILE: "out of inotify instances or descriptors: raise sysctl fs.inotify.max_user_instances",
}


@attrs.frozen
class _Target:
    """Something to watch. With the inode, since a name may come back as another directory."""

    path: Path
    inode: int
    events: int


class CgroupWatcher:
    """Watches the cgroup2 tree below `cgroup_root`, and the directories of `files`.

    `degraded` is None, or one line that says why events are missing; looking again from time to time still works then.
    `cgroups` are those below the root as they were when the tree was walked last; None where that was not possible.
    """

    def __init__(self, cgroup_root: Path, files: Iterable[Path] = ()) -> None:
        """Begin to watch all that is there; look at the node after this."""
        self.degraded: str | None = None
        self._cgroup_root = cgroup_root
        self._files = tuple(files)
        self._watches: dict[_Target, int] = {}
        self._walked = -WALK_SECONDS
        self._is_stale = True
        self._cgroups: list[Cgroup] = []
        self.cgroups: tuple[Cgroup, ...] | None = None
        self._inotify = self._open()
        # Never readable: stands in where the kernel gave no inotify instance.
        self._silence = os.eventfd(0, os.EFD_CLOEXEC)
        self.refresh()

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        return self._silence if self._inotify is None else self._inotify.fileno()

    def read(self) -> None:
        """Take all pending events away without blocking."""
        if self._inotify is None:
            return
        events = self._inotify.read(timeout=0)
        # What is modified is a cgroup.events, or a file: no directory came or went.
        self._is_stale = self._is_stale or any(event.mask & ~(flags.MODIFY | flags.CLOSE_WRITE) for event in events)
        gone = {event.wd for event in events if event.mask & flags.IGNORED}
        self._watches = {target: watch for target, watch in self._watches.items() if watch not in gone}

    def refresh(self) -> bool:
        """Watch what came since, and forget what went; True when anything came, which may have changed unseen.

        The tree is walked if an event says that it is another, and now and then without any.
        """
        now = time.monotonic()
        if not self._is_stale and self.degraded is None and now - self._walked < WALK_SECONDS:
            return False
        if self._inotify is None:
            self.cgroups = None
            return False
        self._is_stale, self.cgroups = True, None  # should the walk fail
        self._cgroups = []
        seen: set[_Target] = set()
        shortage: str | None = None
        came = False
        for target in self._targets():
            seen.add(target)
            if target in self._watches or shortage:
                continue
            shortage = self._add(self._inotify, target)
            came = came or target in self._watches
        self._forget(self._inotify, seen)
        self.degraded = shortage
        self.cgroups = tuple(self._cgroups) if self._cgroups else None
        self._is_stale, self._walked = came, now
        return came

    def close(self) -> None:
        """Give the descriptors back."""
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._silence)

    def _open(self) -> INotify | None:
        try:
            return INotify(nonblocking=True)
        except OSError as err:
            self.degraded = _shortage(err)
            return None

    def _targets(self) -> Iterator[_Target]:
        """Parents come before their children are listed: what is made after that is announced by the parent's watch."""
        yield from self._file_directories()
        yield from _existing(self._cgroup_root, _DIRECTORY_EVENTS)
        for cgroup in cgroups_below(self._cgroup_root):
            self._cgroups.append(cgroup)
            yield _Target(cgroup.path, cgroup.id, _DIRECTORY_EVENTS)
            if cgroup.pod_uid is not None:
                # The kernel announces here that the first process came or the last one went.
                yield from _existing(cgroup.path / "cgroup.events", flags.MODIFY)

    def _file_directories(self) -> Iterator[_Target]:
        # A file may be a symlink: its own directory sees swaps, the target's directory sees writes.
        for directory in {place.parent for file in self._files for place in (file.absolute(), file.resolve())}:
            yield from _existing(directory, _FILE_DIRECTORY_EVENTS)

    def _add(self, inotify: INotify, target: _Target) -> str | None:
        try:
            self._watches[target] = inotify.add_watch(target.path, target.events)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            return _shortage(err, target.path)
        return None

    def _forget(self, inotify: INotify, seen: set[_Target]) -> None:
        for target in self._watches.keys() - seen:
            watch = self._watches.pop(target)
            if watch in self._watches.values():
                continue
            # A removed cgroup's files keep their watches, which count against the limit until they are taken away.
            try:
                inotify.rm_watch(watch)
            except OSError as err:
                if err.errno != errno.EINVAL:  # the kernel was first
                    raise


def _existing(path: Path, events: int) -> Iterator[_Target]:
    try:
        yield _Target(path, path.stat().st_ino, events)
    except OSError:
        return


def _shortage(err: OSError, path: Path | None = None) -> str:
    cause = _LIMITS.get(err.errno or 0) or os.strerror(err.errno or 0)
    where = f" at {path}" if path else ""
    return f"changes are noticed late{where}: {cause}"
