"""A running `merbridge.demo.proxy`, seen by whoever started it."""

import contextlib
import json
import subprocess
import threading

from merbridge.demo.container import opened_pipe
from merbridge.demo.proxy import Record
from merbridge.errors import MerbridgeError


class ProxyProcess:
    """A running `merbridge.demo.proxy` and what it says about its connections."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until the proxy listens; raises MerbridgeError when it does not."""
        self.process = process
        self._records: list[Record] = []
        self._changed = threading.Condition()
        first_line = opened_pipe(process.stdout).readline()
        if not first_line:
            raise MerbridgeError("the proxy ended before it listened: see its message above")
        self.port: int = json.loads(first_line)["listening"]
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def records(self) -> list[Record]:
        """The connections so far, in the order in which they were connected onwards or refused."""
        with self._changed:
            return list(self._records)

    def wait_for(self, count: int, timeout_seconds: float = 5.0) -> list[Record]:
        """The records once there are at least `count`; raises MerbridgeError when there are too few in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._records) >= count, timeout_seconds):
                raise MerbridgeError(f"the proxy saw {len(self._records)} of {count} connections")
            return list(self._records)

    def _read(self) -> None:
        with contextlib.suppress(ValueError):  # closed by the container's end
            for line in opened_pipe(self.process.stdout):
                with self._changed:
                    self._records.append(json.loads(line))
                    self._changed.notify_all()
