"""Pins: names in a bpf file system that keep kernel objects alive when no process holds them."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.uapi import Command

DEFAULT_MOUNT = Path("/sys/fs/bpf")

StrPath = str | os.PathLike[str]

# Magic number of the file system, include/uapi/linux/magic.h.
_BPF_FS_MAGIC = 0xCAFE4A11

# The names of the files behind descriptors (kernel/bpf/syscall.c); the link's has changed.
_FILES = {
    "anon_inode:bpf-prog": "program",
    "anon_inode:bpf-map": "map",
    "anon_inode:bpf_link": "link",
    "anon_inode:bpf-link": "link",
}


def pin(fd: int, path: StrPath) -> None:
    """Give the object behind `fd` a name in a bpf file system.

    Raises `KernelError`: EEXIST if the name is taken, ENOENT without the directory, EPERM where there is no bpf file
    system, EINVAL for a name that such a file system refuses (with a dot in it).
    """
    place = Path(path)
    attempted = f"pin {place}"
    held = _path(place, attempted)
    if place.parent.is_dir() and not is_bpffs(place.parent):
        text = f"{place.parent} is not in a bpf file system: ensure_bpffs mounts one"
        raise KernelError(errno.EPERM, f"cannot {attempted}: {text} (EPERM)")
    try:
        sys.bpf(Command.OBJ_PIN, sys.new("obj", pathname=sys.address(held), bpf_fd=fd), attempted)
    except KernelError as error:
        causes = {
            errno.EEXIST: "the name is taken: open what is there, or remove it",
            errno.ENOENT: f"there is no directory {place.parent}",
            errno.ENOTDIR: f"{place.parent} is not a directory",
        }
        raise _explained(error, attempted, causes) from None


def open_pin(path: StrPath) -> int:
    """A descriptor of the pinned object, which the caller closes.

    Raises `KernelError`: ENOENT if nothing is pinned there, EACCES for what is no pin, or one that this user may not
    open.
    """
    place = Path(path)
    attempted = f"open pin {place}"
    held = _path(place, attempted)
    try:
        return sys.bpf(Command.OBJ_GET, sys.new("obj", pathname=sys.address(held)), attempted)
    except KernelError as error:
        no_pin = "it is a directory or a file, no pin" if os.path.isdir(place) or _is_elsewhere(place) else None
        causes = {
            errno.ENOENT: "nothing is pinned there",
            errno.ENOTDIR: "nothing is pinned there",
            errno.EACCES: no_pin or "this user may not open it: its owner is root, or chmod has to let others",
        }
        raise _explained(error, attempted, causes) from None


def object_behind(fd: int) -> str | None:
    """What is behind a descriptor: "program", "map" or "link"; None if it is none of these."""
    try:
        return _FILES.get(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        return None


def check_kind(fd: int, wanted: str, what: str) -> None:
    """Raise `KernelError` (EINVAL) if the object behind `fd` is not a `wanted`; `what` was to be opened."""
    found = object_behind(fd)
    if found != wanted:
        text = f"it is another kind of object, {f'a {found}' if found else 'neither map, program nor link'}"
        raise KernelError(errno.EINVAL, f"cannot open {what}: {text} (EINVAL)")


def is_bpffs(path: StrPath) -> bool:
    """Whether the directory lies in a bpf file system. Raises `KernelError` if it is not there."""
    return sys.filesystem_magic(Path(path)) == _BPF_FS_MAGIC


def ensure_bpffs(path: StrPath, source: str = "bpf") -> None:
    """Make sure that `path` is a directory in a bpf file system.

    Where there is none yet, one is mounted: on /sys/fs/bpf for a path below it, else on `path` itself. `source` names
    the mount in /proc/mounts. What fails leaves no directory behind. Raises `BpfError` for a directory with files in
    it, `KernelError` without the privilege.
    """
    wanted = existing = Path(path)
    while not os.path.exists(existing):
        existing = existing.parent
    if not is_bpffs(existing):
        _mount(DEFAULT_MOUNT if wanted.is_relative_to(DEFAULT_MOUNT) else wanted, source)
    _make_directory(wanted)


def _mount(place: Path, source: str) -> None:
    made = [each for each in (place, *place.parents) if not os.path.exists(each)]
    _make_directory(place)
    if any(place.iterdir()):
        raise BpfError(f"{place} is an ordinary directory that is not empty: choose one in a bpf file system")
    try:
        sys.mount(source, str(place), "bpf")
    except BaseException:
        for each in made:
            with suppress(OSError):  # somebody else uses it by now
                each.rmdir()
        raise


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        causes = {errno.EEXIST: "a file of that name is there", errno.ENOTDIR: "a part of the path is a file"}
        number = error.errno or 0
        raise sys.failure(number, f"create the directory {path}", causes.get(number)) from None


def _path(place: Path, attempted: str) -> object:
    """The path as the kernel reads it, up to a zero byte."""
    encoded = os.fsencode(place)
    if b"\0" in encoded:
        visible = attempted.replace("\0", "\\0")
        raise KernelError(errno.EINVAL, f"cannot {visible}: a path has no zero byte in it (EINVAL)")
    return sys.buffer(encoded + b"\0")


def _explained(error: KernelError, attempted: str, causes: dict[int, str]) -> KernelError:
    """The error with its cause. EPERM is what a bpf file system says of dots in names, too (bpf_lookup)."""
    number = error.errno or 0
    if number == errno.EPERM and "." in Path(attempted).name:
        return sys.failure(number, attempted, "a name in a bpf file system has no dots")
    return sys.failure(number, attempted, causes[number]) if number in causes else error


def _is_elsewhere(place: Path) -> bool:
    try:
        return not is_bpffs(place)
    except KernelError:
        return False
