"""Requests to the Kubernetes API: one object, one watch, one patch. JSON as it comes, without the package's models."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import attrs

from merbridge.sources.errors import SourceError
from merbridge.sources.kubernetes.credentials import ApiPlace, Session
from merbridge.sources.kubernetes.errors import ApiError, UnreachableError, cause_of

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_ERRORS_FROM = 300
_MOST_OF_AN_ERROR = 64 * 1024
_LONGEST_EVENT = 16 << 20  # etcd takes objects of 1.5 MiB


@attrs.frozen
class Timing:
    """How long to wait for what, in seconds. The server ends a watch after about `watch_seconds`.

    The API sends a bookmark a minute into an idle watch; `silence_seconds` without any byte means that it is dead.
    """

    connect_seconds: float = 5.0
    answer_seconds: float = 30.0
    watch_seconds: float = 300.0
    silence_seconds: float = 100.0
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 20.0


class Api:
    """The API of one cluster. Its methods may be called from several threads.

    They raise `ApiError` for an answer that is an error, and `UnreachableError` where there is none.
    """

    def __init__(self, place: ApiPlace, timing: Timing | None = None) -> None:
        """Read the credentials; raises `SourceError` if they are unusable."""
        self.place = place
        self.timing = timing or Timing()
        self._session = place.connect()
        self._lock = threading.Lock()
        self._at_work: set[BaseHTTPResponse] = set()
        self._closed = False

    @property
    def host(self) -> str:
        """The API's URL."""
        return self._session.host

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Read one object or list."""
        with self._request("GET", path, query) as response:
            return _object(_content(response))

    def merge_patch(self, path: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change one object by a JSON merge patch (RFC 7386)."""
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps(patch).encode()
        with self._request("PATCH", path, {}, headers, body) as response:
            return _object(_content(response))

    def create(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Post an object; what the API makes of it."""
        headers = {"Content-Type": "application/json"}
        with self._request("POST", path, {}, headers, json.dumps(content).encode()) as response:
            return _object(_content(response))

    def explain(self, error: ApiError | UnreachableError, verb: str, resource: str) -> str:
        """What went wrong with a request, and what to do, as one line that stays the same while the cause does."""
        if isinstance(error, UnreachableError):
            return str(error)
        if error.status == _UNAUTHORIZED:
            return f"{self.host} does not accept the credentials of {self.place.origin}: {error}: renew them"
        if error.status == _FORBIDDEN:
            return (
                f"not allowed to {verb} {resource}: give the agent's user a ClusterRole with the verb {verb} on "
                f"{resource} (docs/agent.md): {error}"
            )
        return f"{self.host}: {error}"

    @contextmanager
    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[Iterator[dict[str, Any]]]:
        """A watch's events as they come; they end when the server ends the watch in good order."""
        with self._request("GET", path, {**query, "watch": "1"}) as response:
            _allow_silence(response, self.timing.silence_seconds)
            yield (_object(line) for line in _lines(response))

    def close(self) -> None:
        """End all requests, from any thread; who waits for one gets `UnreachableError`."""
        with self._lock:
            self._closed = True
            for response in self._at_work:
                _shut_down(response)
        self._session.pool.clear()

    @contextmanager
    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> "Iterator[BaseHTTPResponse]":
        from urllib3.exceptions import HTTPError

        target = f"{path}?{urlencode(query)}" if query else path
        try:
            response = self._send(method, target, headers or {}, body)
            try:
                with self._registered(response):
                    if response.status >= _ERRORS_FROM:
                        raise _error_of(response)
                    yield response
            finally:
                # Connections whose answer was read to its end are in the pool again already.
                response.close()
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self.host}: {cause_of(error)}") from error

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> "BaseHTTPResponse":
        """Send it; where the credentials are refused, once more with those that are on disk now."""
        session = self._session
        response = self._send_in(session, method, target, headers, body)
        if response.status != _UNAUTHORIZED:
            return response
        response.close()
        return self._send_in(self._renewed(session), method, target, headers, body)

    def _send_in(
        self,
        session: Session,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> "BaseHTTPResponse":
        from urllib3 import Timeout

        return session.pool.request(
            method,
            session.host + target,
            body=body,
            headers={"Accept": "application/json", "User-Agent": "merbridge", **session.authorization(), **headers},
            timeout=Timeout(connect=self.timing.connect_seconds, read=self.timing.answer_seconds),
            retries=False,
            preload_content=False,
        )

    def _renewed(self, refused: Session) -> Session:
        with self._lock:
            if self._session is refused:
                try:
                    self._session = self.place.connect()
                except SourceError as error:
                    raise UnreachableError(str(error)) from None
            return self._session

    @contextmanager
    def _registered(self, response: "BaseHTTPResponse") -> Iterator[None]:
        with self._lock:
            self._at_work.add(response)
            if self._closed:
                _shut_down(response)
        try:
            yield
        finally:
            with self._lock:
                self._at_work.discard(response)


def _lines(response: "BaseHTTPResponse") -> Iterator[bytes]:
    """The whole lines of a stream. A last one without an end is not whole."""
    rest = b""
    # Without chunks (as from a proxy of HTTP/1.0) a larger read would wait until there is so much.
    for chunk in response.stream(1 << 16 if _is_chunked(response) else 1):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > _LONGEST_EVENT:
            raise UnreachableError(f"an event of more than {_LONGEST_EVENT >> 20} MiB in a watch")


def _is_chunked(response: "BaseHTTPResponse") -> bool:
    return response.headers.get("Transfer-Encoding", "").lower() == "chunked"


def _allow_silence(response: "BaseHTTPResponse", seconds: float) -> None:
    """Let so many seconds pass between two pieces of a stream whose head has come."""
    # No socket is known of a connection that the server will close: there, the time for an answer goes on to count.
    connection = getattr(getattr(response, "connection", None), "sock", None)
    if connection is not None:
        connection.settimeout(seconds)


def _content(response: "BaseHTTPResponse") -> bytes:
    return b"".join(response.stream(1 << 16))


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise UnreachableError(f"what came is not JSON: {text[:60]!r}: is this the Kubernetes API?") from None
    if not isinstance(value, dict):
        raise UnreachableError(f"what came is no JSON object: {text[:60]!r}: is this the Kubernetes API?")
    return value


def _error_of(response: "BaseHTTPResponse") -> ApiError:
    text = response.read(_MOST_OF_AN_ERROR)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = {"message": text.decode(errors="replace")}
    body = body if isinstance(body, dict) else {}
    return ApiError.from_status(body, response.status, response.headers.get("Retry-After", ""))


def _shut_down(response: "BaseHTTPResponse") -> None:
    """Wake whoever reads from the response's socket: what it reads then is an end."""
    # Its descriptor is duplicated, so that closing this copy leaves the reader's own.
    with suppress(OSError, ValueError), socket.fromfd(response.fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:
        copy.shutdown(socket.SHUT_RDWR)
