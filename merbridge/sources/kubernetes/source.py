"""The source `kubernetes`: two reflectors, this node's pods and all namespaces, put together to one snapshot."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from merbridge.model import Pod, Snapshot
from merbridge.sources.kubernetes.api import Api
from merbridge.sources.kubernetes.errors import ApiError, UnreachableError
from merbridge.sources.kubernetes.reflector import Reflector, Resource
from merbridge.sources.objects import namespace_labels_of, pod_of
from merbridge.sources.source import SourceState


class KubernetesSource:
    """Pods of one node and the labels of all namespaces, followed by threads from `start` to `close`."""

    watched_file: Path | None = None

    def __init__(self, api: Api, node_name: str) -> None:
        """Nothing is asked of the API yet."""
        self.api = api
        self._node_name = node_name
        self._event = _Event()
        this_node = {"fieldSelector": f"spec.nodeName={node_name}"}
        self._pods: Reflector[Pod] = Reflector(
            api, Resource("pods", "/api/v1/pods", this_node, pod_of), self._event.set
        )
        self._namespaces: Reflector[Mapping[str, str]] = Reflector(
            api, Resource("namespaces", "/api/v1/namespaces", {}, namespace_labels_of), self._event.set
        )
        self._made_of: tuple[object, object] = (None, None)
        self._snapshot: Snapshot | None = None

    def annotation_denied(self) -> list[str]:
        """Why pods may not be annotated, asked by a SelfSubjectAccessReview; [] if they may."""
        wanted = {"verb": "patch", "resource": "pods", "group": ""}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        try:
            answer = self.api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        except (ApiError, UnreachableError) as error:
            return [self.api.explain(error, "create", "selfsubjectaccessreviews")]
        status = answer.get("status")
        if isinstance(status, dict) and status.get("allowed") is True:
            return []
        return [self.api.explain(ApiError(403, "the API says so when asked for access"), "patch", "pods")]

    def start(self) -> None:
        """Begin to ask the API, again and again until it answers."""
        # Namespaces first: a pod whose namespace is not known counts as outside the mesh.
        self._namespaces.start()
        self._pods.start()

    def close(self) -> None:
        """End the threads; one that waits for a connection to be made ends with the process."""
        for reflector in (self._pods, self._namespaces):
            reflector.stop()
        self.api.close()
        for reflector in (self._pods, self._namespaces):
            reflector.join()
        self._event.close()

    def descriptors(self) -> tuple[int, ...]:
        """The event that the reflectors set."""
        return (self._event.fileno(),)

    def latest(self) -> Snapshot | None:
        """What is known, None before both lists have come."""
        self._event.clear()
        # Pods before namespaces, so that the namespaces are at least as new as the pods in them.
        pods, namespaces = self._pods.objects(), self._namespaces.objects()
        if pods is None or namespaces is None:
            return None
        if self._snapshot is None or self._made_of[0] is not pods or self._made_of[1] is not namespaces:
            self._made_of = (pods, namespaces)
            by_name = {key.removeprefix("/"): labels for key, labels in namespaces.items()}
            self._snapshot = Snapshot(namespaces=by_name, pods=tuple(pods.values()))
        return self._snapshot

    def states(self) -> tuple[SourceState, ...]:
        """Pods and namespaces."""
        pods = self._pods.state()
        if self._pods.objects() == {} and not pods.problem:
            pods = attrs.evolve(pods, problem=self._no_pods())
        return (pods, self._namespaces.state())

    def _no_pods(self) -> str:
        return (
            f"the API has no pod on node {self._node_name}: is --node-name (NODE_NAME) a name of `kubectl get nodes`?"
        )


class _Event:
    """An event that `select` can wait for; after `close`, `set` does nothing."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        return self._descriptor

    def set(self) -> None:
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._descriptor)
