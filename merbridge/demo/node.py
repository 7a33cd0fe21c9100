"""A small node: pods made of real network namespaces, cgroups laid out as kubelet does, and processes in them.

Nothing of it touches the machine's own network: the bridge between the pods lies in a namespace of its own.
Namespaces have no name in the file system and end with the processes and descriptors that hold them. Cgroups lie
in one fresh directory.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from merbridge.demo.cgroups import CgroupDriver, cgroup2_mount, remove_cgroup, remove_stale_cgroups
from merbridge.demo.network import Network
from merbridge.demo.pod_list import namespace_object, pod_object, write_list
from merbridge.demo.signals import uninterrupted
from merbridge.demo.workloads import Host, Pod
from merbridge.errors import MerbridgeError


class Node:
    """A node with its pods; a context manager that takes everything down, whatever happens in its body.

    When its process is killed, the processes in the pods end by themselves and the namespaces with them; the empty
    cgroup directories are removed by the next node for the same purpose. SIGTERM kills it in this way too, unless its
    user asks for the orderly way: `with exit_on_sigterm(), Node("demo") as node:`, see `merbridge.demo.signals`.
    """

    def __init__(
        self,
        purpose: str = "demo",
        *,
        name: str = "demo-node",
        subnet: str = "10.244.77.0/24",
        dual_stack: bool = False,
    ) -> None:
        """Prepare a node named `name`; every network that it gets has the same subnet, isolated from the others.

        With `dual_stack` pods and host have an IPv6 address each, too.

        Raises ValueError for a purpose that cannot be part of a directory name, MerbridgeError without a cgroup2.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", purpose):
            raise ValueError(f"purpose {purpose!r}: lower-case letters, digits and dashes")
        self.name = name
        self.cgroup_root = cgroup2_mount() / f"merbridge-{purpose}-{os.getpid()}"
        self.namespaces: dict[str, dict[str, str]] = {}
        self.pods: list[Pod] = []
        self._purpose = purpose
        self._subnet = subnet
        self._dual_stack = dual_stack
        self._created = datetime.now(UTC)
        self._hosts: dict[tuple[str, str], Host] = {}
        self._networks: dict[str, Network] = {}
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Create the cgroup directory; raises MerbridgeError without root, or when such a node is up already."""
        try:
            self._create_cgroup_root()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down."""
        self.close()

    def close(self) -> None:
        """Take everything down; one failure does not keep the rest from being tried.

        Ctrl-C does not interrupt it, nor does a SIGTERM that `exit_on_sigterm` handles, which then counts afterwards.
        """
        with uninterrupted():
            self._undo.close()

    def add_pod(
        self,
        name: str,
        *,
        namespace: str = "default",
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        ip: str | None = None,
        cgroup_driver: CgroupDriver = "systemd",
        network: str = "pods",
        host_network: bool = False,
    ) -> Pod:
        """Start a pod; returns when its containers take commands.

        A network is created when it is first named. Pods of two networks cannot reach each other and may have the same
        address. The namespace is added without labels when it is new.
        """
        self.namespaces.setdefault(namespace, {})
        pod = Pod(
            name,
            namespace,
            self.cgroup_root,
            self._network(network),
            labels=labels or {},
            annotations=annotations or {},
            ip=ip,
            cgroup_driver=cgroup_driver,
            host_network=host_network,
        )
        self._undo.callback(pod.remove)
        try:
            pod.up()
        except BaseException:
            pod.remove()
            raise
        self.pods.append(pod)
        return pod

    def remove_pod(self, pod: Pod) -> None:
        """Remove a pod and forget it: the next `write_pod_list` does not have it."""
        self.pods.remove(pod)
        pod.remove()

    def host(self, name: str = "host", *, network: str = "pods") -> Host:
        """The node's own side in one of its networks; started when it is first asked for."""
        key = (name, network)
        if key not in self._hosts:
            title = name if network == "pods" else f"{name}-{network}"
            host = Host(title, self.cgroup_root, self._network(network))
            self._undo.callback(host.remove)
            host.up()
            self._hosts[key] = host
        return self._hosts[key]

    def write_pod_list(self, path: Path) -> None:
        """Write what `kubectl get namespaces,pods -A -o yaml` prints (-o json for a *.json), atomically."""
        objects = [namespace_object(name, labels, self._created) for name, labels in self.namespaces.items()]
        objects += [pod_object(pod, self.name) for pod in self.pods]
        write_list(path, objects)

    def _create_cgroup_root(self) -> None:
        if os.geteuid() != 0:
            raise MerbridgeError("cannot make network namespaces and cgroups: run it as root")
        mount = self.cgroup_root.parent
        remove_stale_cgroups(mount, self._purpose)
        try:
            self.cgroup_root.mkdir()
        except FileExistsError:
            raise MerbridgeError(
                f"{self.cgroup_root} exists: this process has a node for {self._purpose} already; "
                "close it (or remove that directory), or name another purpose"
            ) from None
        except OSError as error:
            raise MerbridgeError(f"cannot create a cgroup below {mount}: {error.strerror}") from None
        self._undo.callback(remove_cgroup, self.cgroup_root)

    def _network(self, name: str) -> Network:
        if name not in self._networks:
            self._networks[name] = Network(name, self._subnet, dual_stack=self._dual_stack)
            self._undo.callback(self._networks[name].close)
        return self._networks[name]
