"""What runs on the node: its pods, and the host's own processes."""

import contextlib
import os
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from merbridge.demo import proxy
from merbridge.demo.cgroups import CgroupDriver, container_cgroup, pod_cgroup, remove_cgroup
from merbridge.demo.container import Container, Stream
from merbridge.demo.namespaces import in_namespace, new_namespace
from merbridge.demo.network import Network
from merbridge.demo.proxy_process import ProxyProcess

T = TypeVar("T")
P = ParamSpec("P")


class Workload:
    """Processes in one network namespace and below one cgroup directory: what pods and the host have in common."""

    def __init__(self, title: str, cgroup: Path, network: Network) -> None:
        """Create nothing yet but the value; the subclass gives it a namespace and containers."""
        self.title = title
        self.cgroup = cgroup
        self.network = network
        self.containers: dict[str, Container] = {}
        self._namespace_fd = network.namespace_fd
        self._undo = contextlib.ExitStack()

    def netns_fd(self) -> int:
        """The network namespace's descriptor, owned by this object."""
        return self._namespace_fd

    def in_netns(self, function: Callable[[], T]) -> T:
        """Run a function of the calling process in this network namespace, in a short-lived thread."""
        return in_namespace(self._namespace_fd, function)

    @property
    def cgroup_paths(self) -> dict[str, Path]:
        """Each container's cgroup directory."""
        return {name: container.cgroup for name, container in self.containers.items()}

    def run(
        self,
        arguments: Sequence[str],
        *,
        container: str = "app",
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program in one of the containers; see `Container.run`."""
        return self.containers[container].run(arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=env)

    def call(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a command in the app container; see `Container.call`."""
        return self.containers["app"].call(command, *args, **kwargs)

    def start(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a command in the app container; see `Container.start`."""
        return self.containers["app"].start(command, *args, **kwargs)

    def start_proxy(self, port: int = 15001, *, fixed_destination: tuple[str, int] | None = None) -> ProxyProcess:
        """Start a transparent proxy in the app container and wait until it listens; port 0 takes a free one."""
        arguments = proxy.command(port, fixed_destination=fixed_destination)
        return ProxyProcess(self.run(arguments, stdout=subprocess.PIPE))

    def remove(self) -> None:
        """End the processes and remove cgroups and namespace; does nothing the second time."""
        self._undo.close()

    def _add_container(self, name: str, cgroup: Path) -> Container:
        container = Container(f"container {name} of {self.title}", cgroup, self._namespace_fd)
        self.containers[name] = container
        return container

    def _end_processes(self) -> None:
        try:
            remove_cgroup(self.cgroup)
        finally:
            for container in self.containers.values():
                container.close()


class Host(Workload):
    """The node's own side: its network namespace, and a cgroup that belongs to no pod, like a systemd service's."""

    def __init__(self, name: str, root: Path, network: Network) -> None:
        """Start the host's process as `system.slice/NAME.service`."""
        super().__init__(f"host {name}", root / "system.slice" / f"{name}.service", network)
        self.ip = network.gateway
        self.ip6 = network.ip6_of(self.ip)

    def up(self) -> None:
        """Start its process."""
        self._undo.callback(self._end_processes)
        self._add_container("app", self.cgroup).ready()


class Pod(Workload):
    """A pod: its API object and, below, a sandbox and an app container that share a network namespace.

    `labels`, `annotations`, `phase`, `is_ready` and `deleting` may be changed: the next `write_pod_list` shows it.
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        root: Path,
        network: Network,
        *,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
        ip: str | None,
        cgroup_driver: CgroupDriver,
        host_network: bool,
    ) -> None:
        """Reserve the address; `up` creates the rest."""
        self.uid = str(uuid.uuid4())
        super().__init__(f"pod {namespace}/{name}", pod_cgroup(root, self.uid, cgroup_driver), network)
        self.name = name
        self.namespace = namespace
        self.labels = dict(labels)
        self.annotations = dict(annotations)
        self.host_network = host_network
        self.created = datetime.now(UTC)
        self.phase = "Running"
        self.is_ready = True
        self.deleting = False
        self._cgroup_driver = cgroup_driver
        self.ip = network.gateway if host_network else network.reserve(ip)
        self.ip6 = network.ip6_of(self.ip)
        if not host_network:
            self._undo.callback(network.release, self.ip)

    @property
    def netns_path(self) -> Path:
        """The network namespace as the sandbox's process shows it."""
        return Path(f"/proc/{self.containers['sandbox'].pid}/ns/net")

    def up(self) -> None:
        """Create namespace, network and the two containers."""
        if not self.host_network:
            self._create_network()
        self._undo.callback(self._end_processes)  # the last to be made is the first to go
        for name in ("sandbox", "app"):
            self._add_container(name, container_cgroup(self.cgroup, self._cgroup_driver))
        for container in self.containers.values():
            container.ready()

    def add_container(self, name: str) -> Container:
        """Start one more container in the running pod."""
        container = self._add_container(name, container_cgroup(self.cgroup, self._cgroup_driver))
        container.ready()
        return container

    def _create_network(self) -> None:
        self._namespace_fd = new_namespace(ip6=self.network.dual_stack)
        self._undo.callback(os.close, self._namespace_fd)
        port = self.network.attach(self._namespace_fd, self.ip)
        self._undo.callback(self.network.detach, port)
