"""The server itself: it starts, goes away and comes back under the same address, and keeps what it was asked."""

import json
import socket
import socketserver
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from apiserver.faults import Fault, Faults
from apiserver.handler import Asked, Handler
from apiserver.store import Store


@attrs.frozen
class Request:
    """What was asked, and when (by the monotonic clock)."""

    verb: str
    resource: str
    namespace: str
    name: str
    query: dict[str, str]
    moment: float


class HttpServer(socketserver.ThreadingTCPServer):
    """One life of the server, between two outages."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, owner: "ApiServer", port: int) -> None:
        self.stopping = threading.Event()
        self._owner = owner
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((owner.address, port), Handler)

    @property
    def store(self) -> Store:
        """The objects, which outlive an outage."""
        return self._owner.store

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        return self._owner.faults

    @property
    def tokens(self) -> set[str] | None:
        """The tokens that are taken, None where nobody is asked for one."""
        return self._owner.tokens

    @property
    def forbidden(self) -> set[tuple[str, str]]:
        """Verbs and resources that are forbidden."""
        return self._owner.forbidden

    @property
    def bookmark_seconds(self) -> float:
        """How long a watch is silent before a bookmark comes."""
        return self._owner.bookmark_seconds

    @property
    def expiry_as_status(self) -> bool:
        """Whether a watch from too old a version gets HTTP 410, not an ERROR event."""
        return self._owner.expiry_as_status

    def oldest_version(self) -> int:
        """The oldest version from which a watch can begin."""
        return self.store.oldest

    def note(self, asked: Asked) -> None:
        """Remember a request."""
        self._owner.requests.append(Request(*attrs.astuple(asked, recurse=False), moment=time.monotonic()))

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection, and remember it."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._owner.tls is not None:
            connection = self._owner.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and forget it."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of a test."""

    def cut_connections(self) -> None:
        """Break every connection."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class ApiServer:
    """A running API server; a context manager. What it has, and how it fails, may be changed at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.store = Store()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.tokens: set[str] | None = None
        self.forbidden: set[tuple[str, str]] = set()
        self.bookmark_seconds = 60.0
        self.expiry_as_status = False
        self.tls = tls
        self.address = address
        self._port = 0
        self._server: HttpServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is, or was before it was stopped."""
        return f"{'https' if self.tls else 'http'}://{self.address}:{self._port}"

    @property
    def port(self) -> int:
        """Its port, the same through its outages."""
        return self._port

    def start(self) -> None:
        """Come up, under the same port as before."""
        server = HttpServer(self, self._port)
        self._port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """Go away: connections break, new ones are refused. The objects stay."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stopping.set()
        server.shutdown()
        server.server_close()
        server.cut_connections()

    def cut_connections(self) -> None:
        """Break all connections; new ones are accepted."""
        if self._server is not None:
            self._server.cut_connections()

    def fail(self, fault: Fault) -> None:
        """Put a fault in force."""
        self.faults.add(fault)

    def asked(self, verb: str, resource: str) -> list[Request]:
        """The requests of this kind so far."""
        return [each for each in self.requests if (each.verb, each.resource) == (verb, resource)]

    def write_kubeconfig(self, path: Path, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
        """Write a kubeconfig (JSON is YAML too) whose context `test` is this server."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, **cluster}}],
            "users": [{"name": "test", "user": user or {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(json.dumps(config))
        return path
