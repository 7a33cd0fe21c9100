"""IPv6 from end to end: a node whose pods have an address of each family."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets
from pyroute2 import IPRoute
from test_original_dst import accept, nothing_is_left, original_destination

from merbridge.datapath.pins import Pins
from merbridge.demo.workloads import Host, Pod
from merbridge.observe.report import PodReport, read_report

OUT_PORT, IN_PORT, HBONE_PORT = 15001, 15006, 15008
IPV6_TRANSPARENT = 75
SO_ORIGINAL_DST, SOCKADDR_IN6 = 80, "=HHI16sI"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A node with its pods, in a dual-stack network."""
    with Cluster("test-ipv6", dual_stack=True) as started:
        yield started


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[PodSockets]:
    """Sockets of a pod outside the mesh."""
    with PodSockets(cluster.server) as sockets:
        yield sockets


@pytest.fixture(autouse=True)
def _close_sockets(app: PodSockets, host: PodSockets, ztunnel: PodSockets, server: PodSockets) -> Iterator[None]:
    """Each test begins without the last one's sockets."""
    yield
    for each in (app, host, ztunnel, server):
        each.close_all()


def ip6(workload: Pod | Host) -> str:
    """A pod's IPv6 address, or the host's."""
    assert workload.ip6 is not None
    return workload.ip6


def listen6(sockets: PodSockets, port: int = 0) -> socket.socket:
    """A listener on all addresses of both families, as ztunnel's is."""
    listener = sockets.make(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", port))
    listener.listen()
    return listener


def dial6(sockets: PodSockets, address: str, port: int) -> socket.socket:
    """An AF_INET6 socket that has connected."""
    client = sockets.make(socket.AF_INET6)
    client.connect((address, port))
    return client


def original6(accepted: socket.socket) -> tuple[str, int]:
    """What ztunnel asks an IPv6 connection."""
    answer = accepted.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, struct.calcsize(SOCKADDR_IN6))
    family, port, flow, address, scope = struct.unpack(SOCKADDR_IN6, answer)
    assert (family, flow, scope) == (socket.AF_INET6, 0, 0)
    return socket.inet_ntop(socket.AF_INET6, address), socket.ntohs(port)


def test_enrolled_pod_reaches_ztunnel(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """By IPv6, from its own address, with its destination; the app sees what it dialled; bytes both ways skip TCP."""
    listener = listen6(ztunnel, OUT_PORT)
    before = cluster.counters()
    client = dial6(app, "2001:db8::80", 8443)
    with accept(listener) as accepted:
        assert original6(accepted) == ("2001:db8::80", 8443)
        assert accepted.getpeername()[0] == ip6(cluster.app)
        assert accepted.getsockname()[:2] == (ip6(cluster.ztunnel), OUT_PORT)
        assert client.getpeername()[:2] == ("2001:db8::80", 8443)
        client.sendall(b"up")
        accepted.sendall(b"down")
        assert (accepted.recv(99), client.recv(99)) == (b"up", b"down")
    after = cluster.counters()
    assert after["redirected"] == before["redirected"] + 1
    assert after["spliced"] == before["spliced"] + 1


def test_ipv4_in_the_same_pod_stays_ipv4(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """With a socket of either family; ztunnel's dual-stack listener is answered at the level of IPv4 alone."""
    listener = listen6(ztunnel, OUT_PORT)
    for family, to in ((socket.AF_INET, cluster.server.ip), (socket.AF_INET6, f"::ffff:{cluster.server.ip}")):
        client = app.make(family)
        client.connect((to, 9000))
        with accept(listener) as accepted:
            assert original_destination(accepted) == (cluster.server.ip, 9000)
            with pytest.raises(OSError, match=r".") as refused:
                original6(accepted)
            assert refused.value.errno in (errno.ENOPROTOOPT, errno.ENOENT)
            assert client.getpeername()[:2] == (to, 9000)


def test_ipv6_is_not_answered_as_ipv4(app: PodSockets, ztunnel: PodSockets) -> None:
    """SO_ORIGINAL_DST of IPv4 says of an IPv6 connection what the kernel says; a short buffer gets no half address."""
    listener = listen6(ztunnel, OUT_PORT)
    dial6(app, "2001:db8::80", 8443)
    with accept(listener) as accepted:
        for level, size in ((socket.SOL_IP, 28), (socket.IPPROTO_IPV6, 27), (socket.IPPROTO_IPV6, 16)):
            with pytest.raises(OSError, match=r"."):
                accepted.getsockopt(level, SO_ORIGINAL_DST, size)
        assert len(accepted.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 64)) == 28


@pytest.mark.parametrize("to", ["::1", "::", "its own"])
def test_pods_calls_to_itself_are_not_intercepted(cluster: Cluster, app: PodSockets, to: str) -> None:
    """Loopback, ::, which means loopback, and the pod's own address stay in the pod."""
    listener = listen6(app)
    before = cluster.counters()
    client = dial6(app, ip6(cluster.app) if to == "its own" else to, listener.getsockname()[1])
    accept(listener).close()
    assert client.getpeername()[1] == listener.getsockname()[1]
    assert cluster.counters() == before


def test_pod_outside_the_mesh_is_not_intercepted(cluster: Cluster, server: PodSockets) -> None:
    """Its server sees the pod itself."""
    with PodSockets(cluster.outside) as outside:
        listener = listen6(server)
        dial6(outside, ip6(cluster.server), listener.getsockname()[1])
        with accept(listener) as accepted:
            assert accepted.getpeername()[0] == ip6(cluster.outside)


@pytest.mark.parametrize(("port", "arrives_at"), [(8080, IN_PORT), (HBONE_PORT, HBONE_PORT)])
def test_host_to_pod(cluster: Cluster, host: PodSockets, ztunnel: PodSockets, port: int, arrives_at: int) -> None:
    """The host's connection to an enrolled pod arrives at ztunnel, with the pod as original destination."""
    listener = listen6(ztunnel, arrives_at)
    client = dial6(host, ip6(cluster.app), port)
    with accept(listener) as accepted:
        assert original6(accepted) == (ip6(cluster.app), port)
        assert accepted.getpeername()[0] == ip6(cluster.node.host())
        assert client.getpeername()[:2] == (ip6(cluster.app), port)


def test_host_to_a_pod_outside_the_mesh(cluster: Cluster, host: PodSockets, server: PodSockets) -> None:
    """It is dialled directly."""
    listener = listen6(server)
    dial6(host, ip6(cluster.server), listener.getsockname()[1])
    with accept(listener) as accepted:
        assert accepted.getpeername()[0] == ip6(cluster.node.host())


def test_ztunnels_own_connections_are_not_intercepted(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """What ztunnel forwards reaches the pod itself."""
    listener = listen6(app)
    dial6(ztunnel, ip6(cluster.app), listener.getsockname()[1])
    with accept(listener) as accepted:
        assert accepted.getpeername()[0] == ip6(cluster.ztunnel)


def test_a_foreign_source_gets_no_destination(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """A pod that binds to an address that is not its own leaves ztunnel no destination in that one's place."""
    listener = listen6(ztunnel, OUT_PORT)
    before = cluster.counters()["foreign_source"]
    client = app.make(socket.AF_INET6)
    client.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)  # root in the pod may send from any address
    client.settimeout(0.2)
    client.bind((ip6(cluster.second_app), 0))
    with pytest.raises(OSError, match=r"."):
        client.connect((ip6(cluster.server), 80))  # the answer to its SYN goes to the other pod
    assert cluster.counters()["foreign_source"] == before + 1
    listener.settimeout(0.2)
    with pytest.raises(TimeoutError):
        accept(listener)


def test_a_pod_whose_address_is_not_known_gets_no_destination(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets
) -> None:
    """With two addresses that the API does not tell apart any source could be another pod's: none comes to ztunnel."""
    listener = listen6(ztunnel, OUT_PORT)
    whole, second = cluster.app.ip6, "fd00::1:0:0"
    cluster.app.ip6 = None
    cluster.app.in_netns(lambda: change_address("add", second))
    cluster.publish()
    try:
        wait_until(lambda: pod_report(cluster, "app").ip6 is None, "the address is not known")
        before = cluster.counters()["foreign_source"]
        client = app.make(socket.AF_INET6)
        client.bind((second, 0))
        client.settimeout(0.5 * SLOWNESS)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.connect(("2001:db8::80", 8443))
        with pytest.raises(TimeoutError):
            listener.accept()
        client.close()
        assert cluster.counters()["foreign_source"] == before + 1
        assert nothing_is_left(cluster)
    finally:
        listener.settimeout(None)
        cluster.app.ip6 = whole
        cluster.app.in_netns(lambda: change_address("del", second))
        cluster.publish()
    wait_until(lambda: pod_report(cluster, "app").ip6 == whole, "it is known again")


def change_address(action: str, address: str) -> None:
    """Give this thread's network namespace one more address, or take it away."""
    with IPRoute() as netlink:
        (index,) = netlink.link_lookup(ifname="eth0")
        netlink.addr(action, index=index, address=address, prefixlen=64, flags=2)  # IFA_F_NODAD


def pod_report(cluster: Cluster, name: str) -> PodReport:
    """What the report says of a pod."""
    (pod,) = (each for each in read_report(Pins(cluster.bpffs)).pods if each.name == name)
    return pod


def test_without_an_address_of_the_family_it_is_refused(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """Of a ztunnel that has IPv4 only IPv6 connections are refused, with EPERM, counted, and told by `status`."""
    whole, before = cluster.ztunnel.ip6, cluster.counters()["refused_no_address"]
    cluster.ztunnel.ip6 = None
    cluster.publish()
    try:
        wait_until(lambda: outcome(app) == errno.EPERM, "IPv6 is refused")
        assert cluster.counters()["refused_no_address"] > before
        listener = listen6(ztunnel, OUT_PORT)
        app.make().connect((cluster.server.ip, 80))
        with accept(listener) as accepted:
            assert original_destination(accepted) == (cluster.server.ip, 80)
        status, report = cluster.status()
        assert status != 0
        line = "ztunnel has no IPv6 address, 2 enrolled pods have: their IPv6 connections are refused"
        assert report["problems"] == [line]
    finally:
        cluster.ztunnel.ip6 = whole
        cluster.publish()
    wait_until(lambda: outcome(app) == 0, "IPv6 is back")
    assert cluster.status()[1]["problems"] == []


def test_fail_open_is_for_no_ztunnel_at_all(cluster: Cluster) -> None:
    """While one is known, what it has no address for is refused all the same: nothing of it leaves in the clear."""
    cluster.end_datapath()
    whole, cluster.ztunnel.ip6 = cluster.ztunnel.ip6, None
    cluster.publish()
    try:
        with cluster.datapath_with("--fail-open", "yes"), PodSockets(cluster.app) as sockets:
            assert outcome(sockets) == errno.EPERM
            assert cluster.counters()["passed_no_ztunnel"] == 0
    finally:
        cluster.ztunnel.ip6 = whole
        cluster.publish()


def outcome(sockets: PodSockets) -> int:
    """0 for a connection that stands, else why it does not."""
    return sockets.make(socket.AF_INET6).connect_ex(("2001:db8::80", 80))


def test_status_shows_both_addresses(cluster: Cluster, agent: Agent) -> None:
    """Of ztunnel and of pods, in both forms of the report."""
    _, report = cluster.status()
    assert (report["ztunnel_ip"], report["ztunnel_ip6"]) == (cluster.ztunnel.ip, cluster.ztunnel.ip6)
    (pod,) = (each for each in report["pods"] if each["name"] == "app")
    assert (pod["ip"], pod["ip6"]) == (cluster.app.ip, cluster.app.ip6)
    table = cluster.merbridge("status").stdout
    assert f"at {cluster.ztunnel.ip}:{OUT_PORT} and [{cluster.ztunnel.ip6}]:{OUT_PORT}" in table
    assert f"{cluster.app.ip}, {cluster.app.ip6}" in table


def test_two_thousand_connections_leave_nothing_behind(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """Closed by either side, or reset: no entry in either map of connections."""
    listener = listen6(ztunnel, OUT_PORT)
    for number in range(2000):
        client = app.make(socket.AF_INET6)
        client.connect(("2001:db8::80", 80))
        accepted = accept(listener)
        if number % 3 == 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for each in (client, accepted) if number % 2 else (accepted, client):
            each.close()
    wait_until(lambda: nothing_is_left(cluster), "no entry is left")
