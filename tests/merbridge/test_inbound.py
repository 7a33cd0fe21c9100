"""What arrives for enrolled pods, from anywhere, reaches ztunnel with source and destination as they are."""

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cluster import AMBIENT, SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets
from pyroute2 import IPRoute
from test_original_dst import accept

from merbridge.datapath.addresses import as_address
from merbridge.datapath.routes import forget_routes
from merbridge.demo.pod import listen
from merbridge.demo.workloads import Host, Pod, Workload
from programs.maps import IN_MESH, places
from pybpfasm.errors import KernelError
from pybpfasm.kernel import Link

OUT_PORT, IN_PORT, HBONE_PORT, POD_PORT = 15001, 15006, 15008, 8080
FAMILIES = (socket.AF_INET, socket.AF_INET6)
BYPASS = "ambient.istio.io/bypass-inbound-capture"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# setsockopt(2) of IP and IPv6: uapi linux/in.h, in6.h.
IP_OPTIONS, IP_TRANSPARENT, IPV6_DSTOPTS, IPV6_TRANSPARENT = 4, 19, 59, 75
NO_OPERATIONS = bytes([1, 1, 1, 1])

Connected = tuple[socket.socket, socket.socket]

pytestmark = pytest.mark.usefixtures("fresh_sockets")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A dual-stack node."""
    with Cluster("test-inbound", dual_stack=True) as started:
        yield started


@pytest.fixture
def listener(ztunnel: PodSockets) -> socket.socket:
    """What listens at ztunnel's port for inbound connections."""
    return transparent(ztunnel)


def transparent(ztunnel: PodSockets, port: int = IN_PORT) -> socket.socket:
    """A listener as ztunnel has it: for both families, and transparent."""
    made = ztunnel.make(socket.AF_INET6)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    made.bind(("::", port))
    made.listen(64)
    return made


def address(pod: Workload, family: socket.AddressFamily = socket.AF_INET) -> str:
    """A pod's address of a family, or the host's."""
    assert isinstance(pod, Pod | Host)
    found = pod.ip if family == socket.AF_INET else pod.network.ip6_of(pod.ip)
    assert found is not None
    return found


def plain(name: tuple[object, ...]) -> tuple[str, object]:
    """Address and port; an IPv4 address as IPv4 has it."""
    return str(name[0]).removeprefix("::ffff:"), name[1]


def is_reached(sockets: PodSockets, *destination: object) -> bool:
    """Whether a connection comes about within half a second; one to which nothing answers does not."""
    client = sockets.make()
    client.settimeout(0.5 * SLOWNESS)
    try:
        client.connect(destination)
    except TimeoutError:
        return False
    return True


def exchanges(one: socket.socket, other: socket.socket, size: int = 1 << 20) -> bool:
    """Whether so many bytes arrive on the other side as they were sent, both ways at once."""
    sent = (bytes(range(251)) * (size // 251 + 1))[:size]
    to_send = {one: memoryview(sent), other: memoryview(sent)}
    got = {one: bytearray(), other: bytearray()}
    for each in (one, other):
        each.setblocking(False)
    while any(to_send.values()) or any(len(each) < size for each in got.values()):
        writers = [each for each, rest in to_send.items() if rest]
        readable, writable, _ = select.select([one, other], writers, [], 5 * SLOWNESS)
        assert readable or writable, "nothing moves"
        for each in writable:
            with contextlib.suppress(BlockingIOError):
                to_send[each] = to_send[each][each.send(to_send[each][:65536]) :]
        for each in readable:
            got[each] += each.recv(65536)
    for each in (one, other):
        each.settimeout(5 * SLOWNESS)
    return all(bytes(each) == sent for each in got.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dialled", "arrives"), [(POD_PORT, IN_PORT), (HBONE_PORT, HBONE_PORT), (22, IN_PORT)])
def test_arrives_at_ztunnel(
    cluster: Cluster, outside: PodSockets, ztunnel: PodSockets, family: socket.AddressFamily, dialled: int, arrives: int
) -> None:
    """From a pod outside the mesh; a MiB each way. 15008 stays, all other ports are 15006's."""
    listening = transparent(ztunnel, arrives)
    client = outside.make(family)
    destination = (address(cluster.app, family), dialled)
    client.connect(destination)
    with accept(listening) as accepted:
        assert plain(accepted.getsockname()) == destination
        assert plain(accepted.getpeername()) == plain(client.getsockname())
        assert plain(client.getpeername()) == destination
        assert exchanges(client, accepted)


def test_other_pods_and_ports_are_left_alone(cluster: Cluster, outside: PodSockets, listener: socket.socket) -> None:
    """A pod outside the mesh is reached itself, and so are ztunnel's other ports."""
    client = outside.make()
    client.connect((cluster.server.ip, cluster.server_port))
    assert is_reached(outside, cluster.ztunnel.ip, cluster.ztunnel.call(listen))
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_ztunnel_reaches_the_pod(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """What ztunnel forwards is not caught again."""
    in_pod = app.listen(POD_PORT)
    client = ztunnel.make()
    client.connect((cluster.app.ip, POD_PORT))
    with accept(in_pod) as accepted:
        assert accepted.getpeername() == client.getsockname()


def in_the_name_of(
    ztunnel: PodSockets, source: str, destination: tuple[str, int], family: socket.AddressFamily
) -> socket.socket:
    """A connection that ztunnel makes with another's source address, as it does unless it is told otherwise."""
    client = ztunnel.make(family)
    if family == socket.AF_INET:
        client.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    else:
        client.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    client.bind((source, 0))
    client.connect(destination)
    return client


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("who", ["outside", "second_app", "host"])
def test_ztunnel_reaches_the_pod_in_a_clients_name(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets, family: socket.AddressFamily, who: str
) -> None:
    """The pod sees the client, whoever that is: a pod outside the mesh, an enrolled one, the host."""
    in_pod = listening_in(app, family)
    client: Workload = cluster.node.host() if who == "host" else getattr(cluster, who)
    source, destination = address(client, family), (address(cluster.app, family), POD_PORT)
    with in_the_name_of(ztunnel, source, destination, family) as upstream, accept(in_pod) as accepted:
        assert accepted.getpeername()[:2] == upstream.getsockname()[:2] == (source, upstream.getsockname()[1])
        assert exchanges(upstream, accepted)


@pytest.mark.parametrize("family", FAMILIES)
def test_ztunnel_reaches_others_in_the_pods_name(
    cluster: Cluster, outside: PodSockets, ztunnel: PodSockets, family: socket.AddressFamily
) -> None:
    """A server sees the pod, and its answers reach ztunnel."""
    listening = listening_in(outside, family)
    source, destination = address(cluster.app, family), (address(cluster.outside, family), POD_PORT)
    with in_the_name_of(ztunnel, source, destination, family) as upstream, accept(listening) as accepted:
        assert accepted.getpeername()[0] == source
        assert exchanges(upstream, accepted)


def listening_in(pod: PodSockets, family: socket.AddressFamily) -> socket.socket:
    """A listener of a family at the pod's port."""
    made = pod.make(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", POD_PORT))
    made.listen(64)
    return made


def test_a_whole_way_through_ztunnel(
    cluster: Cluster, app: PodSockets, outside: PodSockets, ztunnel: PodSockets, listener: socket.socket
) -> None:
    """The client's address all the way: to ztunnel, and by ztunnel to the pod; bytes go through both."""
    in_pod = app.listen(POD_PORT)
    client, accepted = opened(cluster, outside, listener)
    destination = (cluster.app.ip, POD_PORT)
    upstream = in_the_name_of(ztunnel, cluster.outside.ip, destination, socket.AF_INET)
    with accepted, upstream, accept(in_pod) as served:
        assert served.getpeername()[0] == cluster.outside.ip
        assert exchanges(client, accepted)
        assert exchanges(upstream, served)


def test_one_source_port_to_many(cluster: Cluster, outside: PodSockets, listener: socket.socket) -> None:
    """Connections of one source port to two ports and two pods are three, each with its own bytes."""
    destinations = [(cluster.app.ip, 80), (cluster.app.ip, 443), (cluster.second_app.ip, 80)]
    clients: dict[object, socket.socket] = {}
    for destination in destinations:
        client = outside.make()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((cluster.outside.ip, 40404))
        client.connect(destination)
        client.sendall(repr(destination).encode())
        clients[destination] = client
    for _ in destinations:
        with accept(listener) as accepted:
            meant = plain(accepted.getsockname())
            assert accepted.recv(99) == repr(meant).encode()
            accepted.sendall(b"to " + repr(meant).encode())
            assert clients.pop(meant).recv(99) == b"to " + repr(meant).encode()


@pytest.mark.parametrize(
    ("family", "level", "option", "value"),
    [
        (socket.AF_INET, socket.IPPROTO_IP, IP_OPTIONS, NO_OPERATIONS),
        # A header of destination options, filled up by PadN.
        (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0])),
    ],
)
def test_options_of_ip(
    cluster: Cluster,
    outside: PodSockets,
    listener: socket.socket,
    family: socket.AddressFamily,
    level: int,
    option: int,
    value: bytes,
) -> None:
    """Packets with options of IP, or with a further header of IPv6, go the same way."""
    client = outside.make(family)
    client.setsockopt(level, option, value)
    client.connect((address(cluster.app, family), POD_PORT))
    with accept(listener) as accepted:
        assert exchanges(client, accepted)


def opened(cluster: Cluster, outside: PodSockets, listener: socket.socket) -> Connected:
    """A connection from outside the mesh to the pod: the client's side, and the other one."""
    client = outside.make()
    client.connect((cluster.app.ip, POD_PORT))
    accepted, _ = listener.accept()
    accepted.settimeout(5 * SLOWNESS)
    return client, accepted


def test_half_close(cluster: Cluster, outside: PodSockets, listener: socket.socket) -> None:
    """Who has sent EOF still receives."""
    client, accepted = opened(cluster, outside, listener)
    with accepted:
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(9) == b""
        accepted.sendall(b"late")
        accepted.shutdown(socket.SHUT_WR)
        assert client.recv(9) == b"late"
        assert client.recv(9) == b""


@pytest.mark.parametrize("by_client", [True, False])
def test_reset(cluster: Cluster, outside: PodSockets, listener: socket.socket, by_client: bool) -> None:
    """A reset of one side reaches the other."""
    client, accepted = opened(cluster, outside, listener)
    closing, other = (client, accepted) if by_client else (accepted, client)
    closing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    closing.close()
    with pytest.raises(ConnectionResetError):
        other.recv(9)
    accepted.close()


def test_news_of_the_path_reach_ztunnel(
    cluster: Cluster, outside: PodSockets, host: PodSockets, listener: socket.socket
) -> None:
    """A router's "fragmentation needed" for a packet in the pod's name is ztunnel's: it sends smaller ones."""
    _, accepted = opened(cluster, outside, listener)
    with accepted:
        accepted.sendall(b"x")
        here, there = plain(accepted.getsockname()), plain(accepted.getpeername())
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 1500, 0, 0x4000, 64, 6, 0, socket.inet_aton(here[0]), socket.inet_aton(there[0])
        )
        message = struct.pack("!BBHHH", 3, 4, 0, 0, 1000) + header + struct.pack("!HHI", here[1], there[1], 0)
        raw = host.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        raw.sendto(with_checksum(message), (cluster.app.ip, 0))
        wait_until(lambda: received_errors(cluster.ztunnel) > 0, "the message has arrived in ztunnel's namespace")
        assert received_errors(cluster.app) == 0


def with_checksum(message: bytes) -> bytes:
    """An ICMP message with its checksum in place."""
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return message[:2] + struct.pack("!H", checksum) + message[4:]


def received_errors(pod: Pod) -> int:
    """How many "destination unreachable" messages a pod has received."""
    text = pod.in_netns(Path("/proc/thread-self/net/snmp").read_text)
    lines = [line.split() for line in text.splitlines() if line.startswith("Icmp:")]
    return int(dict(zip(lines[0], lines[1], strict=True))["InDestUnreachs"])


def test_open_connections_outlive_enrolment(cluster: Cluster, outside: PodSockets) -> None:
    """A connection that was open when the pod is enrolled stays the pod's; when it leaves the mesh, ztunnel's."""
    pod = cluster.node.add_pod("changing", namespace="elsewhere")
    cluster.publish()
    try:
        with PodSockets(pod) as inside, PodSockets(cluster.ztunnel) as at_ztunnel:
            in_pod, in_ztunnel = inside.listen(POD_PORT), transparent(at_ztunnel)
            before = outside.make()
            before.connect((pod.ip, POD_PORT))
            with accept(in_pod) as of_before:
                pod.labels.update(AMBIENT)
                cluster.publish()
                wait_until(lambda: captured(cluster, pod) is True, "the pod is captured")
                during = outside.make()
                during.connect((pod.ip, POD_PORT))
                with accept(in_ztunnel) as of_during:
                    assert exchanges(before, of_before)
                    pod.labels.clear()
                    cluster.publish()
                    wait_until(lambda: captured(cluster, pod) is False, "the pod is not captured any more")
                    after = outside.make()
                    after.connect((pod.ip, POD_PORT))
                    with accept(in_pod) as of_after:
                        for client, accepted in ((before, of_before), (during, of_during), (after, of_after)):
                            assert exchanges(client, accepted)
    finally:
        cluster.node.remove_pod(pod)
        cluster.publish()


def captured(cluster: Cluster, pod: Pod) -> bool | None:
    """Whether the datapath captures what arrives for a pod; None if it does not know the pod."""
    with cluster.pinned(places, "places") as known:
        place = known.get(as_address(ip_address(pod.ip)))
    return None if place is None else bool(place.flags & IN_MESH)


def test_a_pod_can_ask_to_be_left_alone(
    cluster: Cluster, app: PodSockets, outside: PodSockets, ztunnel: PodSockets
) -> None:
    """With the annotation bypass-inbound-capture it is reached itself."""
    in_pod = app.listen(POD_PORT)
    cluster.app.annotations[BYPASS] = "true"
    cluster.publish()
    try:
        wait_until(lambda: captured(cluster, cluster.app) is False, "the pod is not captured any more")
        outside.make().connect((cluster.app.ip, POD_PORT))
        accept(in_pod).close()
        out = ztunnel.listen(OUT_PORT)
        app.make().connect((cluster.server.ip, 7777))  # its own calls go to ztunnel all the same
        accept(out).close()
    finally:
        del cluster.app.annotations[BYPASS]
        cluster.publish()
    wait_until(lambda: captured(cluster, cluster.app) is True, "the pod is captured again")


@pytest.mark.parametrize("port", [OUT_PORT, IN_PORT])
def test_nobody_calls_ztunnel_by_himself(cluster: Cluster, outside: PodSockets, ztunnel: PodSockets, port: int) -> None:
    """Ports for what is sent to ztunnel answer no one else; it is counted. 15008 is for other nodes' ztunnels."""
    transparent(ztunnel, port)
    transparent(ztunnel, HBONE_PORT)
    before = cluster.counters()["dropped_direct"]
    assert not is_reached(outside, cluster.ztunnel.ip, port)
    assert cluster.counters()["dropped_direct"] > before
    assert is_reached(outside, cluster.ztunnel.ip, HBONE_PORT)


def test_without_ztunnel_nothing_arrives(cluster: Cluster, app: PodSockets, outside: PodSockets) -> None:
    """Fail closed: new connections get no answer, and it is counted; with ztunnel back they do."""
    app.listen(POD_PORT)
    before = cluster.counters()["dropped_no_ztunnel"]
    cluster.ztunnel.phase = "Failed"
    cluster.publish()
    try:
        wait_until(lambda: not cluster.status()[1]["ztunnel_ip"], "ztunnel is gone")
        assert not is_reached(outside, cluster.app.ip, POD_PORT)
        assert cluster.counters()["dropped_no_ztunnel"] > before
    finally:
        cluster.ztunnel.phase = "Running"
        cluster.publish()
    wait_until(lambda: cluster.status()[1]["ztunnel_ip"], "ztunnel is back")


def test_a_new_ztunnel_takes_over(cluster: Cluster, outside: PodSockets, listener: socket.socket) -> None:
    """New connections go to the newest ready ztunnel, open ones stay with the old one while it lives."""
    client, accepted = opened(cluster, outside, listener)
    second = cluster.add_ztunnel("ztunnel-new")
    cluster.publish()
    try:
        wait_until(lambda: cluster.status()[1]["ztunnel"] == "istio-system/ztunnel-new", "the new one serves")
        with PodSockets(second) as at_second, accepted:
            on_second = transparent(at_second)
            newer, of_newer = opened(cluster, outside, on_second)
            with of_newer:
                assert exchanges(client, accepted)
                assert exchanges(newer, of_newer)
    finally:
        cluster.node.remove_pod(second)
        cluster.publish()
    wait_until(lambda: cluster.status()[1]["ztunnel"] == "istio-system/ztunnel", "the old one serves")
    outside.make().connect((cluster.app.ip, POD_PORT))
    accept(listener).close()


def test_an_agents_restart_changes_nothing(cluster: Cluster, outside: PodSockets, listener: socket.socket) -> None:
    """What is attached is adopted: open connections go on, and new ones are captured all the time."""
    client, accepted = opened(cluster, outside, listener)
    with accepted:
        cluster.agent.kill()
        opened(cluster, outside, listener)[1].close()
        links = sorted(path.name for path in (cluster.bpffs / "devices").iterdir())
        cluster.start_agent().ready()
        assert sorted(path.name for path in (cluster.bpffs / "devices").iterdir()) == links
        assert exchanges(client, accepted)
        opened(cluster, outside, listener)[1].close()


def test_what_is_removed_by_hand_comes_back(
    cluster: Cluster, outside: PodSockets, listener: socket.socket, agent: Agent
) -> None:
    """A pin, a link detached, an entry, ztunnel's rules: all is made good, and connections are captured again."""
    with cluster.pinned(places, "places") as known:
        cookie = known[as_address(ip_address(cluster.app.ip))].netns_cookie
        pin = cluster.bpffs / "devices" / f"to_pod-{cookie:x}"
        pin.unlink()
        wait_until(pin.exists, "the pin is there again", 12)
        with Link.open(pin) as link:
            link.detach()
        known.delete(as_address(ip_address(cluster.app.ip)))
    cluster.ztunnel.in_netns(forget_routes)
    assert routes(cluster.ztunnel) == []
    wait_until(lambda: routes(cluster.ztunnel) == [15006, 15006], "the routes are there again", 20)
    wait_until(lambda: captured(cluster, cluster.app), "the entry is there again", 12)
    wait_until(lambda: attached_at(pin), "the program is attached again", 12)
    opened(cluster, outside, listener)[1].close()


def attached_at(pin: Path) -> bool:
    """Whether a link is pinned, and attached to something."""
    with contextlib.suppress(KernelError), Link.open(pin) as link:
        return link.info().target != 0
    return False


def test_a_pod_in_a_new_namespace_is_captured(
    cluster: Cluster, outside: PodSockets, listener: socket.socket, agent: Agent
) -> None:
    """One that is enrolled while the agent runs, and one that takes its place and its address."""
    for name in ("first", "its-heir"):
        pod = cluster.node.add_pod(name, namespace="shop", ip="10.244.77.99")
        cluster.publish()
        wait_until(lambda pod=pod: captured(cluster, pod), "the pod is captured")
        client = outside.make()
        client.connect((pod.ip, POD_PORT))
        with accept(listener) as accepted:
            assert exchanges(client, accepted)
        cluster.node.remove_pod(pod)
        cluster.publish()
        wait_until(lambda pod=pod: captured(cluster, pod) is None, "the pod is forgotten")


def test_udp_is_left_alone(cluster: Cluster, app: PodSockets, outside: PodSockets) -> None:
    """It reaches the pod itself."""
    in_pod, client = (each.make(socket.AF_INET, socket.SOCK_DGRAM) for each in (app, outside))
    in_pod.bind((cluster.app.ip, POD_PORT))
    client.sendto(b"hello", (cluster.app.ip, POD_PORT))
    assert in_pod.recvfrom(9) == (b"hello", (cluster.outside.ip, client.getsockname()[1]))


def test_pods_without_a_device_on_the_host_are_told(cluster: Cluster) -> None:
    """Where the host's namespace has no end of their veth pairs, `status` is degraded, and names pods and ztunnel."""
    elsewhere = cluster.node.host(network="another").containers["app"].pid
    with cluster.datapath_with("--host-pid", str(elsewhere)):
        code, report = cluster.status()
    assert code == 1
    (line,) = [each for each in report["problems"] if "is not captured" in each]
    assert "istio-system/ztunnel has its addresses by no veth device of the host" in line
    assert not any(pod["inbound"] for pod in report["pods"])


def is_in_mesh(cluster: Cluster, name: str) -> bool:
    """Whether the agent has a pod of this name in the mesh, and its entries are there."""
    return any(pod["name"] == name and pod["in_mesh"] for pod in cluster.status()[1]["pods"])


@pytest.mark.parametrize("annotations", [{}, {BYPASS: "true"}])
def test_a_pod_that_was_never_captured_calls(
    cluster: Cluster, ztunnel: PodSockets, annotations: dict[str, str]
) -> None:
    """One that the API gives no address yet, or that has always asked to be left alone: its calls go to ztunnel."""
    out = ztunnel.listen(OUT_PORT)
    pod = cluster.node.add_pod("caller", namespace="shop")
    pod.annotations |= annotations
    address, address6 = pod.ip, pod.ip6
    if not annotations:
        pod.ip, pod.ip6 = "", None
    cluster.publish()
    try:
        wait_until(lambda: is_in_mesh(cluster, "caller"), "it is enrolled")
        with PodSockets(pod) as sockets:
            sockets.make().connect((cluster.server.ip, 7777))
            with accept(out) as accepted:
                assert accepted.getpeername()[0] == address
    finally:
        pod.ip, pod.ip6 = address, address6
        cluster.node.remove_pod(pod)
        cluster.publish()


def test_switched_off(cluster: Cluster, app: PodSockets, outside: PodSockets) -> None:
    """With --inbound off nothing is at the devices, also where it was on; the pod is reached, and `status` says so."""
    app.listen(POD_PORT)
    with cluster.datapath_with():
        cluster.agent.kill()
        cluster.start_agent("--inbound", "off").ready()
        assert is_reached(outside, cluster.app.ip, POD_PORT)
        assert not list((cluster.bpffs / "devices").iterdir())
        assert not any(pod["inbound"] for pod in cluster.status()[1]["pods"])
        assert routes(cluster.ztunnel) == []


def test_cleanup_leaves_nothing(cluster: Cluster, app: PodSockets, outside: PodSockets, agent: Agent) -> None:
    """No program at a device, no route in ztunnel's namespace."""
    app.listen(POD_PORT)
    assert routes(cluster.ztunnel) == [15006, 15006]
    cluster.end_datapath()
    try:
        assert routes(cluster.ztunnel) == []
        assert is_reached(outside, cluster.app.ip, POD_PORT)
    finally:
        cluster.start_agent().ready()


def routes(pod: Pod) -> list[int]:
    """The tables that rules by mark name in a pod's namespace."""

    def look() -> list[int]:
        with IPRoute() as requests:
            rules = [rule for family in FAMILIES for rule in requests.get_rules(family=family)]
            return [rule.get_attr("FRA_TABLE") for rule in rules if rule.get_attr("FRA_FWMARK")]

    return pod.in_netns(look)
