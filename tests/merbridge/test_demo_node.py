"""The demo's node is real: namespaces, cgroups, TCP; and nothing of it stays."""

import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from merbridge.demo.cgroups import cgroup2_mount
from merbridge.demo.container import Container
from merbridge.demo.node import Node
from merbridge.demo.pod import (
    cgroup_pids,
    close,
    close_server,
    connect,
    connect_many,
    exchange,
    kill_one_by_one,
    listen,
    listen_udp,
    seen_by_server,
    stream,
    udp_exchange,
)
from merbridge.demo.signals import exit_on_sigterm, uninterrupted
from merbridge.demo.workloads import Pod
from merbridge.errors import MerbridgeError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node that the tests of this module share; each test starts pods of its own."""
    with Node("test-node") as started:
        yield started


@pytest.fixture
def pair(node: Node) -> Iterator[tuple[Pod, Pod]]:
    """Two pods of one network, of either cgroup driver."""
    client = node.add_pod("client", namespace="shop")
    server = node.add_pod("server", namespace="shop", cgroup_driver="cgroupfs")
    yield client, server
    node.remove_pod(client)
    node.remove_pod(server)


def wait_until(condition: object, seconds: float = 5.0) -> bool:
    """Whether the condition, a function, becomes true in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def cgroup2_path(pid: int) -> Path:
    """The directory of a process's cgroup, as the kernel reports it."""
    (line,) = [line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")]
    return cgroup2_mount() / line.removeprefix("0::/")


def open_descriptors() -> list[str]:
    """What this process's descriptors refer to, without what other tests have let go and nobody has collected yet."""
    gc.collect()
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the directory that is being listed
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sorted(link for link in links if not link.endswith("/fd"))


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptor_count(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


# --- the network -----------------------------------------------------------------------------------------------------


def test_pod_reaches_pod_with_its_own_address(pair: tuple[Pod, Pod]) -> None:
    """A server in another pod sees the client's pod address, and the bytes come back."""
    client, server = pair
    server.call(listen, port=8080)
    result = client.call(
        connect, server.ip, 8080, greeting=True, send="hello\x00\xff", shutdown_write=True, receive=None
    )
    assert result["error"] is None
    assert result["received"] == "hello\x00\xff"
    assert result["seen"] == {
        "peer_address": client.ip,
        "peer_port": result["local_port"],
        "local_address": server.ip,
        "local_port": 8080,
    }
    assert server.call(seen_by_server, 8080) == [result["seen"]]


def test_host_reaches_pod(node: Node, pair: tuple[Pod, Pod]) -> None:
    """The node's own side reaches pods from the gateway's address, and pods reach it."""
    client, server = pair
    server.call(listen, port=8080)
    host = node.host()
    seen = host.call(connect, server.ip, 8080, greeting=True)["seen"]
    assert seen is not None
    assert seen["peer_address"] == host.ip
    port = host.call(listen)
    assert client.call(connect, host.ip, port)["error"] is None


def test_equal_addresses_in_two_networks(node: Node) -> None:
    """Two pairs of pods with the same addresses on isolated networks each reach their own peer only."""
    near = node.add_pod("near", ip="10.244.77.100")
    far = node.add_pod("far", ip="10.244.77.100", network="other")
    clients = [node.add_pod("client-1", ip="10.244.77.101")]
    clients.append(node.add_pod("client-2", ip="10.244.77.101", network="other"))
    near.call(listen, port=7001)
    far.call(listen, port=7002)
    outcomes = [[client.call(connect, near.ip, port)["error"] for port in (7001, 7002)] for client in clients]
    assert outcomes == [[None, "ECONNREFUSED"], ["ECONNREFUSED", None]]
    assert os.stat(near.netns_path).st_ino != os.stat(far.netns_path).st_ino
    for pod in (near, far, *clients):
        node.remove_pod(pod)


def test_taken_address_is_refused(node: Node, pair: tuple[Pod, Pod]) -> None:
    """An address that a pod has cannot be given to a second one, and is free again when the pod has gone."""
    with pytest.raises(ValueError, match="not a free address"):
        node.add_pod("double", ip=pair[0].ip)
    first = node.add_pod("first", ip="10.244.77.50")
    node.remove_pod(first)
    second = node.add_pod("second", ip="10.244.77.50")
    assert second.call(connect, pair[0].ip, 9)["error"] == "ECONNREFUSED"
    node.remove_pod(second)


def test_host_network_pod(node: Node) -> None:
    """A pod on the host's network has the host's namespace and address, and a pod's cgroup."""
    pod = node.add_pod("agent", host_network=True)
    assert os.stat(pod.netns_path).st_ino == os.fstat(node.host().netns_fd()).st_ino
    assert pod.ip == node.host().ip
    assert pod.uid.replace("-", "_") in str(cgroup2_path(pod.containers["app"].pid))
    node.remove_pod(pod)


# --- cgroups and processes -------------------------------------------------------------------------------------------


def test_cgroup_names(pair: tuple[Pod, Pod], node: Node) -> None:
    """Directories are named as kubelet and containerd name them, for both drivers, and hold the processes."""
    systemd, cgroupfs = pair
    uid = systemd.uid.replace("-", "_")
    expected = {
        systemd: rf"kubepods\.slice/kubepods-burstable\.slice/kubepods-burstable-pod{uid}\.slice/"
        r"cri-containerd-[0-9a-f]{64}\.scope",
        cgroupfs: rf"kubepods/burstable/pod{cgroupfs.uid}/[0-9a-f]{{64}}",
        node.host("sshd"): r"system\.slice/sshd\.service",
    }
    for workload, pattern in expected.items():
        for name, path in workload.cgroup_paths.items():
            assert re.fullmatch(pattern, str(path.relative_to(node.cgroup_root))), name
            assert cgroup2_path(workload.containers[name].pid) == path


def test_program_is_in_its_cgroup_from_the_first_instruction(pair: tuple[Pod, Pod]) -> None:
    """What is run in a pod reads the container's cgroup and the pod's namespace as its own."""
    pod = pair[0]
    script = "import os; print(open('/proc/self/cgroup').read(), os.stat('/proc/self/ns/net').st_ino)"
    process = pod.run([sys.executable, "-c", script], stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=10)
    assert str(pod.cgroup_paths["app"].relative_to(cgroup2_mount())) in output
    assert output.split()[-1] == str(os.stat(pod.netns_path).st_ino)


def test_program_inherits_nothing(pair: tuple[Pod, Pod]) -> None:
    """A program has the three standard descriptors only, and leads a session of its own."""
    script = "ls /proc/$$/fd | tr '\\n' ' '; cut -d' ' -f6 /proc/$$/stat"
    process = pair[0].run(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=10)
    assert output.split() == ["0", "1", "2", str(process.pid)]


def test_container_added_to_running_pod(pair: tuple[Pod, Pod]) -> None:
    """A container that is added later has a cgroup of its own and shares the pod's namespace."""
    client, server = pair
    added = client.add_container("debug")
    assert added.cgroup.parent == client.cgroup
    assert added.cgroup not in {client.cgroup_paths["app"], client.cgroup_paths["sandbox"]}
    server.call(listen, port=8080)
    seen = added.call(connect, server.ip, 8080, greeting=True)["seen"]
    assert seen is not None
    assert seen["peer_address"] == client.ip


def test_ended_container_says_so(node: Node) -> None:
    """A command to a container whose process has died fails with a line that names the container."""
    pod = node.add_pod("short-lived", namespace="shop")
    os.kill(pod.containers["app"].pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(MerbridgeError, match=r"container app of pod shop/short-lived has ended"):
            pod.call(listen)
    node.remove_pod(pod)


# --- commands --------------------------------------------------------------------------------------------------------


def test_failures_are_data(pair: tuple[Pod, Pod]) -> None:
    """A refused connection is an errno name in the result; a silent server is TIMEOUT, in the time given."""
    client, server = pair
    assert client.call(connect, server.ip, 9)["error"] == "ECONNREFUSED"
    port = server.call(listen, greet=False)
    result = client.call(connect, server.ip, port, receive=1, timeout_seconds=0.2)
    assert result["error"] == "TIMEOUT"
    assert 200 <= result["duration_ms"] < 2000


def test_command_that_cannot_run(pair: tuple[Pod, Pod]) -> None:
    """A command that cannot be carried out raises one line, and the container goes on."""
    server = pair[1]
    server.call(listen, port=8080)
    with pytest.raises(MerbridgeError, match=r"^container app of pod shop/server: EADDRINUSE: .*in use$"):
        server.call(listen, port=8080)
    server.call(close_server, 8080)
    assert server.call(listen, port=8080) == 8080


def test_client_options(pair: tuple[Pod, Pod]) -> None:
    """A client can bind, set socket options and dial a v4-mapped address."""
    client, server = pair
    port = server.call(listen)
    bound = client.call(connect, server.ip, port, bind=(client.ip, 20_001), greeting=True)
    assert bound["seen"] is not None
    assert bound["seen"]["peer_port"] == 20_001
    mapped = client.call(connect, server.ip, port, family="inet6", greeting=True)
    assert mapped["error"] is None
    assert mapped["peer_address"] == server.ip
    so_broken_level = client.call(connect, server.ip, port, options=[(9999, 1, 1)])
    assert so_broken_level["error"] in {"ENOPROTOOPT", "EOPNOTSUPP"}


def test_kept_connection(pair: tuple[Pod, Pod]) -> None:
    """A connection can be kept open over many commands, then half-closed and closed."""
    client, server = pair
    port = server.call(listen, greet=False)
    handle = client.call(connect, server.ip, port, keep=True)["handle"]
    assert handle is not None
    for text in ("one", "two"):
        assert client.call(exchange, handle, send=text, receive=3) == {"error": None, "received": text}
    last = client.call(exchange, handle, send="end", shutdown_write=True, receive=None)
    assert last == {"error": None, "received": "end"}
    client.call(close, handle)


@pytest.mark.parametrize("shutdown_write", [True, False])
def test_stream(pair: tuple[Pod, Pod], shutdown_write: bool) -> None:
    """A MiB in odd-sized writes comes back as it was, also when it arrives before the server accepts."""
    client, server = pair
    port = server.call(listen, accept_delay_seconds=0.2)
    result = client.call(stream, server.ip, port, size_bytes=1 << 20, greeting=True, shutdown_write=shutdown_write)
    assert result["error"] is None
    assert result["equal"]
    assert result["sent_sha256"] == result["received_sha256"]
    assert result["sent_bytes"] == result["received_bytes"] == 1 << 20
    assert result["duration_ms"] >= 200


def test_stream_notices_a_changed_byte(pair: tuple[Pod, Pod]) -> None:
    """Bytes that are not what was sent make a stream unequal: here a greeting that was not asked for."""
    client, server = pair
    port = server.call(listen)
    result = client.call(stream, server.ip, port, size_bytes=10_000, greeting=False)
    assert not result["equal"]
    assert result["received_bytes"] > result["sent_bytes"] == 10_000


def test_connect_many(pair: tuple[Pod, Pod]) -> None:
    """Many connections are counted by outcome and by who the server saw; failures are listed."""
    client, server = pair
    port = server.call(listen)
    good = client.call(connect_many, server.ip, port, count=50, greeting=True)
    assert good["outcomes"] == {"ok": 50}
    assert good["seen_peers"] == {client.ip: 50}
    server.call(close_server, port)
    bad = client.call(connect_many, server.ip, port, count=3, pause_ms=1)
    assert bad["outcomes"] == {"ECONNREFUSED": 3}
    assert [failure["index"] for failure in bad["failures"]] == [0, 1, 2]
    late = client.call(connect_many, server.ip, port, count=1000, pause_ms=10, total_timeout_seconds=0.1)
    assert late["outcomes"]["NOT_TRIED"] > 900


def test_commands_run_side_by_side(pair: tuple[Pod, Pod]) -> None:
    """A long command does not hold up the next one in the same container."""
    client, server = pair
    port = server.call(listen)
    long = client.start(connect_many, server.ip, port, count=100, pause_ms=10)
    assert client.call(connect, server.ip, port)["error"] is None
    assert not long.done()
    assert long.result(30)["outcomes"] == {"ok": 100}


@pytest.mark.parametrize("connected", [True, False])
def test_udp(pair: tuple[Pod, Pod], connected: bool) -> None:
    """A datagram reaches the server with the pod's address and its answer comes from where it was sent."""
    client, server = pair
    port = server.call(listen_udp)
    result = client.call(udp_exchange, server.ip, port, send="ping", connected=connected)
    assert result["error"] is None
    assert result["received"] == "ping"
    assert (result["from_address"], result["from_port"]) == (server.ip, port)
    assert result["seen"] is not None
    assert result["seen"]["peer_address"] == client.ip
    server.call(close_server, port, protocol="udp")
    assert client.call(udp_exchange, server.ip, port, send="x", connected=True)["error"] == "ECONNREFUSED"


# --- the proxy -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ztunnel(node: Node) -> Iterator[Pod]:
    """A pod for a proxy."""
    pod = node.add_pod("ztunnel", namespace="istio-system")
    yield pod
    node.remove_pod(pod)


def test_proxy_relays_a_stream(pair: tuple[Pod, Pod], ztunnel: Pod) -> None:
    """A MiB goes through the proxy both ways, with half-close, and the proxy says who came."""
    client, server = pair
    server.call(listen, port=8080)
    proxy = ztunnel.start_proxy(fixed_destination=(server.ip, 8080))
    result = client.call(stream, ztunnel.ip, proxy.port, size_bytes=1 << 20, greeting=True)
    assert result["error"] is None
    assert result["equal"]
    assert result["seen"] is not None
    assert result["seen"]["peer_address"] == ztunnel.ip
    (record,) = proxy.wait_for(1)
    assert record["peer_address"] == client.ip
    assert (record["original_address"], record["original_port"]) == (server.ip, 8080)
    assert record["error"] is None


def test_proxy_refuses_without_original_destination(pair: tuple[Pod, Pod], ztunnel: Pod) -> None:
    """A client that dialled the proxy itself is reset, and the record says that no destination is known."""
    proxy = ztunnel.start_proxy()
    assert proxy.port == 15001
    result = pair[0].call(connect, ztunnel.ip, 15001, receive=None)
    assert result["error"] == "ECONNRESET"
    (record,) = proxy.wait_for(1)
    assert record["original_address"] is None or record["error"] == "own listener"
    assert record["error"] is not None


@pytest.mark.parametrize("address", ["own", "127.0.0.1"])
def test_proxy_refuses_itself(pair: tuple[Pod, Pod], ztunnel: Pod, address: str) -> None:
    """A destination that is the proxy's own listener is refused: no endless loop."""
    destination = (ztunnel.ip if address == "own" else address, 15001)
    proxy = ztunnel.start_proxy(fixed_destination=destination)
    assert pair[0].call(connect, ztunnel.ip, 15001, receive=None)["error"] == "ECONNRESET"
    assert [record["error"] for record in proxy.wait_for(1)] == ["own listener"]


def test_proxy_reports_unreachable_destination(pair: tuple[Pod, Pod], ztunnel: Pod) -> None:
    """A destination that refuses is named in the record, and the client is reset."""
    client, server = pair
    proxy = ztunnel.start_proxy(fixed_destination=(server.ip, 9))
    assert client.call(connect, ztunnel.ip, 15001, receive=None)["error"] == "ECONNRESET"
    assert [record["error"] for record in proxy.wait_for(1)] == ["ECONNREFUSED"]


RESETTING_CLIENT = """
import socket, struct, sys
c = socket.create_connection((sys.argv[1], 15001))
c.settimeout(0.3)
try:
    c.sendall(b"x" * int(sys.argv[2]))
except TimeoutError:
    print("stalled", flush=True)
sys.stdin.readline()
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
c.close()
"""

SILENT_SERVER = """
import socket, sys, time
l = socket.create_server((sys.argv[1], 8080))
c, _ = l.accept()
print("accepted", flush=True)
if sys.argv[2] == "read":
    try:
        while c.recv(65536): pass
        print("EOF", flush=True)
    except ConnectionResetError:
        print("reset", flush=True)
else:
    time.sleep(60)
"""


def test_proxy_passes_a_reset_on(pair: tuple[Pod, Pod], ztunnel: Pod) -> None:
    """A reset by the client arrives at the server as a reset, not as an orderly end."""
    client, server = pair
    arguments = [sys.executable, "-c", SILENT_SERVER, server.ip, "read"]
    serving = server.run(arguments, stdout=subprocess.PIPE)
    assert wait_until(lambda: _listens(server, 8080))
    ztunnel.start_proxy(fixed_destination=(server.ip, 8080))
    arguments = [sys.executable, "-c", RESETTING_CLIENT, ztunnel.ip, "1000"]
    dialling = client.run(arguments, stdin=subprocess.PIPE)
    assert serving.stdout is not None
    assert serving.stdout.readline() == "accepted\n"
    dialling.communicate("now\n", timeout=10)
    assert serving.stdout.readline() == "reset\n"


def test_proxy_waits_without_spinning(pair: tuple[Pod, Pod], ztunnel: Pod) -> None:
    """With a server that never reads, the proxy holds little and uses no CPU; the client's reset still ends it."""
    client, server = pair
    arguments = [sys.executable, "-c", SILENT_SERVER, server.ip, "stall"]
    serving = server.run(arguments, stdout=subprocess.DEVNULL)
    assert wait_until(lambda: _listens(server, 8080))
    proxy = ztunnel.start_proxy(fixed_destination=(server.ip, 8080))
    arguments = [sys.executable, "-c", RESETTING_CLIENT, ztunnel.ip, str(64 << 20)]
    flood = client.run(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert flood.stdout is not None
    assert flood.stdout.readline() == "stalled\n"
    connected = descriptor_count(proxy.process.pid)
    before = cpu_seconds(proxy.process.pid)
    time.sleep(0.4)
    assert cpu_seconds(proxy.process.pid) - before < 0.1
    flood.communicate("now\n", timeout=10)
    assert wait_until(lambda: descriptor_count(proxy.process.pid) == connected - 2)
    assert serving.poll() is None


def _listens(pod: Pod, port: int) -> bool:
    """Whether a socket of the pod's namespace listens on the port (state 0A of /proc/net/tcp)."""
    table = Path(f"/proc/{pod.containers['app'].pid}/net/tcp").read_text()
    return any(re.search(rf":{port:04X} \S+ 0A ", line) for line in table.splitlines())


# --- the pod list ----------------------------------------------------------------------------------------------------


def test_pod_list(node: Node, pair: tuple[Pod, Pod], tmp_path: Path) -> None:
    """YAML and JSON hold the same List, with what the agent reads of a pod and in the API's spelling."""
    client, server = pair
    node.namespaces["shop"] = {"istio.io/dataplane-mode": "ambient"}
    client.labels["app"] = "client"
    client.annotations["sidecar.istio.io/status"] = "{}"
    server.is_ready, server.deleting = False, True
    texts = []
    for path in (tmp_path / "pods.yaml", tmp_path / "pods.json"):
        node.write_pod_list(path)
        texts.append(path.read_text())
    assert sorted(os.listdir(tmp_path)) == ["pods.json", "pods.yaml"]
    listed = json.loads(texts[1])
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert "&id" not in texts[0]
    items = {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load(texts[0])["items"]}
    assert items.keys() == {(item["kind"], item["metadata"]["name"]) for item in listed["items"]}
    assert items["Namespace", "shop"]["metadata"]["labels"] == {
        "kubernetes.io/metadata.name": "shop",
        "istio.io/dataplane-mode": "ambient",
    }
    pod = items["Pod", "client"]
    assert pod["metadata"]["uid"] == client.uid
    assert pod["metadata"]["labels"] == {"app": "client"}
    assert pod["metadata"]["annotations"] == {"sidecar.istio.io/status": "{}"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", pod["metadata"]["creationTimestamp"])
    assert pod["spec"]["nodeName"] == node.name
    assert "hostNetwork" not in pod["spec"]
    assert pod["status"]["podIP"] == client.ip
    assert pod["status"]["podIPs"] == [{"ip": client.ip}]
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["conditions"][0]["status"] == "True"
    leaving = items["Pod", "server"]
    assert leaving["status"]["conditions"][0]["status"] == "False"
    assert "deletionTimestamp" in leaving["metadata"]


def test_pod_list_of_host_network_and_removed_pods(node: Node, tmp_path: Path) -> None:
    """A pod on the host's network says so and has the host's address; a removed pod is not listed."""
    pod = node.add_pod("agent", host_network=True)
    path = tmp_path / "pods.json"
    node.write_pod_list(path)
    (listed,) = [item for item in json.loads(path.read_text())["items"] if item["metadata"]["name"] == "agent"]
    assert listed["spec"]["hostNetwork"] is True
    assert listed["status"]["podIP"] == listed["status"]["hostIP"] == node.host().ip
    node.remove_pod(pod)
    node.write_pod_list(path)
    assert "agent" not in path.read_text()


# --- taking down -----------------------------------------------------------------------------------------------------

# Four processes that ignore SIGTERM, some of them in a session of their own.
LINGERING = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
if os.fork() == 0:
    os.setsid()
time.sleep(300)
"""


def test_everything_goes_when_the_body_raises() -> None:
    """After an exception no process, cgroup, thread's namespace or descriptor is left, lingering children included."""
    descriptors = open_descriptors()
    made: list[tuple[Path, list[int]]] = []

    def fail_half_way() -> None:
        with Node("test-raise") as node:
            pod = node.add_pod("app")
            node.add_pod("far", network="other")
            node.host()
            pod.run([sys.executable, "-c", LINGERING])
            (pod.cgroup_paths["app"] / "nested").mkdir()
            assert wait_until(lambda: len(cgroup_pids(pod.cgroup)) == 6)
            made.append((node.cgroup_root, cgroup_pids(node.cgroup_root)))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    ((root, pids),) = made
    assert len(pids) == 9
    assert not any(map(is_running, pids))
    assert not root.exists()
    assert open_descriptors() == descriptors


def test_pod_is_removed_alone(node: Node, pair: tuple[Pod, Pod]) -> None:
    """Removing a pod ends its processes, cgroups and interface, resets its peers at once, and leaves the others."""
    client, server = pair
    leaving = node.add_pod("leaving")
    port = leaving.call(listen, greet=False)
    handle = client.call(connect, leaving.ip, port, keep=True)["handle"]
    assert handle is not None
    pids = cgroup_pids(leaving.cgroup)
    node.remove_pod(leaving)
    assert not any(map(is_running, pids))
    assert not leaving.cgroup.exists()
    assert client.call(exchange, handle, receive=1, timeout_seconds=2)["error"] in {None, "ECONNRESET"}
    assert server.call(listen) > 0
    leaving.remove()


def test_kernel_without_cgroup_kill(node: Node) -> None:
    """Processes are also found and ended one by one, lingering children included."""
    pod = node.add_pod("old-kernel")
    pod.run([sys.executable, "-c", LINGERING])
    assert wait_until(lambda: len(cgroup_pids(pod.cgroup)) == 6)
    kill_one_by_one(pod.cgroup)
    assert cgroup_pids(pod.cgroup) == []
    node.remove_pod(pod)


def test_failure_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod whose second container cannot start is taken down with its node."""
    descriptors = open_descriptors()
    ready = Container.ready

    def fail(container: Container) -> None:
        ready(container)
        if "app of pod default/second" in container.title:
            raise MerbridgeError("no more room")

    monkeypatch.setattr(Container, "ready", fail)
    with Node("test-half") as node:
        node.add_pod("first")
        with pytest.raises(MerbridgeError, match="no more room"):
            node.add_pod("second")
        assert [pod.name for pod in node.pods] == ["first"]
        assert len(cgroup_pids(node.cgroup_root)) == 2
    assert not node.cgroup_root.exists()
    assert open_descriptors() == descriptors


def test_second_node_for_one_purpose(node: Node) -> None:
    """A second node for the same purpose in one process is refused, and the first one stays whole."""
    with pytest.raises(MerbridgeError, match="name another purpose"), Node("test-node"):
        pass
    assert node.cgroup_root.exists()


OWNER = """
import sys, time
from merbridge.demo.node import Node
from merbridge.demo.signals import exit_on_sigterm
with exit_on_sigterm(), Node("test-owner") as node:
    pod = node.add_pod("app")
    pod.run([sys.executable, "-c", {lingering!r}])
    pod.start_proxy()
    time.sleep(0.3)
    print(node.cgroup_root, flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def owner() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another process that has a node up; killed at the end, and what it leaves is removed."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(lingering=LINGERING)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate(timeout=10)
        with Node("test-owner"):  # removes what dead ones left
            pass


def test_ctrl_c_takes_everything_down() -> None:
    """SIGINT to the owner's process group, twice as an impatient user sends it, leaves nothing."""
    with owner() as (process, root):
        pids = cgroup_pids(root)
        assert len(pids) == 7
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert errors.strip().endswith("KeyboardInterrupt")
        assert not root.exists()
        assert not any(map(is_running, pids))


def test_sigterm_takes_everything_down() -> None:
    """SIGTERM to an owner that asked for it leaves nothing and ends it with status 143 and no traceback."""
    with owner() as (process, root):
        pids = cgroup_pids(root)
        assert len(pids) == 7
        process.terminate()
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (143, "")
        assert not root.exists()
        assert not any(map(is_running, pids))


def test_repeated_sigterm_does_not_interrupt_the_take_down() -> None:
    """However often SIGTERM comes, nothing is left; one that comes after the take-down may kill the owner's exit."""
    with owner() as (process, root):
        pids = cgroup_pids(root)
        while root.exists() and process.poll() is None:
            process.terminate()
            time.sleep(0.001)
        _, errors = process.communicate(timeout=10)
        assert process.returncode in {143, -signal.SIGTERM}
        assert errors == ""
        assert not root.exists()
        assert not any(map(is_running, pids))


def test_only_the_first_sigterm_exits() -> None:
    """A second SIGTERM does not interrupt what the first one began."""
    with exit_on_sigterm():
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_waits_for_the_take_down() -> None:
    """A SIGTERM that arrives during a take-down counts after it, and the handler before is back at the end."""
    before = signal.getsignal(signal.SIGTERM)
    steps = []

    def terminated_in_take_down() -> None:
        with exit_on_sigterm():
            with uninterrupted():
                signal.raise_signal(signal.SIGTERM)
                steps.append("taken down")
            steps.append("went on")

    with pytest.raises(SystemExit) as exit_info:
        terminated_in_take_down()
    assert exit_info.value.code == 143
    assert steps == ["taken down"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_does_not_hide_a_failed_take_down() -> None:
    """When the take-down fails, its error is what the caller sees, also when SIGTERM arrived meanwhile."""

    def failing_take_down() -> None:
        with exit_on_sigterm(), uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            raise MerbridgeError("still busy")

    with pytest.raises(MerbridgeError, match="still busy"):
        failing_take_down()


def test_sigterm_without_a_handler_is_left_alone() -> None:
    """A take-down whose owner did not ask for it changes nothing about SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_killed_owner() -> None:
    """When the owner is killed, its processes end by themselves, and the next node removes the empty cgroups."""
    with owner() as (process, root):
        pids = cgroup_pids(root)
        assert len(pids) == 7
        process.kill()
        process.wait(10)
        assert wait_until(lambda: not any(map(is_running, pids)))
        assert root.exists()
    assert not root.exists()


def test_purpose_is_a_directory_name() -> None:
    """A purpose that would leave the cgroup directory is refused before anything is made."""
    with pytest.raises(ValueError, match="lower-case letters"):
        Node("../etc")
