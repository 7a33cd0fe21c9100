"""An example, run as its user runs it: a process that prints, and that Ctrl-C ends."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pybpfasm.kernel.inventory import ObjectKind, object_ids
from pybpfasm.testing import Namespace

EXAMPLES = Path(__file__).parents[2] / "examples"

# How long a line is waited for, and what the kernel frees late; emulated machines take their time.
SECONDS = 100 if "MERBRIDGE_VM" in os.environ else 20

# Lines of /proc/PID/fdinfo/FD that name an object of the kernel's.
_NAMED = {"prog_id": ObjectKind.PROGRAM, "map_id": ObjectKind.MAP, "link_id": ObjectKind.LINK}


class Example:
    """A run of `python examples/NAME.py ARGUMENT …`, in a network namespace if one is given.

    It is read line by line; `stop` is Ctrl-C, and sees that nothing is left in the kernel.
    """

    def __init__(self, name: str, *arguments: object, namespace: Namespace | None = None) -> None:
        command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
        self._name = name
        self._seen = ""
        self._process = namespace.run(lambda: _popen(command)) if namespace else _popen(command)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next line in which the pattern is found. Fails when the example ends before, or does not come to it."""
        deadline = time.monotonic() + SECONDS
        while True:
            line, newline, rest = self._seen.partition("\n")
            if newline:
                self._seen = rest
                found = re.search(pattern, line)
                if found:
                    return found
                continue
            self._read_more(pattern, deadline)

    def type(self, line: str) -> None:
        """Give it a line, as a user types it in."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> str:
        """Ctrl-C: what it prints then. It ends with 0 or 130, says nothing on standard error, and leaves nothing."""
        objects = self._kernel_objects()
        assert objects, "it holds no object of the kernel's: what it attached is gone already"
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=SECONDS)
        assert (self._process.returncode in (0, 130), err.decode()) == (True, "")
        _wait_until_gone(objects)
        return self._seen + out.decode()

    def close(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_more(self, pattern: str, deadline: float) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
        if not data:
            why = "it ended" if ready else f"it did not come in {SECONDS} seconds"
            self._process.kill()
            _, err = self._process.communicate()
            raise AssertionError(f"{self._name}: no line with {pattern!r}: {why}; {err.decode()}")
        self._seen += data.decode()

    def _kernel_objects(self) -> set[tuple[ObjectKind, int]]:
        found = set()
        for entry in Path(f"/proc/{self._process.pid}/fdinfo").iterdir():
            for row in entry.read_text().splitlines():
                field, _, value = row.partition(":")
                if field in _NAMED:
                    found.add((_NAMED[field], int(value)))
        return found


Start = Callable[..., Example]


def run(name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """A run of an example to its own end."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


def _popen(command: list[str]) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def _wait_until_gone(objects: set[tuple[ObjectKind, int]]) -> None:
    """The kernel frees them a little later."""
    deadline = time.monotonic() + SECONDS
    while True:
        there = {(kind, number) for kind in _NAMED.values() for number in object_ids(kind)}
        if not objects & there:
            return
        assert time.monotonic() < deadline, f"left in the kernel: {objects & there}"
        time.sleep(0.05)
