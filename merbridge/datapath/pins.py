"""Where the datapath's objects are pinned, who may work on them, and how they are taken away."""

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import ensure_bpffs, is_bpffs
from pybpfasm.kernel.sys import umount

# The name our mount has in /proc/mounts, by which `cleanup` knows it again.
MOUNT_SOURCE = "merbridge"

# Hooks in the order in which they are detached: new connections first, what serves the old ones after. What is at a
# device bears the program's name and the device's.
_DETACH_ORDER = (
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "to_pod",
    "to_ztunnel",
    "getsockopt",
    "sockops",
    "redirect",
)

# What the kernel itself puts into each bpf file system (CONFIG_BPF_PRELOAD).
_KERNELS_OWN = {"maps.debug", "progs.debug"}

_LOCK_WAIT_SECONDS = 1.0


@attrs.frozen
class Pins:
    """The folders of pins below the directory that `--bpffs` names."""

    root: Path

    @property
    def maps(self) -> Path:
        """The folder of maps, each by its name."""
        return self.root / "maps"

    @property
    def links(self) -> Path:
        """The folder of links, each by its program's name."""
        return self.root / "links"

    @property
    def programs(self) -> Path:
        """The folder of programs that are attached without a link, each by its name."""
        return self.root / "programs"

    @property
    def devices(self) -> Path:
        """The folder of links of network devices, see `merbridge.datapath.device_links`."""
        return self.root / "devices"

    def exist(self) -> bool:
        """Whether there is a datapath. Raises `MerbridgeError` where that cannot be seen."""
        try:
            return any(self._pinned())
        except PermissionError:
            raise MerbridgeError(f"{self.root}: permission denied: run as root") from None

    def nothing(self) -> MerbridgeError:
        """The error for who needs a datapath where there is none."""
        return MerbridgeError(f"nothing is pinned in {self.root}: no agent has run here, or it has another --bpffs")

    def prepare(self, proc: Path) -> None:
        """Make the folders, mounting a bpf file system if there is none. Raises `MerbridgeError`.

        In a container none is mounted: it would end with the container, and all that is pinned with it.
        """
        try:
            if _is_in_container(proc) and not _is_in_bpffs(self.root):
                raise MerbridgeError(
                    f"{self.root} is in no bpf file system of the node (--bpffs): there, not in this container, run "
                    "`mount -t bpf bpf /sys/fs/bpf`, and mount that directory into the container"
                )
            ensure_bpffs(self.root, MOUNT_SOURCE)
        except BpfError as error:
            raise MerbridgeError(f"no bpf file system for the pins (--bpffs): {error}") from None
        for folder in self._folders():
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise MerbridgeError(f"cannot create {folder} for the pins (--bpffs): {error.strerror}") from None

    def are_whole(self) -> bool:
        """Whether the folders are there, in a bpf file system."""
        return all(folder.is_dir() for folder in self._folders()) and is_bpffs(self.root)

    def remove(self) -> int:
        """Detach and forget everything, in an order that harms no connection; how many pins there were.

        Raises `MerbridgeError` while an agent runs.

        Entries of the SOCKMAP are left alone: its sockets keep the map and the program until they are closed.
        """
        removed = 0
        if self.root.exists() and not (self.root.is_dir() and is_bpffs(self.root)):
            raise MerbridgeError(f"{self.root} is not in a bpf file system (--bpffs): nothing of ours is there")
        if self.root.is_dir():
            with self.locked():
                for pin in sorted(self._pinned(), key=_detach_position):
                    _unlink(pin)
                    removed += 1
        self.tidy()
        return removed

    def tidy(self) -> None:
        """Remove the folders, and the bpf file system that `prepare` mounted, if nothing is pinned.

        Where an agent is at work that has pinned nothing yet, they stay.
        """
        if self.in_use():
            return
        for folder in (*self._folders(), self.root):
            _remove_folder(folder)
        _unmount_ours(self.root)

    @contextmanager
    def locked(self) -> Iterator["PinsLock"]:
        """Work on the pins alone. Raises `MerbridgeError` if an agent does already."""
        lock = PinsLock(self.root)
        try:
            yield lock
        finally:
            lock.close()

    def in_use(self) -> bool:
        """Whether an agent works on the pins."""
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False  # not there, or not to be entered, by an agent either
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _folders(self) -> tuple[Path, ...]:
        return (self.links, self.programs, self.maps, self.devices)

    def _pinned(self) -> Iterator[Path]:
        for folder in self._folders():
            if folder.is_dir():
                yield from folder.iterdir()


class PinsLock:
    """Held by whoever works on the pins; the kernel takes it away with the process."""

    def __init__(self, root: Path) -> None:
        """Take it. Raises `MerbridgeError` if somebody else has it."""
        self._root = root
        self._descriptor = _locked(root)

    def renew(self) -> None:
        """Take it again, if another file system is mounted at the place by now. Raises `MerbridgeError`."""
        held, there = os.fstat(self._descriptor), self._root.stat()
        if (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
            before, self._descriptor = self._descriptor, _locked(self._root)
            os.close(before)

    def close(self) -> None:
        """Give it up."""
        os.close(self._descriptor)


def _locked(root: Path) -> int:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # `status` holds the lock for a moment to see whether an agent runs.
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise MerbridgeError(f"an agent runs already with the pins in {root}: end it first")
        time.sleep(0.01)
    return descriptor


def _is_in_bpffs(path: Path) -> bool:
    existing = next(each for each in (path, *path.parents) if each.exists())
    return is_bpffs(existing)


def _is_in_container(proc: Path) -> bool:
    """Whether this process has other mounts than the node's first process; no two namespaces' have one's number."""
    try:
        return _mounts(proc / "1").isdisjoint(_mounts(proc / "self"))
    except OSError:
        return False  # it may not be looked at


def _mounts(process: Path) -> set[str]:
    lines = (process / "mountinfo").read_text(errors="surrogateescape").splitlines()
    return {line.split(" ", 1)[0] for line in lines}


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _detach_position(pin: Path) -> tuple[bool, int]:
    program = pin.name.partition("-")[0]
    known = _DETACH_ORDER.index(program) if program in _DETACH_ORDER else len(_DETACH_ORDER)
    return (pin.parent.name == "maps", known)


def _unlink(pin: Path) -> None:
    try:
        pin.unlink(missing_ok=True)
    except OSError as error:
        raise MerbridgeError(f"cannot remove {pin}: {error.strerror}: remove it by hand") from None


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        # Not there, a mount point, or somebody else's files are in it.
        return


def _unescaped(word: str) -> str:
    """A word of /proc/mounts, in which spaces and the like stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _unmount_ours(root: Path) -> None:
    """Unmount the bpf file system if we mounted it and nothing else is pinned there."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, place, kind = (_unescaped(word) for word in line.split(" ")[:3])
        mounted = Path(place)
        if source != MOUNT_SOURCE or kind != "bpf" or not root.is_relative_to(mounted):
            continue
        if not is_bpffs(mounted) or {entry.name for entry in mounted.iterdir()} - _KERNELS_OWN:
            continue
        try:
            umount(place)
        except KernelError:
            return  # in use by somebody
        if mounted == root:
            _remove_folder(mounted)
