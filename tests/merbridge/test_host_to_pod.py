"""Connections of the host to enrolled pods: they arrive at ztunnel's inbound port, unless they are to be left alone."""

import errno
import socket
from collections.abc import Iterator

import pytest
from cluster import Cluster, wait_until
from pod_sockets import PodSockets
from test_original_dst import accept, original_destination

from merbridge.demo.pod import connect, listen

IN_PORT, HBONE_PORT = 15006, 15008


@pytest.fixture(scope="module")
def in_app(cluster: Cluster) -> int:
    """A port at which the enrolled pod itself listens; it greets."""
    return cluster.app.call(listen)


@pytest.fixture(autouse=True)
def _close_sockets(host: PodSockets, ztunnel: PodSockets) -> Iterator[None]:
    """Each test begins without the last one's sockets."""
    yield
    host.close_all()
    ztunnel.close_all()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_arrives_at_the_inbound_port(
    cluster: Cluster, host: PodSockets, ztunnel: PodSockets, family: socket.AddressFamily
) -> None:
    """With the pod as original destination and the host as source, whichever family the socket has; bytes both ways."""
    listener = ztunnel.listen(IN_PORT)
    client = host.make(family)
    client.connect((cluster.app.ip if family == socket.AF_INET else f"::ffff:{cluster.app.ip}", 8080))
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.app.ip, 8080)
        assert accepted.getpeername()[0] == cluster.node.host().ip
        client.sendall(b"up")
        accepted.sendall(b"down")
        assert (accepted.recv(99), client.recv(99)) == (b"up", b"down")


def test_hbone_stays_hbone(cluster: Cluster, host: PodSockets, ztunnel: PodSockets) -> None:
    """What is meant for the pod's port 15008 arrives at ztunnel's."""
    listener = ztunnel.listen(HBONE_PORT)
    host.make().connect((cluster.app.ip, HBONE_PORT))
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.app.ip, HBONE_PORT)


def test_the_host_sees_the_address_it_has_dialled(cluster: Cluster, host: PodSockets, ztunnel: PodSockets) -> None:
    """getpeername() says what connect() was given; so it does in an enrolled pod, for both families."""
    ztunnel.listen(IN_PORT)
    ztunnel.listen(15001)
    client = host.make()
    client.connect((cluster.app.ip, 8080))
    assert client.getpeername() == (cluster.app.ip, 8080)
    with PodSockets(cluster.app) as app:
        outbound, mapped = app.make(), app.make(socket.AF_INET6)
        outbound.connect((cluster.server.ip, 7777))
        mapped.connect((f"::ffff:{cluster.server.ip}", 7778))
        assert outbound.getpeername() == (cluster.server.ip, 7777)
        assert mapped.getpeername()[:2] == (f"::ffff:{cluster.server.ip}", 7778)


def test_a_socket_that_connects_again_shows_its_new_peer(
    cluster: Cluster, host: PodSockets, ztunnel: PodSockets
) -> None:
    """After a redirected connection that came to nothing, one that is not redirected shows where it is."""
    client = host.make()
    client.settimeout(None)
    with pytest.raises(ConnectionRefusedError):
        client.connect((cluster.app.ip, 8080))  # nobody listens at ztunnel's port
    client.connect((cluster.server.ip, cluster.server_port))
    assert client.getpeername() == (cluster.server.ip, cluster.server_port)


def test_pods_outside_the_mesh_are_dialled_directly(cluster: Cluster, host: PodSockets) -> None:
    """Only enrolled pods' addresses are ztunnel's business."""
    client = host.make()
    client.connect((cluster.server.ip, cluster.server_port))
    assert client.getpeername()[0] == cluster.server.ip


def test_an_exempt_cgroup_is_left_alone(cluster: Cluster, in_app: int) -> None:
    """The kubelet's service reaches the pod itself; another service does not, as ztunnel does not listen now."""
    kubelet, other = cluster.node.host("kubelet"), cluster.node.host("other")

    def reached() -> bool:
        return kubelet.call(connect, cluster.app.ip, in_app)["error"] is None

    wait_until(reached, "the agent has seen the new cgroup")
    assert other.call(connect, cluster.app.ip, in_app)["error"] == "ECONNREFUSED"


def test_a_pod_can_ask_to_be_left_alone(cluster: Cluster, in_app: int) -> None:
    """The annotation bypass-inbound-capture lets the host reach the pod itself; without it, it does not any more."""
    host = cluster.node.host()
    cluster.app.annotations["ambient.istio.io/bypass-inbound-capture"] = "true"
    cluster.publish()
    wait_until(lambda: host.call(connect, cluster.app.ip, in_app)["error"] is None, "the host reaches the pod")
    del cluster.app.annotations["ambient.istio.io/bypass-inbound-capture"]
    cluster.publish()
    wait_until(lambda: host.call(connect, cluster.app.ip, in_app)["error"] == "ECONNREFUSED", "it does not")


def test_ztunnel_reaches_the_pod_itself(cluster: Cluster, in_app: int, ztunnel: PodSockets) -> None:
    """What ztunnel forwards is not caught again."""
    client = ztunnel.make()
    client.connect((cluster.app.ip, in_app))
    assert client.getpeername() == (cluster.app.ip, in_app)


def test_without_ztunnel_it_is_refused(cluster: Cluster, host: PodSockets, in_app: int) -> None:
    """Fail closed: EPERM, and it is counted; back again when ztunnel is."""
    before = cluster.counters()["refused_no_ztunnel"]
    cluster.ztunnel.phase = "Failed"
    cluster.publish()
    client = cluster.node.host()
    try:
        wait_until(lambda: client.call(connect, cluster.app.ip, in_app)["error"] == "EPERM", "it is refused")
        with pytest.raises(PermissionError) as refused:
            host.make().connect((cluster.app.ip, in_app))
        assert refused.value.errno == errno.EPERM
        assert cluster.counters()["refused_no_ztunnel"] > before
    finally:
        cluster.ztunnel.phase = "Running"
        cluster.publish()
    wait_until(lambda: client.call(connect, cluster.app.ip, in_app)["error"] == "ECONNREFUSED", "ztunnel is back")


def test_fail_open_lets_connections_through(cluster: Cluster, agent: object) -> None:
    """With --fail-open yes and no ztunnel, pods reach servers, and the host pods, in the clear; it is counted."""
    in_app = cluster.app.call(listen)
    cluster.ztunnel.phase = "Failed"
    cluster.publish()
    try:
        with cluster.datapath_with("--fail-open", "yes"):
            outbound = cluster.app.call(connect, cluster.server.ip, cluster.server_port)
            inbound = cluster.node.host().call(connect, cluster.app.ip, in_app)
            assert (outbound["error"], inbound["error"]) == (None, None)
            assert cluster.counters()["passed_no_ztunnel"] == 2
            assert cluster.counters()["refused_no_ztunnel"] == 0
    finally:
        cluster.ztunnel.phase = "Running"
        cluster.publish()
    host = cluster.node.host()
    wait_until(lambda: host.call(connect, cluster.app.ip, in_app)["error"] == "ECONNREFUSED", "ztunnel is back")


def test_counted_by_kind(cluster: Cluster, host: PodSockets, ztunnel: PodSockets) -> None:
    """What the host sends to pods is counted apart from what pods send."""
    ztunnel.listen(IN_PORT)
    before = cluster.counters()
    host.make().connect((cluster.app.ip, 8080))
    after = cluster.counters()
    assert after["redirected_to_pod"] == before["redirected_to_pod"] + 1
    assert after["redirected"] == before["redirected"]
