"""The agent as a process of its own, seen by whoever started it."""

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, Self

from merbridge.demo.container import opened_pipe
from merbridge.demo.node import Node
from merbridge.errors import MerbridgeError

_STOP_SECONDS = 60.0


class AgentProcess:
    """`python -m merbridge run` for a demo node; a context manager that ends it and cleans its datapath up."""

    def __init__(self, node: Node, pod_file: Path, bpffs: Path, *flags: str) -> None:
        """Start it; `flags` are added to those that name the node."""
        self._bpffs = bpffs
        command = [
            *("run", "--source", f"file:{pod_file}", "--cgroup-root", str(node.cgroup_root)),
            *("--bpffs", str(bpffs), "--node-name", node.name, "--log-format", "json"),
            *("--host-pid", str(node.host().containers["app"].pid), *flags),
        ]
        # In a session of its own: Ctrl-C is for us, and we end the agent when its turn comes.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "merbridge", *command], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._events: list[dict[str, Any]] = []
        self._other_lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, args=(opened_pipe(self._process.stderr),), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._merbridge("cleanup")

    def wait_for(self, event: str, timeout_seconds: float = 60.0, **facts: str) -> None:
        """Wait for a log event with these facts; raises `MerbridgeError` if it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._has(event, facts), timeout_seconds)
            if not self._has(event, facts):
                said = "; ".join(self._other_lines) or "nothing"
                raise MerbridgeError(f"the agent did not come to the event {event}; it said: {said}")

    def status(self) -> dict[str, Any]:
        """What `status -o json` reports."""
        report: dict[str, Any] = json.loads(self._merbridge("status", "-o", "json").stdout)
        return report

    def stop(self) -> None:
        """End the agent as an operator would, with SIGTERM."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _merbridge(self, command: str, *flags: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "merbridge", command, "--bpffs", str(self._bpffs), *flags]
        return subprocess.run(arguments, capture_output=True, text=True, start_new_session=True, check=False)

    def _has(self, event: str, facts: dict[str, str]) -> bool:
        wanted = {"event": event, **facts}
        return any(wanted.items() <= seen.items() for seen in self._events)

    def _read(self, log: IO[str]) -> None:
        with contextlib.suppress(ValueError):  # closed by stop
            for line in log:
                with self._changed:
                    try:
                        self._events.append(json.loads(line))
                    except json.JSONDecodeError:
                        self._other_lines.append(line.strip())
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
