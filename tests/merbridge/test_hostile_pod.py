"""What a pod can and cannot do that is root in its own network namespace; docs/security.md has the same in words."""

import errno
import platform
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets
from pyroute2 import IPRoute
from test_inbound import is_reached, plain, transparent
from test_original_dst import accept, connections_in_set_up, original_destination

from merbridge.demo.workloads import Pod, Workload
from programs.inbound import ROUTE_MARK, SENT_MARK

OUT_PORT, IN_PORT, POD_PORT = 15001, 15006, 8080
SO_MARK, IP_HDRINCL, IP_FREEBIND = 36, 3, 15
MARKS = [0x539, ROUTE_MARK, SENT_MARK]
SYN = 0x02

pytestmark = pytest.mark.usefixtures("fresh_sockets")


@pytest.fixture(scope="module")
def agent(cluster: Cluster) -> Agent:
    """One with little room, so that a pod can use up its share."""
    return cluster.start_agent("--max-connections", "64").ready()


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_does_not_lead_out(cluster: Cluster, app: PodSockets, ztunnel: PodSockets, mark: int) -> None:
    """Whichever mark its sockets bear, ztunnel's own among them, an enrolled pod's connections go to ztunnel."""
    listener = ztunnel.listen(OUT_PORT)
    client = app.make()
    client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    client.connect((cluster.server.ip, cluster.server_port))
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.server.ip, cluster.server_port)


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_does_not_lead_in(cluster: Cluster, outside: PodSockets, ztunnel: PodSockets, mark: int) -> None:
    """Nor does it lead past ztunnel into an enrolled pod: packets lose their marks where they leave a pod."""
    listener = transparent(ztunnel)
    client = outside.make()
    client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    client.connect((cluster.app.ip, POD_PORT))
    with accept(listener) as accepted:
        assert plain(accepted.getsockname()) == (cluster.app.ip, POD_PORT)


@pytest.mark.parametrize("port", [OUT_PORT, IN_PORT, 15008, 53])
def test_a_source_port_does_not_lead_out(cluster: Cluster, app: PodSockets, ztunnel: PodSockets, port: int) -> None:
    """Not ztunnel's ports either."""
    listener = ztunnel.listen(OUT_PORT)
    client = app.make()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("0.0.0.0", port))
    client.connect((cluster.server.ip, cluster.server_port))
    with accept(listener) as accepted:
        assert accepted.getpeername() == (cluster.app.ip, port)
        assert original_destination(accepted) == (cluster.server.ip, cluster.server_port)


def test_a_user_does_not_lead_out(cluster: Cluster, ztunnel: PodSockets) -> None:
    """The user id of Istio's proxies, 1337, is one like any other."""
    listener = ztunnel.listen(OUT_PORT)
    script = f"import socket; socket.create_connection(('{cluster.server.ip}', {cluster.server_port}), 5)"
    command = ["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", sys.executable, "-ISc", script]
    client = cluster.app.run(command)
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.server.ip, cluster.server_port)
    assert client.wait(10 * SLOWNESS) == 0


def test_a_new_network_namespace_leads_nowhere(cluster: Cluster) -> None:
    """A namespace that the pod makes has no network but what the pod gives it, and the pod's is captured."""
    script = f"import socket; socket.create_connection(('{cluster.server.ip}', {cluster.server_port}), 2)"
    client = cluster.app.run(
        ["unshare", "--net", sys.executable, "-ISc", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    client.communicate(timeout=10 * SLOWNESS)
    assert client.returncode == 1


def test_no_bpf_from_within(cluster: Cluster) -> None:
    """In a user namespace of its own, as containers that may make one are, a process has no say in BPF."""
    # bpf(BPF_PROG_GET_NEXT_ID), with attributes of 16 bytes.
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    script = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True);"
        f"libc.syscall({number}, 11, ctypes.create_string_buffer(16), 16); print(ctypes.get_errno())"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-ISc", script]
    asked = cluster.app.run(command, stdout=subprocess.PIPE)
    said, _ = asked.communicate(timeout=10 * SLOWNESS)
    assert int(said) == errno.EPERM


def segment(source: tuple[str, int], destination: tuple[str, int], flags: int = SYN) -> bytes:
    """An IPv4 packet with a TCP segment of 20 bytes; the kernel fills in IP's checksum."""
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    tcp = struct.pack("!HHIIBBHHH", source[1], destination[1], 1000, 0, 5 << 4, flags, 65535, 0, 0)
    total = sum(struct.unpack("!16H", addresses + struct.pack("!HH", 6, len(tcp)) + tcp))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    tcp = tcp[:16] + struct.pack("!H", checksum) + tcp[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses + tcp


def raw(sockets: PodSockets) -> socket.socket:
    """A socket for whole IPv4 packets."""
    made = sockets.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    made.setsockopt(socket.IPPROTO_IP, IP_HDRINCL, 1)
    return made


def sees(sniffing: socket.socket, source_port: int) -> bool:
    """Whether a packet with this source port comes before nothing comes any more."""
    try:
        while sniffing.recv(99)[20:22] != struct.pack("!H", source_port):
            pass
    except TimeoutError:
        return False
    return True


def test_raw_packets_leave_in_the_clear(cluster: Cluster, app: PodSockets) -> None:
    """What is said plainly: who may open raw sockets (CAP_NET_RAW) sends what he likes past the connect hooks."""
    with PodSockets(cluster.server) as server:
        seen = server.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        raw(app).sendto(segment((cluster.app.ip, 4444), (cluster.server.ip, 9)), (cluster.server.ip, 0))
        packet = seen.recv(99)
        while packet[20:24] != struct.pack("!HH", 4444, 9):
            packet = seen.recv(99)
        assert packet[12:16] == socket.inet_aton(cluster.app.ip)


@pytest.mark.parametrize("who", ["outside", "host", "second_app"])
def test_a_false_source_does_not_lead_in(
    cluster: Cluster, outside: PodSockets, app: PodSockets, ztunnel: PodSockets, who: str
) -> None:
    """A request under the host's or another pod's address is for ztunnel as any other; none of it reaches the pod."""
    transparent(ztunnel)
    seen = app.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    seen.settimeout(0.3 * SLOWNESS)
    claimed: Workload = cluster.node.host() if who == "host" else getattr(cluster, who)
    assert isinstance(claimed, Workload)
    raw(outside).sendto(segment((claimed.ip, 4445), (cluster.app.ip, POD_PORT)), (cluster.app.ip, 0))  # type: ignore[attr-defined]
    assert not sees(seen, 4445)


def test_a_request_in_ztunnels_name_is_all_that_arrives(
    cluster: Cluster, outside: PodSockets, app: PodSockets, ztunnel: PodSockets
) -> None:
    """What is said plainly: under ztunnel's address a single packet gets to the pod.

    The answer goes to ztunnel, so no connection comes of it.
    """
    in_pod = app.listen(POD_PORT)
    in_pod.settimeout(0.5 * SLOWNESS)
    seen = app.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    raw(outside).sendto(segment((cluster.ztunnel.ip, 4446), (cluster.app.ip, POD_PORT)), (cluster.app.ip, 0))
    assert sees(seen, 4446)
    with pytest.raises(TimeoutError):
        in_pod.accept()


def own(pod: Pod, address: str) -> None:
    """Give a pod's eth0 one more address."""

    def add() -> None:
        with IPRoute() as requests:
            (index,) = requests.link_lookup(ifname="eth0")
            requests.addr("add", index=index, address=address, prefixlen=32)

    pod.in_netns(add)


def disown(pod: Pod, address: str) -> None:
    """Take it away."""

    def remove() -> None:
        with IPRoute() as requests:
            (index,) = requests.link_lookup(ifname="eth0")
            requests.addr("del", index=index, address=address, prefixlen=32)

    pod.in_netns(remove)


def test_anothers_address_gives_nothing(
    cluster: Cluster, app: PodSockets, outside: PodSockets, ztunnel: PodSockets
) -> None:
    """A pod that takes another's address: ztunnel learns no destination of its calls, and the other's go on.

    What is for the other still arrives as the other's.
    """
    out, inbound = ztunnel.listen(OUT_PORT), transparent(ztunnel)
    before = cluster.counters()["foreign_source"]
    own(cluster.second_app, cluster.app.ip)
    try:
        with PodSockets(cluster.second_app) as hostile:
            thief = hostile.make()
            thief.bind((cluster.app.ip, 0))
            thief.setblocking(False)
            assert thief.connect_ex((cluster.server.ip, 7)) == errno.EINPROGRESS
            wait_until(lambda: cluster.counters()["foreign_source"] > before, "it was seen through")
            client = app.make()
            client.connect((cluster.server.ip, 7777))
            with accept(out) as accepted:
                assert original_destination(accepted) == (cluster.server.ip, 7777)
        outside.make().connect((cluster.app.ip, POD_PORT))
        with accept(inbound) as accepted:
            assert plain(accepted.getsockname()) == (cluster.app.ip, POD_PORT)
    finally:
        disown(cluster.second_app, cluster.app.ip)


def test_ztunnels_address_gives_nothing(cluster: Cluster, outside: PodSockets, ztunnel: PodSockets) -> None:
    """A pod that takes ztunnel's address is not let in by it: its packets are not from ztunnel's place."""
    transparent(ztunnel)
    own(cluster.outside, cluster.ztunnel.ip)
    try:
        client = outside.make()
        client.bind((cluster.ztunnel.ip, 0))
        client.settimeout(0.5 * SLOWNESS)
        with PodSockets(cluster.app) as app:
            in_pod = app.listen(POD_PORT)
            in_pod.settimeout(0.5 * SLOWNESS)
            with pytest.raises(OSError, match=r"timed out|refused|reset"):
                client.connect((cluster.app.ip, POD_PORT))
            with pytest.raises(TimeoutError):
                in_pod.accept()
    finally:
        disown(cluster.outside, cluster.ztunnel.ip)


def test_one_pod_cannot_take_the_room_of_others(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """It may have a quarter of the connections in set-up; another pod's still find their destination."""
    full = ztunnel.listen(OUT_PORT, backlog=0)
    before = cluster.counters()["share_used_up"]
    flood = [app.make() for _ in range(80)]
    for number, each in enumerate(flood):
        each.setblocking(False)
        assert each.connect_ex((cluster.server.ip, 1000 + number)) == errno.EINPROGRESS
    assert connections_in_set_up(cluster) <= 16
    assert cluster.counters()["share_used_up"] - before >= 80 - 16 - 2  # a backlog of 0 takes one, or two
    full.listen(4096)
    with PodSockets(cluster.second_app) as second:
        second.make().connect((cluster.server.ip, 7777))
        for _ in range(200):
            with accept(full) as accepted:
                if accepted.getpeername()[0] == cluster.second_app.ip:
                    assert original_destination(accepted) == (cluster.server.ip, 7777)
                    break
        else:
            pytest.fail("the other pod's connection has not come")
    app.close_all()
    wait_until(lambda: connections_in_set_up(cluster) == 0, "nothing is left in set-up")
    full.listen(4096)
    again = app.make()
    again.connect((cluster.server.ip, 8888))
    for _ in range(200):
        with accept(full) as accepted:
            if accepted.getpeername() == again.getsockname():
                assert original_destination(accepted) == (cluster.server.ip, 8888)
                return
    pytest.fail("the pod's connection has not come")


def test_a_pod_reaches_what_it_is_told_to(cluster: Cluster, outside: PodSockets) -> None:
    """After all this pods outside the mesh reach each other."""
    assert is_reached(outside, cluster.server.ip, cluster.server_port)


def test_the_page_names_tests_that_are_there() -> None:
    """Each claim of docs/security.md has its test."""
    here = Path(__file__).parent
    page = (here.parents[1] / "docs" / "security.md").read_text()
    named = re.findall(r"`(?:(test_[a-z0-9_]+\.py)(?:::)?)?(test_[a-z0-9_]+)?`", page)
    found = [(file or Path(__file__).name, name) for file, name in named if file or name]
    assert len(found) > 20
    for file, name in found:
        text = (here / file).read_text()
        assert not name or f"def {name}(" in text, (file, name)
