"""As much of a Kubernetes API as Helm needs to install, upgrade and uninstall the chart; nothing becomes of objects.

It refuses what the real one would refuse of the chart: fields that it does not know, objects in a namespace that is not
there, and another selector.
"""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import attrs
import yaml

Object = dict[str, Any]
Check = Callable[[Object], list[str]]


@attrs.frozen
class _Resource:
    group_version: str
    name: str
    kind: str
    namespaced: bool

    @property
    def root(self) -> str:
        return f"/apis/{self.group_version}" if "/" in self.group_version else f"/api/{self.group_version}"


_RBAC = "rbac.authorization.k8s.io/v1"
_RESOURCES = (
    _Resource("v1", "namespaces", "Namespace", namespaced=False),
    _Resource("v1", "serviceaccounts", "ServiceAccount", namespaced=True),
    _Resource(_RBAC, "clusterroles", "ClusterRole", namespaced=False),
    _Resource(_RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    _Resource("apps/v1", "daemonsets", "DaemonSet", namespaced=True),
)
_GROUPS = tuple(dict.fromkeys(each.group_version for each in _RESOURCES))
_PATH = re.compile(r"(?P<root>/api/v1|/apis/[^/]+/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<rest>[a-z]+(/[^/]+)?)")


class HelmCluster:
    """Listens while it is entered; `objects` are those that there are, by kind and name."""

    def __init__(self, version: str, check: Check) -> None:
        """`version` is one of Kubernetes', such as 1.32; `check` says what of an object it does not know."""
        self.version = version
        self.check = check
        self.objects: dict[tuple[str, str], Object] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.cluster = self  # type: ignore[attr-defined]  # for the handlers
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "HelmCluster":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def kubeconfig(self) -> str:
        """For anybody."""
        cluster = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
            "current-context": "it",
        }
        return yaml.safe_dump(document)

    def discovery(self, path: str) -> Object | None:
        """The documents by which Helm finds out what there is."""
        if path == "/version":
            major, minor = self.version.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{self.version}.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [_group(each) for each in _GROUPS if "/" in each]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/openapi/v3":
            return {"paths": {_root(each)[1:]: {"serverRelativeURL": f"/openapi/v3{_root(each)}"} for each in _GROUPS}}
        for each in _GROUPS:
            if path == _root(each):
                return _resource_list(each)
            if path == f"/openapi/v3{_root(each)}":
                return _schema(each)
        return None

    def put(self, resource: _Resource, namespace: str, given: Object) -> tuple[int, Object]:
        """Create or replace an object; an HTTP status beside the answer."""
        if wrong := self.check(given):
            return _refusal(400, "BadRequest", f"strict decoding error: {wrong}")
        if namespace and ("Namespace", namespace) not in self.objects:
            return _refusal(404, "NotFound", f'namespaces "{namespace}" not found')
        key = resource.kind, given["metadata"]["name"]
        there = self.objects.get(key, given)
        if there.get("spec", {}).get("selector") != given.get("spec", {}).get("selector"):
            return _refusal(422, "Invalid", "spec.selector: field is immutable")
        self.objects[key] = given
        return 200, given


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the overridden method's name for it
        """Nobody reads it."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, document = self._document(urlsplit(self.path).path, body)
        content = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer  # noqa: N815  # http.server's names

    def _document(self, path: str, body: bytes) -> tuple[int, Object]:
        cluster: HelmCluster = self.server.cluster  # type: ignore[attr-defined]
        found = cluster.discovery(path)
        if found is not None:
            return 200, found
        match = _PATH.fullmatch(path)
        named = [each for each in _RESOURCES if match and each.root == match["root"]]
        resource_name, _, name = match["rest"].partition("/") if match else ("", "", "")
        resource = next((each for each in named if each.name == resource_name), None)
        if match is None or resource is None:
            return _refusal(404, "NotFound", f"{path} is not there")
        key = (resource.kind, name)
        if self.command in ("POST", "PATCH", "PUT"):
            given = yaml.safe_load(body)
            if self.command == "POST" and (resource.kind, given["metadata"]["name"]) in cluster.objects:
                return _refusal(409, "AlreadyExists", f"{resource.name} already exists")
            return cluster.put(resource, match["namespace"] or "", given)
        if key not in cluster.objects:
            return _refusal(404, "NotFound", f'{resource.name} "{name}" not found')
        return 200, cluster.objects.pop(key) if self.command == "DELETE" else cluster.objects[key]


def _root(group_version: str) -> str:
    return next(each.root for each in _RESOURCES if each.group_version == group_version)


def _group(group_version: str) -> Object:
    version = {"groupVersion": group_version, "version": "v1"}
    return {"name": group_version.split("/")[0], "versions": [version], "preferredVersion": version}


def _resource_list(group_version: str) -> Object:
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    listed = [
        {
            "name": each.name,
            "singularName": each.kind.lower(),
            "kind": each.kind,
            "namespaced": each.namespaced,
            "verbs": verbs,
        }
        for each in _RESOURCES
        if each.group_version == group_version
    ]
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": listed}


def _schema(group_version: str) -> Object:
    """Nothing but that the server checks fields itself."""
    group = group_version.partition("/")[0] if "/" in group_version else ""
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    paths = {}
    for each in _RESOURCES:
        if each.group_version == group_version:
            kind = {"group": group, "version": "v1", "kind": each.kind}
            patch = {"x-kubernetes-group-version-kind": kind, "parameters": parameters, "responses": {}}
            paths[f"{each.root}/{each.name}/{{name}}"] = {"patch": patch}
    return {"openapi": "3.0.0", "info": {"title": "it", "version": "1"}, "paths": paths}


def _refusal(code: int, reason: str, message: str) -> tuple[int, Object]:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return code, {**status, "message": message}
