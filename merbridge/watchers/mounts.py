"""A process's mounts, from its `/proc/PID/mountinfo` (proc_pid_mountinfo(5))."""

import re
from pathlib import Path

import attrs

_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


@attrs.frozen
class Mount:
    """One mount: the file system's device as `major:minor`, the directory of it that is mounted, and where."""

    device: str
    root: str
    mount_point: Path


def mounts_of(mountinfo: Path, filesystem_type: str) -> list[Mount]:
    """The mounts of a type that the file `mountinfo` lists, in its order; raises OSError when it cannot be read."""
    lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    return [_mount(line) for line in lines if _filesystem_type(line) == filesystem_type]


def _filesystem_type(line: str) -> str:
    # Optional fields end with a lone dash; the type follows it.
    _, _, after = line.partition(" - ")
    return after.split(" ", 1)[0]


def _mount(line: str) -> Mount:
    fields = line.split(" ")
    return Mount(device=fields[2], root=_unescaped(fields[3]), mount_point=Path(_unescaped(fields[4])))


def _unescaped(field: str) -> str:
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
