"""DNS of pods that ask for it: questions reach ztunnel, answers seem to come from the server that was asked."""

import errno
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets
from test_original_dst import accept, original_destination

DNS_PORT, NAMES = 15053, 53
CAPTURE = "ambient.istio.io/dns-capture"
IPV6_V6ONLY = 26
# Nobody answers there: documentation's addresses.
SERVERS = {socket.AF_INET: ("198.51.100.53", "198.51.100.54"), socket.AF_INET6: ("2001:db8::53", "2001:db8::54")}
FORMS = (
    pytest.param(socket.AF_INET, SERVERS[socket.AF_INET], id="IPv4"),
    pytest.param(socket.AF_INET6, SERVERS[socket.AF_INET6], id="IPv6"),
    pytest.param(socket.AF_INET6, tuple(f"::ffff:{each}" for each in SERVERS[socket.AF_INET]), id="v4-mapped"),
)


class Answers:
    """ztunnel's DNS: answers each datagram with its own bytes behind "re: ", unless told to keep silent."""

    def __init__(self, sockets: PodSockets) -> None:
        """Listen by UDP for both families."""
        self.heard: list[bytes] = []
        self.silent = False
        self._socket = sockets.make(socket.AF_INET6, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_V6ONLY, 0)
        self._socket.settimeout(0.05)
        self._socket.bind(("::", DNS_PORT))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                question, client = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            self.heard.append(question)
            if not self.silent:
                self._socket.sendto(answer_to(question), client)

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()


def answer_to(question: bytes) -> bytes:
    """What it says."""
    return b"re: " + question


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A dual-stack node, on which one enrolled pod asks for it, and the other does not."""
    with Cluster("test-dns", dual_stack=True) as started:
        started.app.annotations[CAPTURE] = "true"
        started.publish()
        yield started


@pytest.fixture
def answers(ztunnel: PodSockets) -> Iterator[Answers]:
    """ztunnel's DNS."""
    serving = Answers(ztunnel)
    yield serving
    serving.close()


@pytest.fixture(autouse=True)
def _close_sockets(app: PodSockets, ztunnel: PodSockets) -> Iterator[None]:
    """Each test begins without the last one's sockets."""
    yield
    app.close_all()
    ztunnel.close_all()


def of_udp(sockets: PodSockets, family: socket.AddressFamily) -> socket.socket:
    """A socket of UDP."""
    return sockets.make(family, socket.SOCK_DGRAM)


@pytest.mark.parametrize(("family", "servers"), FORMS)
def test_connected(app: PodSockets, answers: Answers, family: socket.AddressFamily, servers: tuple[str, str]) -> None:
    """The peer is the server, whichever way it is asked for."""
    asking = of_udp(app, family)
    asking.connect((servers[0], NAMES))
    asking.send(b"who?")
    answer, source = asking.recvfrom(99)
    assert (answer, source[:2]) == (answer_to(b"who?"), (servers[0], NAMES))
    assert asking.getpeername()[:2] == (servers[0], NAMES)
    asking.send(b"and?")
    assert asking.recv(99) == answer_to(b"and?")
    assert answers.heard == [b"who?", b"and?"]


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(("family", "servers"), FORMS)
def test_unconnected(
    app: PodSockets, answers: Answers, family: socket.AddressFamily, servers: tuple[str, str], bound: bool
) -> None:
    """One socket that asks several servers learns of each answer whose it is, in the order of the questions."""
    asking = of_udp(app, family)
    if bound:
        asking.bind(("", 0))
    for server in (*servers, servers[0]):
        asking.sendto(server.encode(), (server, NAMES))
    for server in (*servers, servers[0]):
        answer, source = asking.recvfrom(99)
        assert (answer, source[:2]) == (answer_to(server.encode()), (server, NAMES))
    assert len(answers.heard) == 3


def test_sendmsg_with_data_beside(app: PodSockets, answers: Answers) -> None:
    """sendmsg and recvmsg, with ancillary data."""
    asking = of_udp(app, socket.AF_INET)
    ttl = [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", 7))]
    asking.sendmsg([b"wh", b"o?"], ttl, 0, (SERVERS[socket.AF_INET][0], NAMES))
    answer, _, _, source = asking.recvmsg(99, 99)
    assert (answer, source) == (answer_to(b"who?"), (SERVERS[socket.AF_INET][0], NAMES))


def test_large_answers(app: PodSockets, answers: Answers) -> None:
    """In fragments, too."""
    asking = of_udp(app, socket.AF_INET)
    question = bytes(range(256)) * 32
    asking.sendto(question, (SERVERS[socket.AF_INET][0], NAMES))
    answer, source = asking.recvfrom(65535)
    assert (answer, source) == (answer_to(question), (SERVERS[socket.AF_INET][0], NAMES))


def test_a_lost_answer_is_not_the_next_ones(app: PodSockets, answers: Answers) -> None:
    """After 5 s without an answer a question is given up, when a later one is answered."""
    first, second = SERVERS[socket.AF_INET]
    asking = of_udp(app, socket.AF_INET)
    asking.settimeout(5 * SLOWNESS)
    answers.silent = True
    asking.sendto(b"lost", (first, NAMES))
    wait_until(lambda: answers.heard == [b"lost"], "the question is heard")
    threading.Event().wait(5.1)
    answers.silent = False
    asking.sendto(b"later", (second, NAMES))
    assert asking.recvfrom(99) == (answer_to(b"later"), (second, NAMES))


def test_more_questions_than_are_kept(app: PodSockets, answers: Answers) -> None:
    """Every answer names a server that was asked."""
    servers = SERVERS[socket.AF_INET]
    asking = of_udp(app, socket.AF_INET)
    for number in range(20):
        asking.sendto(b"?", (servers[number % 2], NAMES))
    sources = [asking.recvfrom(99)[1] for _ in range(20)]
    assert {source[0] for source in sources} <= set(servers)
    assert {source[1] for source in sources} == {NAMES}


def test_a_socket_that_goes_elsewhere(cluster: Cluster, app: PodSockets, answers: Answers) -> None:
    """Connected to another port afterwards, it shows where it is; what comes from elsewhere is left as it is."""
    with PodSockets(cluster.server) as server:
        other = of_udp(server, socket.AF_INET)
        other.bind((cluster.server.ip, 0))
        asking = of_udp(app, socket.AF_INET)
        asking.connect((SERVERS[socket.AF_INET][0], NAMES))
        asking.connect(other.getsockname())
        assert asking.getpeername() == other.getsockname()
        asking.send(b"hello")
        question, client = other.recvfrom(99)
        other.sendto(answer_to(question), client)
        assert asking.recvfrom(99) == (answer_to(b"hello"), other.getsockname())
    assert not answers.heard


@pytest.mark.parametrize("place", ["127.0.0.1", "own", "::1"])
def test_own_server_is_asked_itself(cluster: Cluster, app: PodSockets, answers: Answers, place: str) -> None:
    """What stays in the pod stays there: a caching resolver beside the app."""
    family = socket.AF_INET6 if ":" in place else socket.AF_INET
    own = of_udp(app, family)
    own.bind((cluster.app.ip if place == "own" else place, NAMES))
    asking = of_udp(app, family)
    asking.sendto(b"who?", own.getsockname())
    question, client = own.recvfrom(99)
    own.sendto(answer_to(question), client)
    answer, source = asking.recvfrom(99)
    assert (answer, source) == (answer_to(b"who?"), own.getsockname())
    assert not answers.heard


def test_other_ports_and_pods_are_left_alone(cluster: Cluster, answers: Answers, app: PodSockets) -> None:
    """Other ports of the pod that asks for it, and port 53 of pods that do not, in the mesh or outside."""
    with PodSockets(cluster.server) as server:
        names, other = of_udp(server, socket.AF_INET), of_udp(server, socket.AF_INET)
        names.bind((cluster.server.ip, NAMES))
        other.bind((cluster.server.ip, 0))
        of_udp(app, socket.AF_INET).sendto(b"app", other.getsockname())
        assert other.recv(99) == b"app"
        for pod in (cluster.second_app, cluster.outside, cluster.node.host(), cluster.ztunnel):
            with PodSockets(pod) as sockets:
                of_udp(sockets, socket.AF_INET).sendto(b"other", names.getsockname())
                assert names.recv(99) == b"other"
    assert not answers.heard


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_by_tcp(app: PodSockets, ztunnel: PodSockets, family: socket.AddressFamily) -> None:
    """Connections to port 53 arrive at ztunnel's port for DNS, with their destination."""
    listener = ztunnel.listen(DNS_PORT) if family == socket.AF_INET else ztunnel.make(family)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", DNS_PORT))
        listener.listen()
    client = app.make(family)
    destination = (SERVERS[family][0], NAMES)
    client.connect(destination)
    with accept(listener) as accepted:
        if family == socket.AF_INET:
            assert original_destination(accepted) == destination
        assert client.getpeername()[:2] == destination
        client.sendall(b"up")
        accepted.sendall(b"down")
        assert (accepted.recv(9), client.recv(9)) == (b"up", b"down")


def test_without_ztunnel_it_is_refused(cluster: Cluster, app: PodSockets) -> None:
    """EPERM, counted, for both kinds of sockets."""
    before = cluster.counters()["refused_no_ztunnel"]
    cluster.ztunnel.phase = "Failed"
    cluster.publish()
    try:
        wait_until(lambda: not cluster.status()[1]["ztunnel_ip"], "ztunnel is gone")
        connected, unconnected = of_udp(app, socket.AF_INET), of_udp(app, socket.AF_INET)
        for call in (connected.connect, lambda server: unconnected.sendto(b"?", server)):
            with pytest.raises(PermissionError) as refused:
                call((SERVERS[socket.AF_INET][0], NAMES))
            assert refused.value.errno == errno.EPERM
        assert cluster.counters()["refused_no_ztunnel"] == before + 2
    finally:
        cluster.ztunnel.phase = "Running"
        cluster.publish()
    wait_until(lambda: cluster.status()[1]["ztunnel_ip"], "ztunnel is back")


def test_the_annotation_counts_while_the_pod_runs(cluster: Cluster, app: PodSockets, answers: Answers) -> None:
    """Taken away, the next question goes where it is sent."""
    with PodSockets(cluster.server) as server:
        names = of_udp(server, socket.AF_INET)
        names.bind((cluster.server.ip, NAMES))
        names.settimeout(0.05)
        asking = of_udp(app, socket.AF_INET)

        def is_direct() -> bool:
            asking.sendto(b"?", names.getsockname())
            try:
                return names.recv(9) == b"?"
            except TimeoutError:
                return False

        assert not is_direct()
        del cluster.app.annotations[CAPTURE]
        cluster.publish()
        try:
            wait_until(is_direct, "the server is asked itself")
        finally:
            cluster.app.annotations[CAPTURE] = "true"
            cluster.publish()
        wait_until(lambda: not is_direct(), "ztunnel is asked")


_LOOK_UP = "import socket; print(socket.getaddrinfo('mesh.example', 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])"


def test_a_resolver(cluster: Cluster, tmp_path: Path, app: PodSockets, ztunnel: PodSockets, agent: Agent) -> None:
    """glibc's getaddrinfo, whose resolv.conf names a server far away, gets ztunnel's answer."""
    serving = ztunnel.make(socket.AF_INET, socket.SOCK_DGRAM)
    serving.bind(("0.0.0.0", DNS_PORT))
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(f"nameserver {SERVERS[socket.AF_INET][0]}\noptions timeout:2 attempts:2\n")
    script = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$0" -ISc "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, _LOOK_UP]
    looking = cluster.app.run(command, stdout=subprocess.PIPE)
    question, client = serving.recvfrom(512)
    # The question again, as an answer with one address behind it: RFC 1035, 4.1.
    header = question[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
    end = question.index(b"\0", 12) + 5
    record = bytes.fromhex("c00c 0001 0001 0000003c 0004") + socket.inet_aton("203.0.113.7")
    serving.sendto(header + question[12:end] + record, client)
    said, _ = looking.communicate(timeout=20 * SLOWNESS)
    assert said.strip() == "203.0.113.7"


def test_switched_off(cluster: Cluster, app: PodSockets, answers: Answers) -> None:
    """With --dns-capture off the hooks of datagrams are gone, and the annotation says nothing; and back again."""
    with PodSockets(cluster.server) as server:
        names = of_udp(server, socket.AF_INET)
        names.bind((cluster.server.ip, NAMES))
        cluster.agent.stop()
        cluster.start_agent("--dns-capture", "off").ready()
        try:
            assert {hook["name"] for hook in cluster.status()[1]["hooks"]}.isdisjoint({"sendmsg4", "recvmsg6"})
            assert cluster.status()[0] == 0
            of_udp(app, socket.AF_INET).sendto(b"?", names.getsockname())
            assert names.recv(9) == b"?"
        finally:
            cluster.agent.stop()
            cluster.start_agent().ready()
    assert cluster.status()[0] == 0
    asking = of_udp(app, socket.AF_INET)
    asking.sendto(b"who?", (SERVERS[socket.AF_INET][0], NAMES))
    assert asking.recv(99) == answer_to(b"who?")
