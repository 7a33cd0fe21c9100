"""The mesh's programs in the interpreter: one connection from connect() to SO_ORIGINAL_DST, and what is refused.

An example of how programs are unit-tested: one world and one set of maps, a run for each thing that happens.
"""

import socket
import struct
from collections.abc import Iterator

import pytest

from merbridge.datapath.collection import DatapathSettings, collection
from programs.maps import IN_MESH, ZTUNNEL, Count
from pybpfasm import sim
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import SockOpsOp, TcpState

APP, ZTUNNEL_ADDRESS, SERVICE = "10.0.0.5", "10.0.0.9", "10.96.0.10"
APP6, ZTUNNEL_ADDRESS6, SERVICE6 = "fd00::5", "fd00::9", "2001:db8::1"
APP_NETNS, ZTUNNEL_NETNS = 77, 99
SOL_IP, SOL_IPV6, SO_ORIGINAL_DST = 0, 41, 80
REFUSE, PASS = 0, 1


def mapped(address: str) -> str:
    """An IPv4 address as AF_INET6 sockets have it, and `sockops` those of both families; IPv6 as it is."""
    return address if ":" in address else f"::ffff:{address}"


def both(ip4: str, ip6: str) -> bytes:
    """Addresses of both families, as the maps have them."""
    return socket.inet_aton(ip4) + socket.inet_pton(socket.AF_INET6, ip6)


@pytest.fixture(scope="module", name="programs")
def _programs() -> CollectionSpec:
    return collection(DatapathSettings())


class Node:
    """A node's maps and world, with one enrolled pod and its ztunnel, and the sockets of one connection."""

    def __init__(self, programs: CollectionSpec) -> None:
        self.programs = programs.programs
        self.maps = sim.create_maps(programs)
        self.world = sim.World(cgroup_id=4711)
        self.app = sim.Sock(cookie=1001, netns_cookie=APP_NETNS)
        self.accepted = sim.Sock(cookie=2002, netns_cookie=ZTUNNEL_NETNS, src_port=15001, dst_port=40000)

    def enroll(self) -> None:
        """Make the app's namespace one of the mesh."""
        self.maps["netns_info_map"].update(APP_NETNS, struct.pack("<I", IN_MESH) + both(APP, APP6))

    def know_ztunnel(self, ip6: str = ZTUNNEL_ADDRESS6) -> None:
        """Tell where ztunnel is."""
        addresses = both(ZTUNNEL_ADDRESS, ip6)
        self.maps["settings"].update(ZTUNNEL, struct.pack("<Q", ZTUNNEL_NETNS) + addresses + bytes(4))

    def run(self, name: str, ctx: sim.Context) -> sim.Result:
        """Run one of the programs."""
        return sim.run(self.programs[name], ctx, maps=self.maps, world=self.world)

    def connect(self) -> tuple[int, sim.SockAddr]:
        """The app connects to a service."""
        ctx = sim.SockAddr(user_ip4=SERVICE, user_port=80, sk=self.app)
        return self.run("connect4", ctx).ret, ctx

    def connect6(self, to: str = SERVICE6) -> tuple[int, sim.SockAddr]:
        """The app connects by an AF_INET6 socket."""
        ctx = sim.SockAddr(user_ip6=to, user_port=80, sk=self.app)
        return self.run("connect6", ctx).ret, ctx

    def client_event(self, op: SockOpsOp, *args: int, app: str = APP, ztunnel: str = ZTUNNEL_ADDRESS) -> sim.Result:
        """Something happens to the app's socket."""
        return self.run("sockops", sim.SockOps(
            op=op, args=[*args, 0, 0][:4], local_ip6=mapped(app), local_port=40000, remote_ip6=mapped(ztunnel),
            remote_port=15001, sk=self.app,
        ))  # fmt: skip

    def accepting_event(self, op: SockOpsOp, app: str = APP, ztunnel: str = ZTUNNEL_ADDRESS) -> sim.Result:
        """Something happens to ztunnel's socket."""
        self.accepted.src_ip6, self.accepted.dst_ip6 = mapped(ztunnel), mapped(app)
        return self.run("sockops", sim.SockOps(
            op=op, local_ip6=mapped(ztunnel), local_port=15001, remote_ip6=mapped(app), remote_port=40000,
            sk=self.accepted,
        ))  # fmt: skip

    def sends(self, data: bytes = b"GET /") -> sim.Result:
        """The app sends."""
        return self.run("redirect", sim.SkMsg(
            data=data, local_ip6=mapped(APP), local_port=40000, remote_ip6=mapped(ZTUNNEL_ADDRESS), remote_port=15001,
            sk=self.app,
        ))  # fmt: skip

    def owners(self) -> list[int]:
        """Who has slots: cookies, and marks above them."""
        slots = (value for _, value in self.maps["connections"].items())
        return [owner for owner in (int.from_bytes(value[:8], "little") for value in slots) if owner]

    def count(self, what: Count) -> int:
        """How often something was counted."""
        return int.from_bytes(self.maps["counters"].lookup(what) or b"", "little")


@pytest.fixture(name="node")
def _node(programs: CollectionSpec) -> Iterator[Node]:
    node = Node(programs)
    node.enroll()
    node.know_ztunnel()
    return node


def test_an_enrolled_pods_connection_goes_to_ztunnel(node: Node) -> None:
    """connect4 rewrites the destination, keeps the original in the call's slot, and counts."""
    verdict, ctx = node.connect()
    assert (verdict, ctx.user_ip4, ctx.user_port) == (PASS, ZTUNNEL_ADDRESS, 15001)
    slot = node.maps["pending"].lookup(node.app.cookie % 1024)
    assert slot is not None
    assert int.from_bytes(slot[:6], "little") == node.app.cookie
    assert slot[8:26] == socket.inet_pton(socket.AF_INET6, mapped(SERVICE)) + (80).to_bytes(2, "big")
    assert node.count(Count.REDIRECTED) == 1


def test_without_a_ztunnel_it_is_refused(programs: CollectionSpec) -> None:
    """An enrolled pod whose ztunnel is unknown is refused, nothing is rewritten."""
    node = Node(programs)
    node.enroll()
    verdict, ctx = node.connect()
    assert (verdict, ctx.user_ip4, ctx.user_port) == (REFUSE, SERVICE, 80)
    assert node.count(Count.REFUSED_NO_ZTUNNEL) == 1


def test_others_are_left_alone(programs: CollectionSpec) -> None:
    """A namespace and a cgroup that nobody knows, UDP, and a pod's own address pass unchanged."""
    node = Node(programs)
    node.know_ztunnel()
    assert node.connect()[1].user_ip4 == SERVICE
    node.enroll()
    for ctx in (
        sim.SockAddr(user_ip4=SERVICE, user_port=53, protocol=socket.IPPROTO_UDP, sk=node.app),
        sim.SockAddr(user_ip4="127.0.0.1", user_port=80, sk=node.app),
        sim.SockAddr(user_ip4=APP, user_port=80, sk=node.app),
    ):
        before = ctx.user_ip4
        assert node.run("connect4", ctx).ret == PASS
        assert ctx.user_ip4 == before


def test_the_cgroup_is_asked_where_the_namespace_is_not_known(programs: CollectionSpec) -> None:
    """A pod that is known by its cgroup only is redirected too."""
    node = Node(programs)
    node.know_ztunnel()
    node.maps["cgroup_info_map"].update(4711, struct.pack("<I", IN_MESH) + both(APP, APP6))
    assert node.connect()[1].user_ip4 == ZTUNNEL_ADDRESS


def test_a_connection_stays_in_its_family(node: Node) -> None:
    """connect6 sends IPv6 to ztunnel's IPv6 address, and ::ffff:a.b.c.d where connect4 does; ::1 stays in the pod."""
    verdict, ctx = node.connect6()
    assert (verdict, ctx.user_ip6, ctx.user_port) == (PASS, ZTUNNEL_ADDRESS6, 15001)
    verdict, ctx = node.connect6(mapped(SERVICE))
    assert (verdict, ctx.user_ip6, ctx.user_port) == (PASS, mapped(ZTUNNEL_ADDRESS), 15001)
    verdict, ctx = node.connect6("::1")
    assert (verdict, ctx.user_ip6, ctx.user_port) == (PASS, "::1", 80)


def test_ipv6_is_refused_where_ztunnel_has_none(node: Node) -> None:
    """It does not leave in the clear, and it is counted."""
    node.know_ztunnel("::")
    assert node.connect6()[0] == REFUSE
    assert node.count(Count.REFUSED_NO_ADDRESS) == 1


def test_ztunnel_learns_the_original_destination_of_ipv6(node: Node) -> None:
    """By IP6T_SO_ORIGINAL_DST; SO_ORIGINAL_DST of IPv4 says nothing of it."""
    node.connect6()
    node.client_event(SockOpsOp.TCP_CONNECT_CB, app=APP6, ztunnel=ZTUNNEL_ADDRESS6)
    node.accepting_event(SockOpsOp.PASSIVE_ESTABLISHED_CB, app=APP6, ztunnel=ZTUNNEL_ADDRESS6)
    asked = sim.Sockopt(level=SOL_IPV6, optname=SO_ORIGINAL_DST, optval=bytes(28), retval=-92, sk=node.accepted)
    node.run("getsockopt", asked)
    address = socket.inet_pton(socket.AF_INET6, SERVICE6)
    assert asked.optval == struct.pack("<H", socket.AF_INET6) + struct.pack(">HI", 80, 0) + address + bytes(4)
    assert (asked.retval, asked.optlen) == (0, 28)
    by_ip4 = sim.Sockopt(level=SOL_IP, optname=SO_ORIGINAL_DST, optval=bytes(28), retval=-92, sk=node.accepted)
    node.run("getsockopt", by_ip4)
    assert (by_ip4.retval, by_ip4.optval) == (-92, bytes(28))


def test_ztunnel_learns_the_original_destination(node: Node) -> None:
    """From connect to SO_ORIGINAL_DST: connect4, sockops of both sides, getsockopt, by the same maps."""
    node.connect()
    node.client_event(SockOpsOp.TCP_CONNECT_CB)
    node.accepting_event(SockOpsOp.PASSIVE_ESTABLISHED_CB)
    assert (node.owners(), len(node.maps["original_dst"])) == ([node.app.cookie], 0)
    asked = sim.Sockopt(level=SOL_IP, optname=SO_ORIGINAL_DST, optval=bytes(16), retval=-92, sk=node.accepted)
    assert node.run("getsockopt", asked).ret == 1
    assert asked.optval == struct.pack("<H", socket.AF_INET) + (80).to_bytes(2, "big") + socket.inet_aton(
        SERVICE
    ) + bytes(8)
    assert (asked.retval, asked.optlen) == (0, 16)


def test_other_options_are_left_alone(node: Node) -> None:
    """getsockopt answers nothing for a socket that is not of a redirected connection."""
    asked = sim.Sockopt(level=SOL_IP, optname=SO_ORIGINAL_DST, optval=bytes(16), retval=-92, sk=sim.Sock())
    node.run("getsockopt", asked)
    assert (asked.retval, asked.optval) == (-92, bytes(16))


def established(node: Node) -> None:
    """Both sides of a connection stand."""
    node.connect()
    node.client_event(SockOpsOp.TCP_CONNECT_CB)
    node.client_event(SockOpsOp.ACTIVE_ESTABLISHED_CB)
    node.accepting_event(SockOpsOp.PASSIVE_ESTABLISHED_CB)


def test_bytes_are_redirected_to_the_other_socket(node: Node) -> None:
    """What the app sends goes straight into ztunnel's socket."""
    established(node)
    sent = node.sends()
    assert [redirect.target for redirect in sent.redirects] == [node.accepted]
    assert sent.redirects[0].flags == 1


def test_a_direction_that_tcp_has_is_not_redirected(node: Node) -> None:
    """Once TCP was given a byte of this direction, later ones follow it."""
    established(node)
    write_current_mss = 1
    node.client_event(SockOpsOp.HDR_OPT_LEN_CB, write_current_mss)
    assert node.sends().redirects == []


def test_a_closed_client_leaves_nothing(node: Node) -> None:
    """A connection that never stood is forgotten when the client closes."""
    node.connect()
    node.client_event(SockOpsOp.TCP_CONNECT_CB)
    assert node.owners() == [node.app.cookie]
    node.client_event(SockOpsOp.STATE_CB, TcpState.SYN_SENT, TcpState.CLOSE)
    assert (node.owners(), len(node.maps["original_dst"])) == ([], 0)


def test_coverage_of_connect4_names_python_lines(node: Node) -> None:
    """Runs are merged, and what is missing is named by the line of the program's source."""
    first = sim.run(node.programs["connect4"], sim.SockAddr(user_ip4=SERVICE, sk=node.app), maps=node.maps)
    second = sim.run(node.programs["connect4"], sim.SockAddr(protocol=17, sk=node.app), maps=node.maps)
    joined = first.coverage | second.coverage
    assert len(joined.missing()) < len(second.coverage.missing())
    assert any(line.endswith("connect.py") for line, _ in joined.covered_lines)
    assert "if ztunnel.ip4 == ANY:" in {missing.line.text.strip() for missing in joined.missing() if missing.line}
