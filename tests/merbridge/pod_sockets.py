"""Sockets of a pod in the hands of a test: made by a process in the pod, so they are the pod's in every respect.

Its network namespace and its cgroup belong to a socket from the moment it is made, whoever uses it later.
"""

import contextlib
import socket
import sys
import threading
from types import TracebackType
from typing import Final, Self

from cluster import SLOWNESS

from merbridge.demo.workloads import Workload

_MAKER: Final = """
import array, socket
channel = socket.socket(fileno=0)
while request := channel.recv(64):
    family, kind, protocol = map(int, request.split())
    try:
        with socket.socket(family, kind, protocol) as made:
            socket.send_fds(channel, [b"0"], [made.fileno()])
    except OSError as error:
        channel.send(str(error.errno).encode())
"""


class PodSockets:
    """Makes sockets in a pod (or on the host); a context manager that closes all of them."""

    def __init__(self, workload: Workload) -> None:
        """Start the process that makes them; it ends with the pod, or when this object is closed."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._made: list[socket.socket] = []
        with theirs:
            self._process = workload.run([sys.executable, "-IS", "-c", _MAKER], stdin=theirs.fileno())

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every socket, and end the process."""
        self.close_all()
        self._channel.close()
        self._process.wait(5 * SLOWNESS)

    def close_all(self) -> None:
        """Close every socket that was made."""
        made, self._made = self._made, []
        for each in made:
            with contextlib.suppress(OSError):
                each.close()

    def make(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A new socket of the pod, blocking, with a time limit; raises OSError where the pod cannot have it."""
        with self._lock:
            self._channel.send(f"{int(family)} {int(kind)} {protocol}".encode())
            answer, descriptors, _, _ = socket.recv_fds(self._channel, 16, 1)
        if not descriptors:
            raise OSError(int(answer), "the pod cannot make such a socket")
        made = socket.socket(fileno=descriptors[0])
        made.settimeout(5 * SLOWNESS)
        self._made.append(made)
        return made

    def listen(
        self, port: int = 0, *, backlog: int = 4096, options: tuple[tuple[int, int, int], ...] = ()
    ) -> socket.socket:
        """A socket that listens on all addresses of the pod."""
        listener = self.make()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in options:
            listener.setsockopt(*option)
        listener.bind(("0.0.0.0", port))
        listener.listen(backlog)
        return listener
