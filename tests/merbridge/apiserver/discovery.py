"""The few documents by which kubectl finds out what the API has."""

from typing import Any


def _resource(name: str, kind: str, short_name: str, *, namespaced: bool) -> dict[str, Any]:
    return {
        "name": name,
        "singularName": kind.lower(),
        "namespaced": namespaced,
        "kind": kind,
        "verbs": ["get", "list", "patch", "watch"],
        "shortNames": [short_name],
    }


DOCUMENTS: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64"},
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            _resource("namespaces", "Namespace", "ns", namespaced=False),
            _resource("pods", "Pod", "po", namespaced=True),
        ],
    },
}
