"""The directory where kernels, images and package lists are kept between runs, shared by runs at the same time.

An entry is built in a workspace beside it and renamed into place: it is there wholly or not at all.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import attrs

from tools.vm.errors import VmError

CACHE_VARIABLE = "MERBRIDGE_VM_CACHE"
KEEP_UNUSED_SECONDS = 3 * 86400
LEAST_ROOM_BYTES = 1 << 20


@attrs.frozen
class Cache:
    """A directory that only this runner uses."""

    directory: Path

    @classmethod
    def from_environment(cls) -> "Cache":
        """$MERBRIDGE_VM_CACHE, else below $XDG_CACHE_HOME or ~/.cache; raises VmError when it cannot be written."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = Path(os.environ.get(CACHE_VARIABLE) or Path(base, "merbridge-vm")).absolute()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(
                dir=directory
            ).close()  # permissions do not tell: root may write to /proc, and cannot
        except OSError as error:
            raise VmError(f"cannot write to the cache {directory}: {error.strerror}; set {CACHE_VARIABLE}") from None
        return cls(directory)

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """In the body everything that is written goes to the cache: a full disk is told as the cache's own."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._full() from None

    def check_room(self) -> None:
        """Raises VmError when the cache's disk is full: QEMU would wait without a word until it is not."""
        state = os.statvfs(self.directory)
        if state.f_bavail * state.f_frsize < LEAST_ROOM_BYTES:
            raise self._full()

    def _full(self) -> VmError:
        return VmError(f"no room left in the cache {self.directory}: free some, or set {CACHE_VARIABLE}")

    def entry(self, name: str, build: Callable[[Path], None]) -> Path:
        """The file or directory of this name, which `build` makes at the path it is given when it is not there yet."""
        path = self.directory / name
        if not path.exists():
            with self.lock(name), self.workspace() as workspace:
                if not path.exists():  # another run may have made it while this one waited
                    path.parent.mkdir(parents=True, exist_ok=True)
                    build(workspace / path.name)
                    (workspace / path.name).rename(path)
        os.utime(path)
        return path

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other runs out of what this name stands for, until the body ends or the process dies."""
        locks = self.directory / "locks"
        locks.mkdir(exist_ok=True)
        with (locks / name.replace("/", "-")).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """A directory of this run's own, removed at its end; what killed runs have left is removed as well."""
        runs = self.directory / "runs"
        runs.mkdir(exist_ok=True)
        with self.lock("runs"):
            _remove_abandoned(runs)
            workspace = Path(tempfile.mkdtemp(dir=runs))
            holder = os.open(workspace, os.O_RDONLY)
            fcntl.flock(holder, fcntl.LOCK_EX)
        try:
            yield workspace
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
            os.close(holder)

    def remove_unused(self, folder: str, keep: Collection[Path] = ()) -> None:
        """Remove entries of a folder that no run has used for three days, but for those in `keep`."""
        for path in (self.directory / folder).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path in keep or time.time() - path.stat().st_mtime < KEEP_UNUSED_SECONDS:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _remove_abandoned(runs: Path) -> None:
    """Remove the workspaces whose process is gone: a live one holds a lock on its directory."""
    for workspace in runs.iterdir():
        holder = os.open(workspace, os.O_RDONLY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(workspace, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(holder)
