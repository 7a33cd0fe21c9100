"""Pins: names in a bpf file system that keep kernel objects alive when no process holds them."""

import errno
import os
from pathlib import Path

from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel import sys
from pybpfasm.uapi import Command

DEFAULT_MOUNT = Path("/sys/fs/bpf")

# Magic number of the file system, include/uapi/linux/magic.h.
_BPF_FS_MAGIC = 0xCAFE4A11


def pin(fd: int, path: Path) -> None:
    """Give the object behind `fd` a name in a bpf file system. Raises `KernelError`: EEXIST if the name is taken."""
    if path.parent.is_dir() and not is_bpffs(path.parent):
        raise KernelError(errno.EPERM, f"cannot pin {path}: {path.parent} is not in a bpf file system")
    name = sys.buffer(os.fsencode(path) + b"\0")
    sys.bpf(Command.OBJ_PIN, sys.new("obj", pathname=sys.address(name), bpf_fd=fd), f"pin {path}")


def open_pin(path: Path) -> int:
    """A descriptor of the pinned object. Raises `KernelError`: ENOENT if nothing is pinned there."""
    name = sys.buffer(os.fsencode(path) + b"\0")
    return sys.bpf(Command.OBJ_GET, sys.new("obj", pathname=sys.address(name)), f"open pin {path}")


def is_bpffs(path: Path) -> bool:
    """Whether the directory lies in a bpf file system."""
    return sys.filesystem_magic(path) == _BPF_FS_MAGIC


def ensure_bpffs(path: Path, source: str = "bpf") -> None:
    """Make sure that `path` is a directory in a bpf file system.

    Where there is none yet, one is mounted: on /sys/fs/bpf for a path below it, else on `path` itself. `source` names
    the mount in /proc/mounts. Raises `BpfError` for a directory with files in it, `KernelError` without the privilege.
    """
    existing = path
    while not os.path.exists(existing):
        existing = existing.parent
    if not is_bpffs(existing):
        _mount(DEFAULT_MOUNT if path.is_relative_to(DEFAULT_MOUNT) else path, source)
    _make_directory(path)


def _mount(place: Path, source: str) -> None:
    _make_directory(place)
    if any(place.iterdir()):
        raise BpfError(f"{place} is an ordinary directory that is not empty: choose one in a bpf file system")
    sys.mount(source, str(place), "bpf")


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise sys.failure(error.errno or 0, f"create the directory {path}") from None
