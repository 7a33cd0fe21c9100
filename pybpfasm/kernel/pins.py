"""Pins: names in a bpf file system that keep kernel objects alive when no process holds them."""

import os
from pathlib import Path

from pybpfasm.errors import BpfError
from pybpfasm.kernel import sys
from pybpfasm.uapi import Command

# Magic number of the file system, include/uapi/linux/magic.h.
_BPF_FS_MAGIC = 0xCAFE4A11


def pin(fd: int, path: Path) -> None:
    """Give the object behind `fd` a name. Raises `KernelError`: EEXIST if the name is taken."""
    name = sys.buffer(os.fsencode(path) + b"\0")
    sys.bpf(Command.OBJ_PIN, sys.new("obj", pathname=sys.address(name), bpf_fd=fd), f"pin {path}")


def open_pin(path: Path) -> int:
    """A descriptor of the pinned object. Raises `KernelError`: ENOENT if nothing is pinned there."""
    name = sys.buffer(os.fsencode(path) + b"\0")
    return sys.bpf(Command.OBJ_GET, sys.new("obj", pathname=sys.address(name)), f"open pin {path}")


def is_bpffs(path: Path) -> bool:
    """Whether the directory lies in a bpf file system."""
    return sys.filesystem_magic(path) == _BPF_FS_MAGIC


def ensure_bpffs(path: Path) -> None:
    """Make sure that `path` is a directory in a bpf file system, mounting one on its topmost missing part if need be.

    Raises `BpfError` if there is an ordinary directory with files in the way, `KernelError` without the privilege.
    """
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not is_bpffs(existing):
        place = path if existing == path else _first_missing(path, existing)
        if place == path and existing == path and any(path.iterdir()):
            raise BpfError(f"{path} is an ordinary directory that is not empty: give one in a bpf file system")
        _mount(_default_mount_point(path) or place)
    _make_directory(path)


def _first_missing(path: Path, existing: Path) -> Path:
    return existing / path.relative_to(existing).parts[0]


def _default_mount_point(path: Path) -> Path | None:
    default = Path("/sys/fs/bpf")
    return default if path.is_relative_to(default) and default.is_dir() else None


def _mount(place: Path) -> None:
    _make_directory(place)
    sys.mount("bpf", str(place), "bpf")


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise sys.failure(error.errno or 0, f"create the directory {path}") from None
