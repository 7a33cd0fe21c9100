"""A process in a cgroup and in a network namespace of its own, which does what it is told to."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from cgroup_caller import cgroup2_mount
from small_network import Namespace

# A line is source text; what it calls `it` is the answer, or the errno of what failed.
ACTOR = """
import json, os, socket, sys
for line in sys.stdin:
    names = {"socket": socket, "os": os, "it": None}
    try:
        exec(json.loads(line), names)
        answer = names["it"]
    except OSError as error:
        answer = {"errno": error.errno}
    names.clear()
    print(json.dumps(answer), flush=True)
"""


class Actor:
    """The process; `parent` is its cgroup's, which may have programs, too."""

    def __init__(self) -> None:
        self.parent = cgroup2_mount() / f"pybpfasm-links-{uuid4().hex[:8]}"
        self.cgroup = self.parent / "actor"
        self.cgroup.mkdir(parents=True)
        self.namespace = Namespace()
        self._process = self.namespace.run(self._start)
        (self.cgroup / "cgroup.procs").write_text(str(self._process.pid))

    def do(self, source: str) -> object:
        """Run source text; what it leaves in `it`, or {"errno": …}."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(source) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process, remove the cgroups."""
        with self._process:
            self._process.kill()
        self.namespace.close()
        for each in (self.cgroup, self.parent):
            if each.exists():
                each.rmdir()

    @staticmethod
    def _start() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", ACTOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def spare_cgroup(parent: Path) -> Path:
    """A cgroup without processes, below another."""
    made = parent / f"spare-{uuid4().hex[:8]}"
    made.mkdir()
    return made
