"""A cgroup of a test's own, with processes in it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pybpfasm.errors import BpfError
from pybpfasm.testing.processes import run_in_child

T = TypeVar("T")

# How long the processes of a cgroup that is taken down are waited for.
_END_SECONDS = 10


class Cgroup:
    """A cgroup (v2) below the root one, named by `path`."""

    def __init__(self) -> None:
        self.path = _mount() / f"pybpfasm-{uuid4().hex[:12]}"
        self.path.mkdir()

    def run(self, function: Callable[[], T]) -> T:
        """What `function` returns in a process in the cgroup, forked from this one; what it raises is raised here.

        The result has to be picklable. Sockets that were made before belong to the cgroup that they were made in.
        """
        return run_in_child(self._enter, function)

    def start(self, command: Sequence[str], **arguments: Any) -> "subprocess.Popen[Any]":
        """Start a command in the cgroup; `arguments` are Popen's. It is killed with the cgroup, at the latest."""
        entering = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        return subprocess.Popen(["/bin/sh", "-c", entering, str(self.path), *command], **arguments)

    def close(self) -> None:
        """Kill what is in it and remove it; a second time changes nothing."""
        deadline = time.monotonic() + _END_SECONDS
        while self.path.exists():
            self._kill()
            try:
                self.path.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _enter(self) -> None:
        (self.path / "cgroup.procs").write_text("0")

    def _kill(self) -> None:
        for pid in (self.path / "cgroup.procs").read_text().split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:  # it ended by itself
                continue


def _mount() -> Path:
    """Where cgroup2 is mounted, from /proc/self/mountinfo (see proc(5))."""
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = row.partition(" - ")
        if kind.split()[0] == "cgroup2":
            return Path(place.split()[4])
    raise BpfError("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
