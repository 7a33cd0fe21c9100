"""A node with hundreds of pods, as light as they can be: namespaces, veth pairs, cgroups, and processes that sleep."""

import os
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import attrs
from apiserver.objects import namespace as api_namespace

from merbridge.demo.cgroups import cgroup2_mount, container_cgroup, pod_cgroup, remove_cgroup
from merbridge.demo.namespaces import new_namespace
from merbridge.demo.network import Network

NODE = "crowded"


@attrs.frozen
class CrowdPod:
    """A pod: a sandbox and its containers."""

    name: str
    namespace: str
    uid: str
    ip: str
    cgroup: Path
    netns_fd: int

    def as_object(self, labels: dict[str, str] | None = None) -> dict[str, Any]:
        """As the API has it."""
        metadata = {"name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": labels or {}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"nodeName": NODE, "containers": [{"name": "app", "image": "app"}]},
            "status": {
                "phase": "Running",
                "podIP": self.ip,
                "podIPs": [{"ip": self.ip}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }


class Crowd:
    """The node; a context manager that takes everything down."""

    def __init__(self, pods: int, containers: int, enrolled: int) -> None:
        """`containers` in all, `enrolled` pods in a namespace of the mesh, one ztunnel, the others outside."""
        self._counts = (pods, containers, enrolled)
        self._held = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.pods: list[CrowdPod] = []
        self.root = cgroup2_mount() / f"merbridge-crowd-{os.getpid()}"

    def __enter__(self) -> Self:
        """Build it."""
        with ExitStack() as undo:
            undo.callback(self._held.close)
            self._build()
            undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def namespaces(self) -> list[dict[str, Any]]:
        """As the API has them."""
        ambient = {"istio.io/dataplane-mode": "ambient"}
        return [api_namespace("mesh", ambient), api_namespace("plain"), api_namespace("istio-system")]

    def objects(self) -> list[dict[str, Any]]:
        """The pods, as the API has them."""
        return [pod.as_object({"app": "ztunnel"} if pod.name == "ztunnel" else {}) for pod in self.pods]

    def _build(self) -> None:
        pods, containers, enrolled = self._counts
        self.root.mkdir()
        self._held.callback(remove_cgroup, self.root)
        self._held.callback(self._end_processes)
        self._network = Network("crowd", "10.250.0.0/16")
        self._held.callback(self._network.close)
        host = self.root / "system.slice" / "host.service"
        self.host_pid = self._spawn(host, self._network.namespace_fd)
        for number in range(pods):
            name, space = f"pod-{number:03}", "mesh" if number < enrolled else "plain"
            if number == pods - 1:
                name, space = "ztunnel", "istio-system"
            self.pods.append(self._pod(name, space, containers * (number + 1) // pods - containers * number // pods))

    def _pod(self, name: str, space: str, containers: int) -> CrowdPod:
        uid, ip = str(uuid.uuid4()), self._network.reserve(None)
        netns_fd = new_namespace()
        self._held.callback(os.close, netns_fd)
        self._network.attach(netns_fd, ip)
        cgroup = pod_cgroup(self.root, uid, "systemd")
        for _ in range(1 + containers):  # and the sandbox
            self._spawn(container_cgroup(cgroup, "systemd"), netns_fd)
        return CrowdPod(name, space, uid, ip, cgroup, netns_fd)

    def _spawn(self, cgroup: Path, netns_fd: int) -> int:
        cgroup.mkdir(parents=True, exist_ok=True)
        script = f"echo $$ > {cgroup}/cgroup.procs; exec nsenter --net=/proc/self/fd/{netns_fd} sleep infinity"
        process = subprocess.Popen(["sh", "-c", script], pass_fds=[netns_fd], stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process.pid

    def _end_processes(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
