"""The kernel's tracing file system: tracepoints' numbers, and probes made by writing lines to a file."""

import errno
import os
from pathlib import Path

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys

_USUAL = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))


def tracefs() -> Path:
    """Where it is mounted: the usual places, else wherever /proc/self/mounts says.

    Raises `KernelError` (ENOENT) if it is not mounted, EACCES if this process may not look.
    """
    for place in (*_USUAL, *_mounted()):
        if _has_events(place):
            return place
    text = "it is not mounted: mount -t tracefs tracefs /sys/kernel/tracing"
    raise KernelError(errno.ENOENT, f"cannot use tracefs: {text} (ENOENT)")


def tracepoint_id(category: str, name: str) -> int:
    """The number of a tracepoint, such as `sched`, `sched_switch`.

    Raises `KernelError`: ENOENT if this kernel has none of that name, EACCES without CAP_DAC_READ_SEARCH, or root.
    """
    place = tracefs() / "events" / category / name / "id"
    try:
        return int(place.read_text())
    except FileNotFoundError:
        text = f"this kernel has none of that name: {place.parents[2]} has those that there are"
        raise KernelError(errno.ENOENT, f"cannot find tracepoint {category}/{name}: {text} (ENOENT)") from None
    except OSError as error:
        raise sys.failure(error.errno or 0, f"read {place}") from None


def write_event(file: str, line: str) -> None:
    """Append a line to `kprobe_events` or `uprobe_events`. Raises `KernelError`."""
    place = tracefs() / file
    attempted = f"write `{line}` to {place}"
    try:
        fd = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)  # the kernel refuses an open that could seek
    except OSError as error:
        raise sys.failure(error.errno or 0, attempted) from None
    try:
        os.write(fd, line.encode())
    except OSError as error:
        raise sys.failure(error.errno or 0, attempted, _WRITE_CAUSES.get(error.errno or 0)) from None
    finally:
        os.close(fd)


_WRITE_CAUSES = {
    errno.ENOENT: "there is no such function or file",
    errno.EINVAL: "there is no such function, it cannot be probed there, or the line is malformed",
    errno.EEXIST: "a probe of that name is there already",
    errno.EBUSY: "the probe is in use",
}


def _has_events(place: Path) -> bool:
    try:
        return (place / "events").is_dir()
    except PermissionError as error:
        raise sys.failure(error.errno or 0, f"look into {place}", "it needs root") from None


def _mounted() -> list[Path]:
    with open("/proc/self/mounts") as file:
        mounts = [line.split() for line in file]
    return [Path(_unescaped(fields[1])) for fields in mounts if fields[2] == "tracefs"]


def _unescaped(path: str) -> str:
    """A path of /proc/self/mounts, where blanks are octal."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
