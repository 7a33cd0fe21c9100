"""A small node: pods made of real network namespaces, cgroups laid out as kubelet does, and processes in them.

Nothing of it touches the machine's own network: the bridge between the pods lies in a namespace of its own.
Namespaces have no name in the file system and end with the processes and descriptors that hold them. Cgroups lie
in one fresh directory.
"""

import contextlib
import ipaddress
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, ParamSpec, Self, TypeVar

from merbridge.demo import pod as pod_process
from merbridge.demo import proxy as proxy_process
from merbridge.demo.pod import Reply, Request, cgroup_pids, kill_cgroup
from merbridge.demo.proxy import Record
from merbridge.errors import MerbridgeError
from pybpfasm.kernel.sys import CLONE_NEWNET, setns, unshare

T = TypeVar("T")
P = ParamSpec("P")

CgroupDriver = Literal["systemd", "cgroupfs"]
Stream = int | IO[Any] | None

START_SECONDS = 10.0
TAKE_DOWN_SECONDS = 5.0
COMMAND_SECONDS = 150.0

# A process joins its cgroup before its own program begins: the shell enters, then becomes the program.
_JOIN_CGROUP = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'


# --- network namespaces ----------------------------------------------------------------------------------------------


def in_namespace(namespace_fd: int, function: Callable[[], T]) -> T:
    """Run a function inside a network namespace, in a short-lived thread, since a thread is what enters one."""

    def enter() -> T:
        setns(namespace_fd, CLONE_NEWNET)
        return function()

    return _in_thread(enter)


def new_namespace() -> int:
    """A descriptor of a new network namespace, with IPv6 off; raises MerbridgeError without the privilege."""

    def create() -> int:
        unshare(CLONE_NEWNET)
        _disable_ipv6()
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    try:
        return _in_thread(create)
    except OSError as error:
        raise MerbridgeError(f"cannot make a pod's network: {error}") from None


def _in_thread(function: Callable[[], T]) -> T:
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return outcome.result()
    finally:  # also when Ctrl-C interrupts the wait
        thread.join()


def _disable_ipv6() -> None:
    """Spare the namespace its link-local addresses, whose duplicate detection takes a second."""
    for name in ("all", "default"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")


@contextlib.contextmanager
def _netlink(attempted: str) -> Iterator[Any]:
    """An IPRoute of the calling thread's namespace; failures become one line that says what was attempted."""
    # Imported late: 0.2 s that a caller who makes no node should not pay.
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise MerbridgeError(f"cannot {attempted}: {error}") from None


class Network:
    """A bridge in a network namespace of its own, with an address that is the pods' default gateway."""

    def __init__(self, name: str, subnet: str) -> None:
        """Create namespace and bridge; `subnet` as in 10.244.77.0/24."""
        self.name = name
        self.subnet = ipaddress.IPv4Network(subnet)
        self.gateway = str(self.subnet[1])
        self._free = (str(address) for address in itertools.islice(self.subnet.hosts(), 1, None))
        self._used: set[str] = set()
        self._numbers = itertools.count()
        self.namespace_fd = new_namespace()
        try:
            in_namespace(self.namespace_fd, self._create_bridge)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the namespace; the kernel removes it with the bridge when its last process has ended."""
        os.close(self.namespace_fd)

    def reserve(self, address: str | None) -> str:
        """The address asked for, or the next free one; raises ValueError when it is taken or not of this subnet."""
        chosen = address or next(free for free in self._free if free not in self._used)
        if ipaddress.IPv4Address(chosen) not in self.subnet or chosen in self._used | {self.gateway}:
            raise ValueError(f"{chosen} is not a free address of network {self.name}, {self.subnet}")
        self._used.add(chosen)
        return chosen

    def release(self, address: str) -> None:
        """Let another pod ask for this address."""
        self._used.discard(address)

    def attach(self, namespace_fd: int, address: str) -> str:
        """Give a pod's namespace an eth0 with this address, connected to the bridge; returns the bridge's port."""
        port = f"veth{next(self._numbers)}"
        in_namespace(self.namespace_fd, lambda: self._create_port(port, namespace_fd))
        in_namespace(namespace_fd, lambda: self._configure_pod(address))
        return port

    def detach(self, port: str) -> None:
        """Remove a port, and with it the eth0 at its other end."""
        in_namespace(self.namespace_fd, lambda: self._remove_port(port))

    def _create_bridge(self) -> None:
        with _netlink("create a bridge in a new network namespace (kernel module bridge)") as netlink:
            netlink.link("set", index=1, state="up")
            netlink.link("add", ifname="br0", kind="bridge")
            (bridge,) = netlink.link_lookup(ifname="br0")
            netlink.addr("add", index=bridge, address=self.gateway, prefixlen=self.subnet.prefixlen)
            netlink.link("set", index=bridge, state="up")

    def _create_port(self, port: str, namespace_fd: int) -> None:
        with _netlink("connect a pod to the bridge (kernel module veth)") as netlink:
            netlink.link("add", ifname=port, kind="veth", peer={"ifname": "eth0", "net_ns_fd": namespace_fd})
            (index,) = netlink.link_lookup(ifname=port)
            (bridge,) = netlink.link_lookup(ifname="br0")
            netlink.link("set", index=index, master=bridge, state="up")

    def _configure_pod(self, address: str) -> None:
        with _netlink("configure a pod's eth0") as netlink:
            (index,) = netlink.link_lookup(ifname="eth0")
            netlink.link("set", index=1, state="up")
            netlink.addr("add", index=index, address=address, prefixlen=self.subnet.prefixlen)
            netlink.link("set", index=index, state="up")
            netlink.route("add", dst="default", gateway=self.gateway)

    def _remove_port(self, port: str) -> None:
        with _netlink("remove a pod's port from the bridge") as netlink:
            for index in netlink.link_lookup(ifname=port):
                netlink.link("del", index=index)


# --- cgroups ---------------------------------------------------------------------------------------------------------


def cgroup2_mount() -> Path:
    """Where this process sees a cgroup2 file system; raises MerbridgeError when there is none."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            escaped = before.split()[4]
            return Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), escaped))
    raise MerbridgeError(
        "no cgroup2 file system is mounted: mount one, for example "
        "`mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )


def remove_cgroup(directory: Path) -> None:
    """End every process at or below a cgroup directory, then remove it; raises MerbridgeError when it stays busy."""
    deadline = time.monotonic() + TAKE_DOWN_SECONDS
    while directory.exists():
        kill_cgroup(directory)
        for path, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):  # a killed process takes a moment to leave; the next round removes it
                os.rmdir(path)
        if time.monotonic() > deadline:
            pids = ", ".join(map(str, cgroup_pids(directory))) or "none that can be seen"
            raise MerbridgeError(f"cannot remove cgroup {directory}: still busy (processes: {pids}); remove it later")
        time.sleep(0.002)


def _remove_stale_cgroups(mount: Path, purpose: str) -> None:
    """Remove what nodes for this purpose left behind when they were killed."""
    for path in mount.glob(f"merbridge-{purpose}-*"):
        pid = path.name.removeprefix(f"merbridge-{purpose}-")
        if pid.isdecimal() and not Path("/proc", pid).exists():
            remove_cgroup(path)


def _pod_cgroup(root: Path, uid: str, driver: CgroupDriver) -> Path:
    """A pod's directory as kubelet names it."""
    if driver == "cgroupfs":
        return root / "kubepods" / "burstable" / f"pod{uid}"
    pod_slice = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    return root / "kubepods.slice" / "kubepods-burstable.slice" / pod_slice


def _container_cgroup(pod_cgroup: Path, driver: CgroupDriver) -> Path:
    """A new container's directory as containerd names it."""
    container_id = secrets.token_hex(32)
    return pod_cgroup / (container_id if driver == "cgroupfs" else f"cri-containerd-{container_id}.scope")


# --- processes -------------------------------------------------------------------------------------------------------


class Container:
    """A cgroup with a process of `merbridge.demo.pod` in it that takes commands, and whatever else is run there."""

    def __init__(self, title: str, cgroup: Path, namespace_fd: int) -> None:
        """Create the cgroup and start the process in it and in the network namespace; `ready` waits for it."""
        self.title = title
        self.cgroup = cgroup
        self._namespace_fd = namespace_fd
        self._processes: list[subprocess.Popen[str]] = []
        self._ids = itertools.count(1)
        self._ready: Future[int] = Future()
        self._pending: dict[int, Future[Any]] = {0: self._ready}
        self._has_ended = False
        self._lock = threading.Lock()
        cgroup.mkdir(parents=True)
        program = [sys.executable, "-IS", pod_process.__file__, str(cgroup)]
        self._process = self.run(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read_replies, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process that takes commands."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the process runs; raises MerbridgeError when it does not come up."""
        try:
            self._ready.result(START_SECONDS)
        except TimeoutError:
            raise MerbridgeError(f"{self.title} did not start within {START_SECONDS:.0f} s") from None

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program in this container's namespace and cgroup, in a session of its own.

        It and its children end with the container, and its pipes are closed then. A pipe that nobody reads blocks it.
        """

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _JOIN_CGROUP, "sh", str(self.cgroup), *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                text=True,
                start_new_session=True,  # Ctrl-C in the terminal is for the node's owner, who ends the rest in order
            )
            self._processes.append(process)
            return process

        return in_namespace(self._namespace_fd, start)

    def call(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the commands of `merbridge.demo.pod` in this container, as in `call(connect, "10.0.0.1", 80)`.

        Raises MerbridgeError when the command could not be run; what goes wrong on the network is in its result.
        """
        seconds = COMMAND_SECONDS
        for name in ("timeout_seconds", "total_timeout_seconds"):
            given = kwargs.get(name)
            seconds += given if isinstance(given, int | float) else 0
        try:
            return self.start(command, *args, **kwargs).result(seconds)
        except TimeoutError:
            raise MerbridgeError(f"{self.title}: {command.__name__} gave no answer in {seconds:.0f} s") from None

    def start(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a command and return at once; the future holds what `call` returns or raises."""
        future: Future[T] = Future()
        with self._lock:
            request: Request = {
                "id": next(self._ids),
                "command": command.__name__,
                "positional": list(args),
                "named": kwargs,
            }
            line = json.dumps(request) + "\n"
            if self._has_ended:
                raise self._ended()
            self._pending[request["id"]] = future
            with contextlib.suppress(BrokenPipeError):  # it has just ended: the reader says so to all who wait
                _pipe(self._process.stdin).write(line)
                _pipe(self._process.stdin).flush()
        return future

    def close(self) -> None:
        """Reap the processes, which must have been killed, and close their pipes."""
        for process in self._processes:
            process.wait(TAKE_DOWN_SECONDS)
        self._reader.join(TAKE_DOWN_SECONDS)
        for process in self._processes:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError, ValueError):  # unsent bytes; a reader still in it
                        pipe.close()

    def _read_replies(self) -> None:
        for line in _pipe(self._process.stdout):
            reply: Reply = json.loads(line)
            with self._lock:
                future = self._pending.pop(reply["id"])
            if "error" in reply:
                future.set_exception(MerbridgeError(f"{self.title}: {reply['error']}"))
            else:
                future.set_result(reply["result"])
        with self._lock:
            self._has_ended = True
            pending, self._pending = self._pending, {}
        for future in pending.values():
            future.set_exception(self._ended())

    def _ended(self) -> MerbridgeError:
        return MerbridgeError(f"{self.title} has ended: it takes no commands any more")


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


class ProxyProcess:
    """A running `merbridge.demo.proxy` and what it says about its connections."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until the proxy listens; raises MerbridgeError when it does not."""
        self.process = process
        self._records: list[Record] = []
        self._changed = threading.Condition()
        first_line = _pipe(process.stdout).readline()
        if not first_line:
            raise MerbridgeError("the proxy ended before it listened: see its message above")
        self.port: int = json.loads(first_line)["listening"]
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def records(self) -> list[Record]:
        """The connections so far, in the order in which they were connected onwards or refused."""
        with self._changed:
            return list(self._records)

    def wait_for(self, count: int, timeout_seconds: float = 5.0) -> list[Record]:
        """The records once there are at least `count`; raises MerbridgeError when there are too few in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._records) >= count, timeout_seconds):
                raise MerbridgeError(f"the proxy saw {len(self._records)} of {count} connections")
            return list(self._records)

    def _read(self) -> None:
        with contextlib.suppress(ValueError):  # closed by the container's end
            for line in _pipe(self.process.stdout):
                with self._changed:
                    self._records.append(json.loads(line))
                    self._changed.notify_all()


# --- pods and the node -----------------------------------------------------------------------------------------------


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
        arguments = proxy_process.command(port, fixed_destination=fixed_destination)
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
        super().__init__(f"pod {namespace}/{name}", _pod_cgroup(root, self.uid, cgroup_driver), network)
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
            self._add_container(name, _container_cgroup(self.cgroup, self._cgroup_driver))
        for container in self.containers.values():
            container.ready()

    def add_container(self, name: str) -> Container:
        """Start one more container in the running pod."""
        container = self._add_container(name, _container_cgroup(self.cgroup, self._cgroup_driver))
        container.ready()
        return container

    def _create_network(self) -> None:
        self._namespace_fd = new_namespace()
        self._undo.callback(os.close, self._namespace_fd)
        port = self.network.attach(self._namespace_fd, self.ip)
        self._undo.callback(self.network.detach, port)


class Node:
    """A node with its pods; a context manager that takes everything down, whatever happens in its body.

    When its process is killed, the processes in the pods end by themselves and the namespaces with them; the empty
    cgroup directories are removed by the next node for the same purpose.
    """

    def __init__(self, purpose: str = "demo", *, name: str = "demo-node", subnet: str = "10.244.77.0/24") -> None:
        """Prepare a node named `name`; every network that it gets has the same subnet, isolated from the others.

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
        """Take everything down; Ctrl-C does not interrupt it, one failure does not keep the rest from being tried."""
        with _uninterrupted():
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
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(self._pod_list_text(as_json=path.suffix == ".json"))
        temporary.replace(path)

    def _create_cgroup_root(self) -> None:
        if os.geteuid() != 0:
            raise MerbridgeError("cannot make network namespaces and cgroups: run it as root")
        mount = self.cgroup_root.parent
        _remove_stale_cgroups(mount, self._purpose)
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
            self._networks[name] = Network(name, self._subnet)
            self._undo.callback(self._networks[name].close)
        return self._networks[name]

    def _pod_list_text(self, *, as_json: bool) -> str:
        items = [_namespace_object(name, labels, self._created) for name, labels in self.namespaces.items()]
        items += [_pod_object(pod, self.name) for pod in self.pods]
        listed = {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
        if as_json:
            return json.dumps(listed, indent=4) + "\n"
        import yaml

        return yaml.safe_dump(listed)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C; a thread other than the main one never gets it anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


# --- API objects -----------------------------------------------------------------------------------------------------


def _api_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _namespace_object(name: str, labels: Mapping[str, str], created: datetime) -> dict[str, Any]:
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


def _pod_object(pod: Pod, node_name: str) -> dict[str, Any]:
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
    containers = [{"image": "demo", "name": name} for name in pod.containers if name != "sandbox"]
    spec: dict[str, Any] = {"containers": containers, "nodeName": node_name, "restartPolicy": "Always"}
    if pod.host_network:
        spec["hostNetwork"] = True
    ready = {
        "lastTransitionTime": _api_time(pod.created),
        "status": "True" if pod.is_ready else "False",
        "type": "Ready",
    }
    status = {
        "conditions": [ready],
        "hostIP": pod.network.gateway,
        "phase": pod.phase,
        "podIP": pod.ip,
        "podIPs": [{"ip": pod.ip}],
        "qosClass": "Burstable",
        "startTime": _api_time(pod.created),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}
