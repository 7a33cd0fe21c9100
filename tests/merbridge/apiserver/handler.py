"""One connection to the server: requests to answers, and the faults."""

import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import attrs

from apiserver.discovery import DOCUMENTS
from apiserver.faults import Fault
from apiserver.store import Object, RefusedError, Selector, events

if TYPE_CHECKING:
    from apiserver.server import HttpServer

_PATH = re.compile(
    r"/api/v1/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<resource>pods|namespaces)(?:/(?P<name>[^/]+))?(?:/status)?"
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_KINDS = {"pods": "Pod", "namespaces": "Namespace"}
_PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


@attrs.frozen
class Asked:
    """What a request asks for."""

    verb: str
    resource: str
    namespace: str
    name: str
    query: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    server: "HttpServer"
    _plain = False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the overridden method's name for it
        """The server keeps what was asked in a list of its own."""

    def do_GET(self) -> None:
        """Discovery, get, list and watch."""
        self._answer(b"")

    def do_PATCH(self) -> None:
        """Merge patches."""
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_POST(self) -> None:
        """Reviews of one's own access."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        if urlsplit(self.path).path != _REVIEWS:
            self._refuse(404, "NotFound", "the server could not find the requested resource", 0)
            return
        wanted = body["spec"]["resourceAttributes"]
        allowed = (wanted["verb"], wanted["resource"]) not in self.server.forbidden
        self._send_json(201, {**body, "status": {"allowed": allowed}})

    def _answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        asked = self._asked(url.path, dict(parse_qsl(url.query)))
        try:
            if asked is None:
                self._answer_discovery(url.path)
                return
            self.server.note(asked)
            fault = self.server.faults.take(asked.verb, asked.resource)
            self._authorize(asked)
            if fault is None or asked.verb == "watch":
                self._answer_asked(asked, body, fault)
            else:
                self._fail(asked, body, fault)
        except RefusedError as refused:
            self._refuse(refused.code, refused.reason, refused.message, 0)
        except ConnectionError:
            self.close_connection = True

    def _asked(self, path: str, query: dict[str, str]) -> Asked | None:
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        namespace, resource, name = (match[group] or "" for group in ("namespace", "resource", "name"))
        if self.command == "PATCH":
            verb = "patch"
        elif name:
            verb = "get"
        else:
            verb = "watch" if query.get("watch") in ("1", "true") else "list"
        return Asked(verb, resource, namespace, name, query)

    def _answer_discovery(self, path: str) -> None:
        document = DOCUMENTS.get(path)
        if document is None:
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        self._send_json(200, document)

    def _authorize(self, asked: Asked) -> None:
        tokens = self.server.tokens
        if tokens is not None and self.headers.get("Authorization", "").split(" ")[-1] not in tokens:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if (asked.verb, asked.resource) in self.server.forbidden:
            raise RefusedError(
                403,
                "Forbidden",
                f'{asked.resource} is forbidden: User "agent" cannot {asked.verb} resource "{asked.resource}" in API '
                'group "" at the cluster scope',
            )

    def _answer_asked(self, asked: Asked, body: bytes, fault: Fault | None) -> None:
        store = self.server.store
        if asked.verb == "watch":
            self._watch(asked, fault)
        elif asked.verb == "get":
            self._send_json(200, store.get(asked.resource, asked.namespace, asked.name))
        elif asked.verb == "patch":
            if self.headers.get("Content-Type") not in _PATCHES:
                raise RefusedError(415, "UnsupportedMediaType", "only merge patches are taken")
            self._send_json(200, store.merge(asked.resource, asked.namespace, asked.name, json.loads(body)))
        else:
            self._send_json(200, self._list(asked))

    def _list(self, asked: Asked) -> Object:
        selector = Selector.parse(asked.query.get("fieldSelector", ""))
        limit, token = int(asked.query.get("limit", "0")), asked.query.get("continue", "")
        version, items, following = self.server.store.page(asked.resource, asked.namespace, selector, limit, token)
        metadata = {"resourceVersion": str(version), **({"continue": following} if following else {})}
        # A list's items have no kind of their own, as from the real API.
        bare = [{key: value for key, value in each.items() if key not in ("kind", "apiVersion")} for each in items]
        return {"kind": f"{_KINDS[asked.resource]}List", "apiVersion": "v1", "metadata": metadata, "items": bare}

    # --- watches ---

    def _watch(self, asked: Asked, fault: Fault | None) -> None:
        if fault is not None and fault.kind in ("status", "hang"):
            self._fail(asked, b"", fault)
            return
        selector = Selector.parse(asked.query.get("fieldSelector", ""))
        text = asked.query.get("resourceVersion", "")
        version = int(text) if text not in ("", "0") else self.server.store.version
        if version > self.server.store.version:
            raise RefusedError(504, "Timeout", f"Too large resource version: {version}")
        if version < self.server.oldest_version() and self.server.expiry_as_status:
            raise RefusedError(410, "Expired", f"too old resource version: {version}")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._plain = fault is not None and fault.kind == "plain"
        self.send_header(*(("Connection", "close") if self._plain else ("Transfer-Encoding", "chunked")))
        self.end_headers()
        if fault is not None and fault.kind not in ("trickle", "plain"):
            self._fail_watch(fault, asked, selector, version)
        else:
            for event in self._events(asked, selector, version):
                self._send_event(event, slowly=fault is not None)
        if not self._plain:
            self._send_chunk(b"")

    def _events(self, asked: Asked, selector: Selector, version: int) -> Iterator[Object]:
        """The events from a version on, with bookmarks between them, until the watch's time is over."""
        store, server = self.server.store, self.server
        end = time.monotonic() + float(asked.query.get("timeoutSeconds", "3600"))
        bookmarks = asked.query.get("allowWatchBookmarks") == "true"
        told_at = time.monotonic()
        while time.monotonic() < end and not server.stopping.is_set():
            with store.changed:
                try:
                    changes = store.since(version)
                except RefusedError as refused:
                    changes = []
                    error = _status(refused.code, refused.reason, refused.message)
                else:
                    error = None
                    if not changes:
                        store.changed.wait(min(0.05, max(0.0, end - time.monotonic())))
            if error is not None:
                yield {"type": "ERROR", "object": error}
                return
            if changes:
                version = changes[-1].version
                yield from events(changes, asked.resource, asked.namespace, selector)
                told_at = time.monotonic()
            elif bookmarks and time.monotonic() - told_at > server.bookmark_seconds:
                told_at = time.monotonic()
                yield _bookmark(asked.resource, version)

    def _fail_watch(self, fault: Fault, asked: Asked, selector: Selector, version: int) -> None:
        if fault.kind == "error-event":
            self._send_event({"type": "ERROR", "object": _status(fault.code, "Failure", fault.message)})
        elif fault.kind == "garbage":
            self._send_chunk(b"<html>not an event</html>\n")
        elif fault.kind == "silence":
            self._be_silent()
        elif fault.kind in ("cut", "cut-mid-line"):
            first = next(self._events(asked, selector, version), None)
            line = json.dumps(first).encode() + b"\n" if first else b""
            self._send_chunk(line[: len(line) // 2] if fault.kind == "cut-mid-line" else line)
            self._reset()

    def _send_event(self, event: Object, *, slowly: bool = False) -> None:
        line = json.dumps(event).encode() + b"\n"
        for piece in (line[at : at + 7] for at in range(0, len(line), 7)) if slowly else (line,):
            self._send_chunk(piece)

    def _send_chunk(self, content: bytes) -> None:
        self.wfile.write(content if self._plain else f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    # --- answers and faults ---

    def _fail(self, asked: Asked, body: bytes, fault: Fault) -> None:
        if fault.kind == "status":
            self._refuse(fault.code, "Failure", fault.message, fault.retry_after)
        elif fault.kind == "garbage":
            self._send(200, b"<html>not the API</html>", {})
        elif fault.kind in ("silence", "hang"):
            self._be_silent()
        elif fault.kind == "trickle":
            self._answer_asked(asked, body, None)
        else:
            self._reset()

    def _be_silent(self) -> None:
        self.server.stopping.wait()
        raise ConnectionAbortedError

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise ConnectionAbortedError

    def _refuse(self, code: int, reason: str, message: str, retry_after: int) -> None:
        headers = {"Retry-After": str(retry_after)} if retry_after else {}
        self._send(code, json.dumps(_status(code, reason, message)).encode(), headers)

    def _send_json(self, code: int, content: Object) -> None:
        self._send(code, json.dumps(content).encode(), {})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _status(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _bookmark(resource: str, version: int) -> Object:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return {"type": "BOOKMARK", "object": {"kind": _KINDS[resource], "apiVersion": "v1", "metadata": metadata}}
