"""Debian's haproxy as the ztunnel: a transparent proxy that nobody here wrote, and that asks for SO_ORIGINAL_DST."""

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster import SLOWNESS

from merbridge.demo.workloads import Pod

START_SECONDS = 5.0

# A server whose address is 0.0.0.0 and has no port: haproxy connects to where the client wanted to go.
_CONFIGURATION = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen ztunnel
    bind {bind}
    server original 0.0.0.0
"""

_LISTEN = "0A"  # a socket's state in /proc/net/tcp


class HAProxy:
    """A running haproxy in a pod; a context manager that ends it."""

    def __init__(self, pod: Pod, bind: str) -> None:
        """Prepare; `bind` is the configuration's bind line, as in ":15001 defer-accept"."""
        self._pod = pod
        self._bind = bind
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start it and wait until it listens."""
        program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert program, "haproxy is missing, and the tests need it: apt-get install haproxy"
        directory = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="haproxy-")))
        configuration = directory / "haproxy.cfg"
        configuration.write_text(_CONFIGURATION.format(bind=self._bind))
        log = self._undo.enter_context((directory / "log").open("w+"))
        # In the foreground, as one process.
        self.process = self._pod.run([program, "-db", "-f", str(configuration)], stdout=log, stderr=log)
        self._undo.callback(self._end)
        deadline = time.monotonic() + START_SECONDS * SLOWNESS
        while not self._listens():
            running = self.process.poll() is None and time.monotonic() < deadline
            assert running, f"haproxy does not listen: {(directory / 'log').read_text()}"
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._undo.close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It does nothing in the body: the kernel establishes connections, nobody accepts or reads."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def _end(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def _listens(self) -> bool:
        tables = (Path(f"/proc/{self.process.pid}/net/{name}") for name in ("tcp", "tcp6"))
        rows = (line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:])
        return any(row[3] == _LISTEN and row[1].endswith(f":{15001:04X}") for row in rows)
