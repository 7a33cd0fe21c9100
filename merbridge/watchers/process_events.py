"""What tells of processes that come and go: tracepoints, else the proc connector, else nothing but looking at all.

tracepoints     processes in a cgroup and namespace that were not told of before (`process_tracing.py`)
proc connector  processes that run another program (`proc_connector.py`)
scans           none
"""

import os
from collections.abc import Callable, Set
from pathlib import Path
from typing import Protocol

import attrs

from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError

SCANS = "scans"

# More changes at a time than it pays to look at one by one.
MOST_CHANGES = 1024

# PROC_PID_INIT_INO of include/linux/proc_ns.h.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC


@attrs.frozen
class ProcessChanges:
    """What became of processes since the last time: `told` are those to look at, `went` those that have ended.

    `is_whole` is False where more may have happened: then all are to be looked at. `are_firsts` if those that are told
    stand for others in the same cgroup and namespace, of which nobody tells.
    """

    told: frozenset[int] = frozenset()
    went: frozenset[int] = frozenset()
    is_whole: bool = True
    are_firsts: bool = True


class ProcessEvents(Protocol):
    """Tells of processes.

    `way` is a name for people, `why` says why it is no better one, `lost` counts what was not told.
    `needs_second_look` if processes may move right after they were told of, without a word.
    """

    way: str
    needs_second_look: bool
    why: str
    lost: int

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        ...

    def read(self) -> ProcessChanges | None:
        """Take away what has come, without blocking; None where nobody tells, so that each look has to be at all."""
        ...

    def watch(self, pids: Set[int]) -> None:
        """Tell when one of these ends, instead of those of the last time."""
        ...

    def forget(self, pids: Set[int]) -> None:
        """Tell again of what these were told for: they were gone before they could be looked at."""
        ...

    def forget_all(self) -> None:
        """Tell again of everything: all processes are about to be looked at."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class NoEvents:
    """Nobody tells of processes."""

    way = SCANS
    needs_second_look = False
    lost = 0

    def __init__(self, why: str) -> None:
        self.why = why
        # Never readable.
        self._silence = os.eventfd(0, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """A descriptor that stays silent."""
        return self._silence

    def read(self) -> ProcessChanges | None:
        """None: look at all."""
        return None

    def watch(self, pids: Set[int]) -> None:
        """Nothing to do."""

    def forget(self, pids: Set[int]) -> None:
        """Nothing to do."""

    def forget_all(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._silence)


def open_process_events(proc: Path, host_netns: int) -> ProcessEvents:
    """The best way that there is here; look at all processes after this. `host_netns` is the host's namespace's cookie.

    What the kernel tells are PIDs of its first PID namespace: `proc` has to be of that one.
    """
    # Late: a command that does not ask for it need not import the compiler.
    from merbridge.watchers.proc_connector import ProcConnector
    from merbridge.watchers.process_tracing import ProcessTracing

    if not _is_of_first_pid_namespace(proc):
        return NoEvents(f"{proc} is not of the machine's first PID namespace")
    ways: tuple[tuple[str, Callable[[str], ProcessEvents]], ...] = (
        ("tracepoints", lambda _: ProcessTracing(host_netns)),
        ("proc connector", ProcConnector),
    )
    refusals = ""
    for name, way in ways:
        try:
            return way(refusals)
        except (BpfError, MerbridgeError, OSError) as error:
            line = str(error).partition("\n")[0]
            refusals = "; ".join(filter(None, (refusals, f"{name}: {line}")))
    return NoEvents(refusals)


def _is_of_first_pid_namespace(proc: Path) -> bool:
    """By this process, where it is in there itself, for process 1 may be one that nobody may look at."""
    if _inode(Path("/proc/self/ns/pid")) == _FIRST_PID_NAMESPACE and (proc / "self").exists():
        return True
    return _inode(proc / "1" / "ns" / "pid") == _FIRST_PID_NAMESPACE


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
