"""Whose connections go to ztunnel and whose do not, and what happens when it comes, goes or moves: with real pods."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from cluster import AMBIENT, SLOWNESS, Cluster, wait_until
from pod_sockets import PodSockets

import programs.maps
from merbridge.demo.container import Container
from merbridge.demo.namespaces import new_namespace
from merbridge.demo.pod import ConnectResult, Seen, close, connect, exchange, listen, listen_udp, udp_exchange
from merbridge.demo.proxy import Record
from merbridge.demo.proxy_process import ProxyProcess
from merbridge.demo.workloads import Pod, Workload

IPPROTO_MPTCP = 262

# Connects to ADDRESS PORT and prints the greeting line: for processes that the node does not start itself.
CLIENT = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print(s.recv(999).decode())"
)


@pytest.fixture(scope="module")
def proxy(cluster: Cluster, agent: object) -> ProxyProcess:
    """The transparent proxy that stands for ztunnel."""
    return cluster.ztunnel.start_proxy()


def dial(cluster: Cluster, workload: Workload | Container) -> ConnectResult:
    """One connection to the server, until its greeting says whom it sees."""
    return workload.call(connect, cluster.server.ip, cluster.server_port, greeting=True)


def peer_of(result: ConnectResult) -> str:
    """Whom the server saw; fails when the connection did."""
    assert result["error"] is None, result
    assert result["seen"] is not None, result
    return result["seen"]["peer_address"]


def record_of(proxy: ProxyProcess, address: str | None, port: int | None) -> Record:
    """What the proxy says of the connection from this address and port; its line may come after the greeting."""

    def found() -> list[Record]:
        return [each for each in proxy.records if (each["peer_address"], each["peer_port"]) == (address, port)]

    wait_until(found, f"the proxy tells of the connection from {address}:{port}", 2)
    return found()[-1]


def assert_intercepted(cluster: Cluster, proxy: ProxyProcess, result: ConnectResult) -> None:
    """The server saw ztunnel, and ztunnel saw the pod and where it wanted to go."""
    assert peer_of(result) == cluster.ztunnel.ip
    record = record_of(proxy, result["local_address"], result["local_port"])
    assert (record["original_address"], record["original_port"]) == (cluster.server.ip, cluster.server_port)


def seen_by_server(process: "subprocess.Popen[str]") -> Seen:
    """What a process running CLIENT printed."""
    output, _ = process.communicate(timeout=10 * SLOWNESS)
    seen: Seen = json.loads(output)
    return seen


@contextlib.contextmanager
def frozen_agent(cluster: Cluster) -> Iterator[None]:
    """The agent learns nothing in the body."""
    os.kill(cluster.agent.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(cluster.agent.pid, signal.SIGCONT)


def client_command(cluster: Cluster, *prefix: str) -> Sequence[str]:
    """The command line of CLIENT."""
    return [*prefix, sys.executable, "-IS", "-c", CLIENT, cluster.server.ip, str(cluster.server_port)]


# --- intercepted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app", "second_app"])
def test_enrolled_pod_reaches_its_server_through_ztunnel(cluster: Cluster, proxy: ProxyProcess, name: str) -> None:
    """Ztunnel sees the pod's own address and the address and port that it dialled, with either cgroup driver."""
    pod: Pod = getattr(cluster, name)
    result = dial(cluster, pod)
    assert result["local_address"] == pod.ip
    assert_intercepted(cluster, proxy, result)


def test_container_added_to_a_running_pod_is_intercepted_at_once(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A new container's first connection is intercepted though the agent has not seen its cgroup."""
    with frozen_agent(cluster):
        container = cluster.app.add_container("sidekick")
        result = container.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    assert_intercepted(cluster, proxy, result)


def test_new_pod_is_intercepted_once_the_source_names_it(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A pod that starts while the agent runs needs no restart of anything."""
    pod = cluster.node.add_pod("late", namespace="shop")
    cluster.publish()
    cluster.agent.wait_for("pod_in_mesh", pod="shop/late")
    wait_until(lambda: peer_of(dial(cluster, pod)) == cluster.ztunnel.ip, "the new pod is intercepted", 2)
    cluster.node.remove_pod(pod)
    cluster.publish()


def test_process_in_the_pods_cgroup_alone_is_not_let_out(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A process of the pod in a network namespace that the agent has never seen is known by its cgroup.

    Its source address is not the pod's, so ztunnel is not told where it wanted to go, and its request does not arrive.
    """
    before, seen = cluster.counters(), len(proxy.records)
    network, elsewhere = cluster.app.network, new_namespace()
    address = network.reserve(None)
    port = network.attach(elsewhere, address)
    try:
        with frozen_agent(cluster):
            command = client_command(cluster, "nsenter", f"--net=/proc/{os.getpid()}/fd/{elsewhere}")
            client = cluster.app.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            said, _ = client.communicate(timeout=10 * SLOWNESS)
    finally:
        network.detach(port)
        network.release(address)
        os.close(elsewhere)
    assert not said.strip()
    after = cluster.counters()
    assert after["foreign_source"] == before["foreign_source"] + 1
    assert after["dropped_direct"] > before["dropped_direct"]
    assert address not in {record["peer_address"] for record in proxy.records[seen:]}


def test_process_in_the_pods_network_namespace_alone_is_intercepted(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A process that entered the pod's namespace with nsenter is known by the namespace."""
    command = client_command(cluster, "nsenter", f"--net={cluster.app.netns_path}")
    seen = seen_by_server(cluster.node.host().run(command, stdout=subprocess.PIPE))
    assert seen["peer_address"] == cluster.ztunnel.ip
    wait_until(lambda: proxy.records[-1]["peer_address"] == cluster.app.ip, "ztunnel saw the pod's address", 2)


def test_multipath_tcp_is_intercepted(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A Multipath TCP socket does not leave the pod in the clear."""
    with PodSockets(cluster.app) as sockets:
        connection = sockets.make(protocol=IPPROTO_MPTCP)
        connection.connect((cluster.server.ip, cluster.server_port))
        assert json.loads(connection.recv(999))["peer_address"] == cluster.ztunnel.ip


def test_ipv4_from_an_ipv6_socket_is_intercepted(cluster: Cluster, proxy: ProxyProcess) -> None:
    """An AF_INET6 socket that dials a v4-mapped address, as Java does by default, is intercepted like any other."""
    result = cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True, family="inet6")
    assert peer_of(result) == cluster.ztunnel.ip


def test_counters_add_up(cluster: Cluster, proxy: ProxyProcess) -> None:
    """Each redirected connection is counted once, and once more as spliced; a pod outside the mesh is not counted."""
    before = cluster.counters()
    for _ in range(5):
        dial(cluster, cluster.app)
        dial(cluster, cluster.outside)
    after = cluster.counters()
    gained = {name: after[name] - before[name] for name in after}
    assert gained == dict.fromkeys(after, 0) | {"redirected": 5, "spliced": 5}
    assert cluster.status()[1]["counters"] == after


# --- not intercepted -------------------------------------------------------------------------------------------------


@pytest.fixture
def redirects_nothing(cluster: Cluster, proxy: ProxyProcess) -> Iterator[None]:
    """Fail when a connection is redirected, or refused, during the test."""
    before = cluster.counters()
    yield
    assert cluster.counters() == before


def test_pod_outside_the_mesh_is_not_intercepted(cluster: Cluster, redirects_nothing: None) -> None:
    """Its server sees the pod itself."""
    assert peer_of(dial(cluster, cluster.outside)) == cluster.outside.ip


def test_host_process_is_not_intercepted(cluster: Cluster, redirects_nothing: None) -> None:
    """The node's own traffic to elsewhere goes where it went."""
    host = cluster.node.host()
    assert peer_of(dial(cluster, host)) == host.ip


def test_pod_on_the_host_network_is_not_intercepted(cluster: Cluster, redirects_nothing: None) -> None:
    """A hostNetwork pod is outside the mesh though its namespace is labelled."""
    pod = cluster.node.add_pod("on-host", namespace="shop", host_network=True)
    cluster.publish()
    cluster.agent.wait_for("pod_outside_mesh", pod="shop/on-host", why="host network")
    assert peer_of(dial(cluster, pod)) == pod.ip
    cluster.node.remove_pod(pod)
    cluster.publish()


def test_ztunnels_own_connections_are_not_intercepted(cluster: Cluster, redirects_nothing: None) -> None:
    """Not even when ztunnel's namespace, or its pod, is labelled as ambient."""
    cluster.node.namespaces["istio-system"] = dict(AMBIENT)
    cluster.ztunnel.labels |= AMBIENT
    helper = cluster.node.add_pod("helper", namespace="istio-system")
    cluster.publish()
    cluster.agent.wait_for("pod_in_mesh", pod="istio-system/helper")
    assert peer_of(dial(cluster, cluster.ztunnel)) == cluster.ztunnel.ip
    cluster.node.remove_pod(helper)
    cluster.node.namespaces["istio-system"] = {}
    cluster.ztunnel.labels = {"app": "ztunnel"}
    cluster.publish()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.200.3.4", "0.0.0.0", "own"])
def test_pods_calls_to_itself_are_not_intercepted(cluster: Cluster, redirects_nothing: None, address: str) -> None:
    """Loopback, 0.0.0.0, which means loopback, and the pod's own address stay in the pod."""
    port = cluster.app.call(listen)
    result = cluster.app.call(connect, cluster.app.ip if address == "own" else address, port, greeting=True)
    assert peer_of(result) in (cluster.app.ip, "127.0.0.1", "127.200.3.4")


@pytest.mark.parametrize("connected", [True, False])
def test_udp_is_not_intercepted(cluster: Cluster, redirects_nothing: None, connected: bool) -> None:
    """A datagram goes to its server and the answer comes from there, with a connected socket and without."""
    port = cluster.server.call(listen_udp)
    result = cluster.app.call(udp_exchange, cluster.server.ip, port, send="ask", connected=connected)
    assert (result["received"], result["from_address"]) == ("ask", cluster.server.ip)
    assert result["seen"] is not None
    assert result["seen"]["peer_address"] == cluster.app.ip


def test_unix_sockets_are_left_alone(cluster: Cluster, redirects_nothing: None) -> None:
    """A stream socket of another family works in an enrolled pod as ever."""
    path = cluster.directory / "unix"
    with PodSockets(cluster.app) as sockets:
        listener, client = (sockets.make(socket.AF_UNIX) for _ in range(2))
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"as ever")
            assert accepted.recv(99) == b"as ever"


# --- ztunnel comes and goes ------------------------------------------------------------------------------------------


def test_without_ztunnel_connections_are_refused_at_once(cluster: Cluster, proxy: ProxyProcess) -> None:
    """EPERM without waiting, `status` degraded with the reason; a pod elsewhere with ztunnel's label does not help.

    The pod outside the mesh is not touched. When ztunnel is back, all works without a restart.
    """
    refused_before = cluster.counters()["refused_no_ztunnel"]
    mark = cluster.agent.mark()
    cluster.ztunnel.labels = {}
    impostor = cluster.add_ztunnel("impostor", namespace="elsewhere")
    cluster.publish()
    cluster.agent.wait_for("ztunnel_unknown", since=mark)

    result = dial(cluster, cluster.app)
    assert result["error"] == "EPERM"
    assert result["duration_ms"] < 500 * SLOWNESS
    assert peer_of(dial(cluster, cluster.outside)) == cluster.outside.ip
    code, report = cluster.status()
    assert (code, report["healthy"], report["ztunnel_ip"]) == (1, False, None)
    (problem,) = report["problems"]
    assert "no pod of this node is labelled app=ztunnel in namespace istio-system" in problem
    assert cluster.counters()["refused_no_ztunnel"] == refused_before + 1

    cluster.node.remove_pod(impostor)
    cluster.ztunnel.labels = {"app": "ztunnel"}
    cluster.publish()
    cluster.agent.wait_for("ztunnel_known", since=mark)
    assert_intercepted(cluster, proxy, dial(cluster, cluster.app))
    assert cluster.status()[0] == 0


def test_ztunnel_with_a_new_address_takes_over(cluster: Cluster, proxy: ProxyProcess) -> None:
    """After ztunnel's restart as another pod connections go there; when that is removed they are refused again."""
    mark = cluster.agent.mark()
    successor = cluster.add_ztunnel("ztunnel-successor")
    assert successor.ip != cluster.ztunnel.ip
    new_proxy = successor.start_proxy()
    cluster.ztunnel.labels = {}
    cluster.publish()
    cluster.agent.wait_for("ztunnel_known", since=mark, ip=successor.ip)
    assert peer_of(dial(cluster, cluster.app)) == successor.ip
    assert new_proxy.wait_for(1)[0]["peer_address"] == cluster.app.ip

    cluster.node.remove_pod(successor)
    cluster.publish()
    cluster.agent.wait_for("ztunnel_unknown", since=mark)
    assert dial(cluster, cluster.app)["error"] == "EPERM"

    cluster.ztunnel.labels = {"app": "ztunnel"}
    cluster.publish()
    cluster.agent.wait_for("ztunnel_known", since=mark, ip=cluster.ztunnel.ip)
    assert_intercepted(cluster, proxy, dial(cluster, cluster.app))


# --- labels ----------------------------------------------------------------------------------------------------------


def test_pod_label_takes_effect_on_a_running_pod(cluster: Cluster, proxy: ProxyProcess) -> None:
    """Out of the mesh and in again within 2 s each; connections that are open live on, both kinds."""
    target = (cluster.server.ip, cluster.server_port)
    intercepted = cluster.app.call(connect, *target, greeting=True, keep=True)
    assert_intercepted(cluster, proxy, intercepted)

    cluster.app.labels = {"istio.io/dataplane-mode": "none"}
    cluster.publish()
    wait_until(lambda: peer_of(dial(cluster, cluster.app)) == cluster.app.ip, "out of the mesh by its label", 2)
    direct = cluster.app.call(connect, *target, greeting=True, keep=True)
    assert peer_of(direct) == cluster.app.ip

    cluster.app.labels = {}
    cluster.publish()
    wait_until(lambda: peer_of(dial(cluster, cluster.app)) == cluster.ztunnel.ip, "in the mesh again", 2)
    for kept in (intercepted, direct):
        assert kept["handle"] is not None
        answer = cluster.app.call(exchange, kept["handle"], send="still here", receive=10)
        assert (answer["error"], answer["received"]) == (None, "still here")
        cluster.app.call(close, kept["handle"])


def test_namespace_label_takes_effect_on_running_pods(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A namespace that joins and leaves takes its running pods with it, within 2 s each."""
    cluster.node.namespaces["elsewhere"] = dict(AMBIENT)
    cluster.publish()
    wait_until(lambda: peer_of(dial(cluster, cluster.outside)) == cluster.ztunnel.ip, "in the mesh", 2)
    cluster.node.namespaces["elsewhere"] = {}
    cluster.publish()
    wait_until(lambda: peer_of(dial(cluster, cluster.outside)) == cluster.outside.ip, "out of the mesh", 2)


# --- room ------------------------------------------------------------------------------------------------------------


def test_full_map_of_pods_is_told_and_enrolled_pods_come_first(cluster: Cluster, proxy: ProxyProcess) -> None:
    """With room for two of six namespaces both enrolled pods are in, and log and `status` name map and setting."""
    with cluster.datapath_with("--max-pods", "2") as agent:
        for pod in (cluster.app, cluster.second_app):
            assert_intercepted(cluster, proxy, dial(cluster, pod))
        code, report = cluster.status()
        assert code == 1
        assert any("map netns_info_map is full (2 entries)" in problem for problem in report["problems"])
        assert "--max-pods" in agent.wait_for("maps_failed")["problem"]


def test_pod_enrolled_later_finds_room_in_a_full_map(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A full map holds pods outside the mesh; one that is enrolled now takes the place of one of them."""
    cluster.node.namespaces["shop"] = {}
    cluster.publish()
    try:
        with cluster.datapath_with("--max-pods", "1"):
            with cluster.pinned(programs.maps.netns_info_map, "netns_info_map") as namespaces:
                held = set(namespaces.keys())
            late = next(pod for pod in (cluster.app, cluster.second_app) if netns_cookie(pod) not in held)
            late.labels = dict(AMBIENT)
            cluster.publish()
            wait_until(lambda: greeted_as_from_ztunnel(cluster, late), "the enrolled pod has room", 2)
    finally:
        cluster.app.labels, cluster.second_app.labels = {}, {}
        cluster.node.namespaces["shop"] = dict(AMBIENT)
        cluster.publish()


def greeted_as_from_ztunnel(cluster: Cluster, pod: Pod) -> bool:
    """Whether a socket of the pod is intercepted by its network namespace, whatever the map of cgroups holds."""
    with PodSockets(pod) as sockets:
        connection = sockets.make()
        connection.connect((cluster.server.ip, cluster.server_port))
        seen: Seen = json.loads(connection.recv(999))
        return seen["peer_address"] == cluster.ztunnel.ip


def netns_cookie(pod: Pod) -> int:
    """The cookie of a pod's network namespace, as the kernel tells it there (SO_NETNS_COOKIE)."""
    with PodSockets(pod) as sockets:
        return int.from_bytes(sockets.make().getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)
