"""Answers over HTTP: `/healthz`, `/readyz` and `/metrics`. In threads of their own: a slow reader holds up nobody."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, Protocol

from merbridge.errors import MerbridgeError
from merbridge.observe.metrics import CONTENT_TYPE, Timing, as_metrics
from merbridge.observe.report import Report

# The loop looks once a second; so long without a look and something hangs.
STALE_SECONDS: Final = 30.0

# More than a kubelet and a few scrapers need at a time.
MOST_CONNECTIONS: Final = 16
REQUEST_SECONDS: Final = 5.0

_PLAIN = "text/plain; charset=utf-8"

Answer = tuple[HTTPStatus, str, str]


class Life(Protocol):
    """What the agent shows of itself: when it looked last (`time.monotonic`), whether it is ready, how long it took."""

    last_look: float
    is_ready: bool
    reconciling: Timing


class StatusServer:
    """Serves until it is closed."""

    def __init__(self, host: str, port: int, life: Life, report: Callable[[], Report]) -> None:
        """Listen, and answer from now on. `report` may raise `MerbridgeError`; raises it where it cannot listen."""
        self._life = life
        self._report = report
        try:
            self._server = _Server((host, port), self.answer, socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MerbridgeError(f"cannot listen at {host} port {port} (--listen): {reason}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-server", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens at: a free one was found for 0."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> Answer:
        """Status, type and text for a path."""
        match path.partition("?")[0]:
            case "/healthz":
                return self._health()
            case "/readyz":
                return self._readiness()
            case "/metrics":
                return self._metrics()
            case _:
                return HTTPStatus.NOT_FOUND, _PLAIN, "there are /healthz, /readyz and /metrics\n"

    def _health(self) -> Answer:
        age = time.monotonic() - self._life.last_look
        if age > STALE_SECONDS:
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"the agent has not looked at the node for {age:.0f} s\n"
        return HTTPStatus.OK, _PLAIN, "ok\n"

    def _readiness(self) -> Answer:
        """Ready is who is attached; what else `status` complains about is told, and does not count."""
        if not self._life.is_ready:
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, "the agent is starting\n"
        try:
            report = self._report()
        except MerbridgeError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"{error}\n"
        status = HTTPStatus.OK if all(hook.attached for hook in report.hooks) else HTTPStatus.SERVICE_UNAVAILABLE
        return status, _PLAIN, "".join(f"{line}\n" for line in report.problems or ["ok"])

    def _metrics(self) -> Answer:
        try:
            return HTTPStatus.OK, CONTENT_TYPE, as_metrics(self._report(), self._life.reconciling)
        except MerbridgeError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"{error}\n"


class _Server(ThreadingHTTPServer):
    """At most so many connections at a time, each for so long: who sends slowly takes nothing from the agent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], answer: Callable[[str], Answer], family: int) -> None:
        self.address_family = family
        self.answer = answer
        self._began: dict[socket.socket, float] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without what HTTPServer adds: it asks DNS for the address's name, and waits for the answer."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, from now on the time counts; one connection too many is closed."""
        if len(self._began) >= MOST_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """It is answered, or refused."""
        self._began.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """From time to time: end what takes too long."""
        late = time.monotonic() - REQUEST_SECONDS
        for request, began in list(self._began.items()):
            if began < late:
                with contextlib.suppress(OSError):  # it has ended by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Who goes away in the middle is nobody's trouble."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_SECONDS
    server_version = "merbridge"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer."""
        status, kind, text = self.server.answer(self.path)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - so is this one

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Requests are not logged."""
