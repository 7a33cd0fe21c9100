"""Objects to put into the server."""

from collections.abc import Mapping

from apiserver.store import Object


def pod(
    name: str,
    *,
    node: str = "node-1",
    namespace: str = "shop",
    labels: Mapping[str, str] | None = None,
    ip: str = "10.244.1.5",
) -> Object:
    """A running pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Object:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}
