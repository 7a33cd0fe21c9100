"""How a command ended, for the tests of commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[3]


@attrs.frozen
class Outcome:
    """How a command ended, and what it wrote."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()

    def failed(self, status: int, *parts: str) -> None:
        """It failed with this status, wrote nothing, and said all of these, beginning with our name, no traceback."""
        assert (self.status, self.out) == (status, b""), self.err
        assert self.err.startswith("pybpfasm: ")
        assert "Traceback" not in self.err
        assert all(part in self.err for part in parts), self.err


Command = Callable[..., Outcome]


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with `$PYBPFASM` for the command line, as a process of its own."""
    command = f'PYBPFASM="{sys.executable} -m pybpfasm"\n{script}'
    # Output is buffered, as it is for users.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
