"""DNS of pods that ask for it: questions reach ztunnel, answers seem to come from the server that was asked."""

import ctypes
import errno
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets
from test_ipv6 import ip6, listen6, original6
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
    """ztunnel's DNS: answers each datagram with its own bytes behind "re: ", or keeps silent until it is told to."""

    def __init__(self, sockets: PodSockets) -> None:
        """Listen by UDP for both families."""
        self.heard: list[bytes] = []
        self.silent = False
        self._clients: dict[bytes, object] = {}
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
            self._clients[question] = client
            self.heard.append(question)
            if not self.silent:
                self.answer(question)

    def answer(self, question: bytes) -> None:
        """Answer one of those that were heard."""
        self._socket.sendto(answer_to(question), self._clients[question])

    def wait_for(self, *questions: bytes) -> None:
        """Wait until all of these have been heard, and no other."""
        wait_until(lambda: self.heard == [*questions], f"{questions} are heard")

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


def test_both_families_on_one_socket(app: PodSockets, answers: Answers) -> None:
    """As musl's resolver asks: each answer is for a question of its own family, whichever comes first."""
    servers = {b"4": f"::ffff:{SERVERS[socket.AF_INET][0]}", b"6": SERVERS[socket.AF_INET6][0]}
    answers.silent = True
    for order in ((b"4", b"6"), (b"6", b"4")):
        asking = of_udp(app, socket.AF_INET6)
        answers.heard.clear()
        for question, server in servers.items():
            asking.sendto(question, (server, NAMES))
        answers.wait_for(*servers)
        for question in order:
            answers.answer(question)
            answer, source = asking.recvfrom(99)
            assert (answer, source[:2]) == (answer_to(question), (servers[question], NAMES))


def test_sendmsg_with_data_beside(app: PodSockets, answers: Answers) -> None:
    """sendmsg and recvmsg, with ancillary data; of a connected socket, too, whose sends the kernel shows then."""
    server = (SERVERS[socket.AF_INET][0], NAMES)
    ttl = [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", 7))]
    for to in (server, None):
        asking = of_udp(app, socket.AF_INET)
        if to is None:
            asking.connect(server)
        asking.sendmsg([b"wh", b"o?"], ttl, 0, *([to] if to else []))
        answer, _, _, source = asking.recvmsg(99, 99)
        assert (answer, source) == (answer_to(b"who?"), server)


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class MsgHdr(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("data", ctypes.POINTER(IoVec)),
        ("data_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class MMsgHdr(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", MsgHdr), ("size", ctypes.c_uint))


def test_several_by_one_call(app: PodSockets, answers: Answers) -> None:
    """sendmmsg and recvmmsg, each message with its own server."""
    libc, asking = ctypes.CDLL(None), of_udp(app, socket.AF_INET)
    asking.setblocking(True)
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5 * SLOWNESS, 0))
    texts = [b"q0", b"q1", b"q2"]
    servers = [sockaddr_in(SERVERS[socket.AF_INET][number], NAMES) for number in (0, 1, 0)]
    questions = [ctypes.create_string_buffer(text, len(text)) for text in texts]
    names = [ctypes.create_string_buffer(server, len(server)) for server in servers]
    assert libc.sendmmsg(asking.fileno(), messages(names, questions), 3, 0) == 3
    answers.wait_for(*texts)
    sources = [ctypes.create_string_buffer(len(server)) for server in servers]
    heard = [ctypes.create_string_buffer(64) for _ in texts]
    assert libc.recvmmsg(asking.fileno(), messages(sources, heard), 3, 0, None) == 3
    assert [each.value for each in heard] == [answer_to(text) for text in texts]
    assert [each.raw for each in sources] == servers


def sockaddr_in(address: str, port: int) -> bytes:
    """An IPv4 address and a port as the kernel has them."""
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(address))


def messages(
    names: "list[ctypes.Array[ctypes.c_char]]", data: "list[ctypes.Array[ctypes.c_char]]"
) -> "ctypes.Array[MMsgHdr]":
    """What sendmmsg sends where, or recvmmsg receives from where."""
    made = (MMsgHdr * len(names))()
    for message, name, text in zip(made, names, data, strict=True):
        message.header.name, message.header.name_size = ctypes.addressof(name), len(name)
        message.header.data = ctypes.pointer(IoVec(ctypes.addressof(text), len(text)))
        message.header.data_count = 1
    return made


def test_large_answers(app: PodSockets, answers: Answers) -> None:
    """In fragments, too."""
    asking = of_udp(app, socket.AF_INET)
    question = bytes(range(256)) * 32
    asking.sendto(question, (SERVERS[socket.AF_INET][0], NAMES))
    answer, source = asking.recvfrom(65535)
    assert (answer, source) == (answer_to(question), (SERVERS[socket.AF_INET][0], NAMES))


def test_a_lost_answer_is_not_the_next_ones(app: PodSockets, answers: Answers) -> None:
    """A question without an answer is given up when the next one comes a second later; all that follow are right."""
    first, second = SERVERS[socket.AF_INET]
    asking = of_udp(app, socket.AF_INET)
    answers.silent = True
    asking.sendto(b"lost", (first, NAMES))
    answers.wait_for(b"lost")
    time.sleep(1.1)
    answers.silent = False
    for server in (second, first, second):
        asking.sendto(b"later", (server, NAMES))
        assert asking.recvfrom(99) == (answer_to(b"later"), (server, NAMES))


def test_an_answer_too_many_is_the_last_ones(app: PodSockets, answers: Answers) -> None:
    """An answer that comes twice is taken for the last question's, and does not make those that follow wrong."""
    first, second = SERVERS[socket.AF_INET]
    asking = of_udp(app, socket.AF_INET)
    asking.sendto(b"1", (first, NAMES))
    assert asking.recvfrom(99) == (answer_to(b"1"), (first, NAMES))
    answers.silent = True
    asking.sendto(b"2", (second, NAMES))
    answers.wait_for(b"1", b"2")
    for question in (b"1", b"2"):
        answers.answer(question)
        assert asking.recvfrom(99) == (answer_to(question), (second, NAMES))
    answers.silent = False
    for server in (first, second):
        asking.sendto(b"3", (server, NAMES))
        assert asking.recvfrom(99) == (answer_to(b"3"), (server, NAMES))


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


def test_a_socket_that_is_connected_no_longer(app: PodSockets, answers: Answers) -> None:
    """After connect() with AF_UNSPEC it has no peer, and its answers are those of the servers it asks then."""
    first, second = SERVERS[socket.AF_INET]
    asking = of_udp(app, socket.AF_INET)
    asking.connect((first, NAMES))
    asking.send(b"who?")
    assert asking.recvfrom(99)[1] == (first, NAMES)
    assert ctypes.CDLL(None).connect(asking.fileno(), bytes(16), 16) == 0
    with pytest.raises(OSError) as failure:
        asking.getpeername()
    assert failure.value.errno == errno.ENOTCONN
    asking.sendto(b"and?", (second, NAMES))
    assert asking.recvfrom(99) == (answer_to(b"and?"), (second, NAMES))


@pytest.mark.parametrize(("family", "servers"), FORMS)
def test_a_socket_that_is_connected_again(
    cluster: Cluster, app: PodSockets, answers: Answers, family: socket.AddressFamily, servers: tuple[str, str]
) -> None:
    """It shows whom it is connected to now: another server, one in the pod, ztunnel itself."""
    ztunnel = {"IPv4": cluster.ztunnel.ip, "IPv6": ip6(cluster.ztunnel), "mapped": f"::ffff:{cluster.ztunnel.ip}"}
    own = {"IPv4": "127.0.0.1", "IPv6": "::1", "mapped": "::ffff:127.0.0.1"}
    form = "IPv4" if family == socket.AF_INET else "mapped" if servers[0].startswith("::ffff") else "IPv6"
    asking = of_udp(app, family)
    for peer in ((servers[0], NAMES), (servers[1], NAMES), (own[form], NAMES), (ztunnel[form], DNS_PORT)):
        asking.connect(peer)
        assert asking.getpeername()[:2] == peer
    asking.send(b"who?")
    assert asking.recvfrom(99)[1][:2] == (ztunnel[form], DNS_PORT)


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
    listener = listen6(ztunnel, DNS_PORT)
    client = app.make(family)
    destination = (SERVERS[family][0], NAMES)
    client.connect(destination)
    with accept(listener) as accepted:
        original = original_destination if family == socket.AF_INET else original6
        assert original(accepted) == destination
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
        for call in (of_udp(app, socket.AF_INET).connect, sending(app, socket.AF_INET)):
            with pytest.raises(PermissionError) as refused:
                call((SERVERS[socket.AF_INET][0], NAMES))
            assert refused.value.errno == errno.EPERM
        assert cluster.counters()["refused_no_ztunnel"] == before + 2
    finally:
        cluster.ztunnel.phase = "Running"
        cluster.publish()
    wait_until(lambda: cluster.status()[1]["ztunnel_ip"], "ztunnel is back")


def test_without_an_address_of_the_family_it_is_refused(cluster: Cluster, app: PodSockets, answers: Answers) -> None:
    """Of a ztunnel that has IPv4 only, questions by IPv6 are refused, and counted; those by IPv4 are answered."""
    whole, before = cluster.ztunnel.ip6, cluster.counters()["refused_no_address"]
    cluster.ztunnel.ip6 = None
    cluster.publish()
    try:
        wait_until(lambda: not cluster.status()[1]["ztunnel_ip6"], "it has IPv4 only")
        for server in SERVERS[socket.AF_INET6]:
            for call in (of_udp(app, socket.AF_INET6).connect, sending(app, socket.AF_INET6)):
                with pytest.raises(PermissionError):
                    call((server, NAMES))
        assert cluster.counters()["refused_no_address"] == before + 4
        asking = of_udp(app, socket.AF_INET6)
        asking.sendto(b"who?", (f"::ffff:{SERVERS[socket.AF_INET][0]}", NAMES))
        assert asking.recv(99) == answer_to(b"who?")
    finally:
        cluster.ztunnel.ip6 = whole
        cluster.publish()
    wait_until(lambda: cluster.status()[1]["ztunnel_ip6"], "IPv6 is back")


def sending(sockets: PodSockets, family: socket.AddressFamily) -> Callable[[tuple[str, int]], int]:
    """A socket's sendto, with something to ask."""
    asking = of_udp(sockets, family)
    return lambda server: asking.sendto(b"?", server)


def test_fail_open(cluster: Cluster) -> None:
    """With `--fail-open yes` and without a ztunnel the server is asked itself, and shown as it is."""
    cluster.end_datapath()
    cluster.ztunnel.phase = "Failed"
    cluster.publish()
    try:
        with (
            cluster.datapath_with("--fail-open", "yes"),
            PodSockets(cluster.app) as app,
            PodSockets(cluster.server) as server,
        ):
            names = of_udp(server, socket.AF_INET)
            names.bind((cluster.server.ip, NAMES))
            asking = of_udp(app, socket.AF_INET)
            asking.sendto(b"who?", names.getsockname())
            question, client = names.recvfrom(99)
            names.sendto(answer_to(question), client)
            assert asking.recvfrom(99) == (answer_to(b"who?"), names.getsockname())
            assert cluster.counters()["passed_no_ztunnel"] == 1
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
