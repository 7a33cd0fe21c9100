"""Pods and namespaces as Kubernetes API objects, and the file that `kubectl get namespaces,pods -A` would print."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from merbridge.demo.workloads import Pod


def write_list(path: Path, objects: Sequence[Mapping[str, Any]]) -> None:
    """Write the objects as one List, atomically: JSON to a *.json, YAML to any other name."""
    listed = {"apiVersion": "v1", "items": list(objects), "kind": "List", "metadata": {"resourceVersion": ""}}
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(_json_text(listed) if path.suffix == ".json" else _yaml_text(listed))
    temporary.replace(path)


def namespace_object(name: str, labels: Mapping[str, str], created: datetime) -> dict[str, Any]:
    """A Namespace; `created` is a time in UTC."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "creationTimestamp": _api_time(created),
            "labels": {"kubernetes.io/metadata.name": name, **labels},
            "name": name,
            "resourceVersion": "1",
            "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def pod_object(pod: Pod, node_name: str) -> dict[str, Any]:
    """A Pod as it is now, scheduled to the node of this name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _pod_metadata(pod),
        "spec": _pod_spec(pod, node_name),
        "status": _pod_status(pod),
    }


def _pod_metadata(pod: Pod) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "creationTimestamp": _api_time(pod.created),
        "name": pod.name,
        "namespace": pod.namespace,
        "resourceVersion": "1",
        "uid": pod.uid,
    }
    # As the API server does, leave out what is empty.
    for field, content in (("annotations", pod.annotations), ("labels", pod.labels)):
        if content:
            metadata[field] = dict(content)
    if pod.deleting:
        metadata["deletionTimestamp"] = _api_time(datetime.now(UTC))
    return metadata


def _pod_spec(pod: Pod, node_name: str) -> dict[str, Any]:
    containers = [{"image": "demo", "name": name} for name in pod.containers if name != "sandbox"]
    spec: dict[str, Any] = {"containers": containers, "nodeName": node_name, "restartPolicy": "Always"}
    if pod.host_network:
        spec["hostNetwork"] = True
    return spec


def _pod_status(pod: Pod) -> dict[str, Any]:
    ready = {
        "lastTransitionTime": _api_time(pod.created),
        "status": "True" if pod.is_ready else "False",
        "type": "Ready",
    }
    return {
        "conditions": [ready],
        "hostIP": pod.network.gateway,
        "phase": pod.phase,
        "podIP": pod.ip,
        "podIPs": [{"ip": each} for each in (pod.ip, pod.ip6) if each is not None],
        "qosClass": "Burstable",
        "startTime": _api_time(pod.created),
    }


def _api_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json_text(value: object) -> str:
    return json.dumps(value, indent=4) + "\n"


def _yaml_text(value: object) -> str:
    import yaml  # late: a caller who writes JSON needs no PyYAML

    text: str = yaml.safe_dump(value)
    return text
