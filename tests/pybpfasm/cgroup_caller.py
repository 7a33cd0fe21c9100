"""A process in a cgroup of its own, which connects when it is told to."""

import subprocess
import sys
from pathlib import Path

import pytest

# Connects once for each line it is sent. A datagram socket's connect sends nothing and runs the same hook.
CALLER = """
import socket, sys
for line in sys.stdin:
    family, port, mark = socket.AF_INET, int(line), 36
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("127.0.0.1", port))
            answer = "connected"
        except OSError as error:
            answer = str(error.errno)
        print(answer, sock.getsockopt(socket.SOL_SOCKET, mark) & 0xFFFFFFFF, flush=True)
"""


def cgroup2_mount() -> Path:
    """Where cgroup2 is mounted, from /proc/self/mountinfo."""
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = row.split(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    pytest.fail("no cgroup2 is mounted")


class Caller:
    """A process in a cgroup of its own, which connects when told to."""

    def __init__(self, cgroup: Path) -> None:
        self.cgroup = cgroup
        self._process = subprocess.Popen(
            [sys.executable, "-c", CALLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def enter(self) -> None:
        """Move the process into the cgroup."""
        (self.cgroup / "cgroup.procs").write_text(str(self._process.pid))

    def connect(self, port: int = 9) -> tuple[str, int]:
        """Connect once: what came of it (`connected`, or the errno), and the socket's mark."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{port}\n")
        self._process.stdin.flush()
        answer, mark = self._process.stdout.readline().split()
        return answer, int(mark)

    def close(self) -> None:
        """End the process."""
        with self._process:
            self._process.kill()
