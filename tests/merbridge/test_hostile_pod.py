"""What a pod can and cannot do that is root in its own network namespace; docs/security.md has the same in words."""

import errno
import platform
import re
import socket
import struct
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from cluster import SLOWNESS, Agent, Cluster, wait_until
from pod_sockets import PodSockets
from pyroute2 import IPRoute
from test_inbound import IP_TRANSPARENT, in_the_name_of, is_reached, plain, transparent
from test_original_dst import accept, connections_in_set_up, nothing_is_left, original_destination

from merbridge.datapath.addresses import as_address
from merbridge.demo.workloads import Pod, Workload
from programs.inbound import ROUTE_MARK, SENT_MARK
from programs.maps import places

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


def test_ztunnels_name_does_not_lead_in(
    cluster: Cluster, outside: PodSockets, app: PodSockets, ztunnel: PodSockets
) -> None:
    """What bears ztunnel's address, and has not come from its device, does not reach the pod; what has come, does."""
    app.listen(POD_PORT)
    seen = app.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    seen.settimeout(0.3 * SLOWNESS)
    raw(outside).sendto(segment((cluster.ztunnel.ip, 4446), (cluster.app.ip, POD_PORT)), (cluster.app.ip, 0))
    assert not sees(seen, 4446)
    raw(ztunnel).sendto(segment((cluster.ztunnel.ip, 4447), (cluster.app.ip, POD_PORT)), (cluster.app.ip, 0))
    assert sees(seen, 4447)


def mac_of(pod: Pod) -> bytes:
    """The address of the pod's eth0."""

    def look() -> str:
        with IPRoute() as requests:
            (link,) = requests.get_links(ifname="eth0")
            return str(link.get_attr("IFLA_ADDRESS"))

    return bytes.fromhex(pod.in_netns(look).replace(":", ""))


def be_told(pod: Pod, address: str, mac: bytes | None) -> None:
    """Have a pod believe that this is where the address is, as ARP from anybody would; None forgets it."""

    def tell() -> None:
        with IPRoute() as requests:
            (index,) = requests.link_lookup(ifname="eth0")
            if mac is None:
                requests.neigh("del", dst=address, ifindex=index)
            else:
                requests.neigh("replace", dst=address, lladdr=mac.hex(":"), ifindex=index, state=0x80)  # NUD_PERMANENT

    pod.in_netns(tell)


def test_arp_gives_nothing(cluster: Cluster, app: PodSockets, outside: PodSockets, ztunnel: PodSockets) -> None:
    """Who makes a pod believe that he has ztunnel's address gets none of its packets: they go to ztunnel's device.

    Nor can he connect to it in ztunnel's name.
    """
    in_pod, out = app.listen(POD_PORT), ztunnel.listen(OUT_PORT)
    in_pod.settimeout(0.5 * SLOWNESS)
    own(cluster.outside, cluster.ztunnel.ip)
    be_told(cluster.app, cluster.ztunnel.ip, mac_of(cluster.outside))
    try:
        seen = outside.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        seen.settimeout(0.3 * SLOWNESS)
        client = app.make()
        client.bind(("0.0.0.0", 4448))
        client.connect((cluster.server.ip, 7))
        with accept(out) as accepted:
            assert original_destination(accepted) == (cluster.server.ip, 7)
        assert not sees(seen, 4448)
        thief = outside.make()
        thief.bind((cluster.ztunnel.ip, 0))
        thief.settimeout(0.5 * SLOWNESS)
        with pytest.raises(OSError, match=r"timed out|refused|reset"):
            thief.connect((cluster.app.ip, POD_PORT))
        with pytest.raises(TimeoutError):
            in_pod.accept()
    finally:
        be_told(cluster.app, cluster.ztunnel.ip, None)
        disown(cluster.outside, cluster.ztunnel.ip)


@pytest.mark.parametrize("tags", [b"", b"\x81\0\0\0", b"\x81\0\0\0" * 2, b"\x88\xa8\0\0\x81\0\0\0"])
def test_vlan_tags_do_not_lead_in(
    cluster: Cluster, app: PodSockets, outside: PodSockets, ztunnel: PodSockets, tags: bytes
) -> None:
    """A request with VLAN tags of number 0, which a pod takes off, goes to ztunnel, or nowhere if there are two."""
    transparent(ztunnel)
    app.listen(POD_PORT)
    seen = app.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    seen.settimeout(0.3 * SLOWNESS)
    wire = outside.make(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind(("eth0", 0))
    packet = segment((cluster.outside.ip, 4449), (cluster.app.ip, POD_PORT))
    packet = packet[:10] + struct.pack("!H", ip_checksum(packet[:20])) + packet[12:]
    wire.send(mac_of(cluster.app) + mac_of(cluster.outside) + tags + b"\x08\0" + packet)
    assert not sees(seen, 4449)


def ip_checksum(header: bytes) -> int:
    """Of an IPv4 header whose checksum is 0."""
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def test_a_strange_address_gives_nothing(cluster: Cluster, ztunnel: PodSockets) -> None:
    """A pod that gives itself an address from elsewhere gets nothing of what ztunnel sends there.

    However many it takes, what others have in the map of addresses stays.
    """
    strange = "203.0.113.9"
    own(cluster.second_app, strange)
    try:
        time.sleep(1.5)  # the agent looks
        with PodSockets(cluster.second_app) as hostile, cluster.pinned(places, "places") as known:
            hostile.listen(POD_PORT)
            client = ztunnel.make()
            client.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
            client.bind((cluster.app.ip, 0))
            client.settimeout(0.5 * SLOWNESS)
            with pytest.raises(OSError, match=r"timed out|unreachable|No route"):
                client.connect((strange, POD_PORT))
            assert known.get(as_address(ip_address(strange))) is None
    finally:
        disown(cluster.second_app, strange)


@pytest.mark.parametrize("name", [b"x\xff", b"x\x1cy", b"x\xc2\x85y", b"x\x1b[2J"])
def test_a_devices_name_harms_nobody(cluster: Cluster, name: bytes) -> None:
    """In a name a pod may have any bytes but white space: the agent goes on, starts again, and `cleanup` works."""
    pod = cluster.second_app.containers["app"].pid
    inside = ["nsenter", f"--net=/proc/{pod}/ns/net", "ip"]
    script = "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6"
    subprocess.run(["nsenter", f"--net=/proc/{pod}/ns/net", "sh", "-c", script], check=True)
    subprocess.run([*inside, "link", "add", name, "type", "veth", "peer", "name", "other"], check=True)
    try:
        subprocess.run([*inside, "addr", "add", "2001:db8::1/128", "dev", name], check=True)
        subprocess.run([*inside, "link", "set", name, "up"], check=True)
        young = cluster.node.add_pod("young", namespace="shop")
        cluster.publish()
        try:
            wait_until(lambda: "young" in {pod["name"] for pod in cluster.status()[1]["pods"]}, "the agent goes on", 12)
            cluster.agent.stop()
            cluster.start_agent("--max-connections", "64").ready()
            assert cluster.status()[1]["problems"] == []
            cluster.end_datapath()
            cluster.start_agent("--max-connections", "64").ready()
        finally:
            cluster.node.remove_pod(young)
            cluster.publish()
    finally:
        subprocess.run([*inside, "link", "del", name], check=True)


def test_anothers_answers_are_left_to_the_host(
    cluster: Cluster, app: PodSockets, outside: PodSockets, ztunnel: PodSockets
) -> None:
    """A packet under another pod's address is not carried to ztunnel, though it would fit a connection there."""
    in_pod = app.listen(POD_PORT)
    with PodSockets(cluster.second_app) as hostile:
        upstream = in_the_name_of(ztunnel, cluster.outside.ip, (cluster.app.ip, POD_PORT), socket.AF_INET)
        port = upstream.getsockname()[1]
        with upstream, accept(in_pod) as accepted:
            seen = ztunnel.make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
            seen.settimeout(0.3 * SLOWNESS)
            forged = segment((cluster.app.ip, POD_PORT), (cluster.outside.ip, port), flags=0x10)
            raw(hostile).sendto(forged, (cluster.outside.ip, 0))
            assert not sees(seen, POD_PORT)
            accepted.sendall(b"x")
            assert sees(seen, POD_PORT)


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
    """Of the connections without a slot it may have a quarter in set-up; another pod's still find their destination."""
    full = ztunnel.listen(OUT_PORT, backlog=0)
    before = cluster.counters()["share_used_up"]
    flood = [app.make() for _ in range(160)]
    for number, each in enumerate(flood):
        each.setblocking(False)
        assert each.connect_ex((cluster.server.ip, 1000 + number)) == errno.EINPROGRESS
    assert connections_in_set_up(cluster) <= 16
    # There are 64 slots, and a backlog of 0 takes one, or two.
    assert cluster.counters()["share_used_up"] - before >= 160 - 64 - 16 - 2
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
    wait_until(lambda: nothing_is_left(cluster), "nothing is left")
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
