"""The mesh's DNS programs in the interpreter: which server an answer seems to come from, whatever happens before it."""

import random
import socket
import struct
from collections import deque

import pytest
from test_mesh_programs import (
    APP,
    APP6,
    APP_NETNS,
    PASS,
    REFUSE,
    ZTUNNEL_ADDRESS,
    ZTUNNEL_ADDRESS6,
    Node,
    both,
    mapped,
)

from merbridge.datapath.collection import DatapathSettings, collection
from programs.maps import DNS, IN_MESH, QUESTIONS, Count
from pybpfasm import sim
from pybpfasm.spec import CollectionSpec

SERVERS, SERVERS6 = [f"10.96.0.{n}" for n in range(1, 5)], [f"2001:db8::{n}" for n in range(1, 5)]
UNCONNECTED, CONNECTED = 7, 1  # TCP_CLOSE, TCP_ESTABLISHED
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module", name="programs")
def _programs() -> CollectionSpec:
    return collection(DatapathSettings())


class Asking(Node):
    """A node whose pod asks for it, and a UDP socket of the pod."""

    def __init__(self, programs: CollectionSpec, flags: int = IN_MESH | DNS) -> None:
        super().__init__(programs)
        self.maps["netns_info_map"].update(APP_NETNS, struct.pack("<I", flags) + both(APP, APP6))
        self.app.state = UNCONNECTED

    def call(self, hook: str, address: str, port: int) -> tuple[int, tuple[str, int]]:
        """One of the hooks with this address; what it returns, and the address behind it."""
        ip4, ip6 = ("0.0.0.0", address) if ":" in address else (address, "::")
        ctx = sim.SockAddr(user_ip4=ip4, user_ip6=ip6, user_port=port, protocol=socket.IPPROTO_UDP, sk=self.app)
        result = self.run(hook + ("6" if ":" in address else "4"), ctx)
        return result.ret, (ctx.user_ip6 if ":" in address else ctx.user_ip4, ctx.user_port)

    def ask(self, server: str) -> None:
        """Send a question, which goes to ztunnel."""
        assert self.call("sendmsg", server, 53) == (PASS, (ztunnel(server), 15053))

    def answerer(self, of: str) -> str:
        """Who ztunnel's answer seems to come from."""
        verdict, (address, port) = self.call("recvmsg", of, 15053)
        assert (verdict, port) == (PASS, 53)
        return address


def ztunnel(server: str) -> str:
    """ztunnel's address of a server's family, in the same form."""
    if ":" not in server:
        return ZTUNNEL_ADDRESS
    return mapped(ZTUNNEL_ADDRESS) if server.startswith("::ffff:") else ZTUNNEL_ADDRESS6


@pytest.fixture(name="node")
def _node(programs: CollectionSpec) -> Asking:
    node = Asking(programs)
    node.know_ztunnel()
    return node


class Ring:
    """What the programs do, in a few lines of Python: the questions of one family that wait for answers."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque(maxlen=QUESTIONS)
        self.last, self.at = "", 0

    def ask(self, server: str, now: int) -> None:
        """A question."""
        if now - self.at > SECOND_NS:
            self.waiting.clear()
        self.waiting.append(server)
        self.last, self.at = server, now

    def answerer(self) -> str:
        """Who an answer is from."""
        return self.waiting.popleft() if self.waiting else self.last


@pytest.mark.parametrize("seed", range(20))
def test_answers_by_any_sequence(node: Asking, seed: int) -> None:
    """300 questions, answers and pauses by both families on one AF_INET6 socket: each answer is whose it should be."""
    source = random.Random(seed)  # noqa: S311 - the same sequences each time are wanted
    rings = {ZTUNNEL_ADDRESS6: Ring(), mapped(ZTUNNEL_ADDRESS): Ring()}
    for _ in range(300):
        event = source.choices(("ask", "answer", "pause"), (10, source.choice((8, 12)), 1))[0]
        if event == "pause":
            node.world.advance(source.choice((SECOND_NS // 2, SECOND_NS * 2)))
        elif event == "ask":
            server = source.choice(SERVERS + SERVERS6)
            node.ask(server)  # a v4-mapped one by sendmsg4, as the kernel has it
            rings[ztunnel(mapped(server))].ask(mapped(server), node.world.clock_ns)
        else:
            of, ring = source.choice([*rings.items()])
            if ring.last:
                assert node.answerer(of) == ring.answerer()
    assert node.count(Count.DNS_REDIRECTED) > 100


def test_counting_goes_on_past_32_bits(node: Asking) -> None:
    """A socket that asks for years."""
    node.ask(SERVERS[0])
    state = bytearray(node.maps["dns_state"].value_of(node.app))
    at = 16 * QUESTIONS
    state[at : at + 16] = struct.pack("<QQ", (1 << 32) - 1, (1 << 32) - 1)
    node.maps["dns_state"].set_value(node.app, bytes(state))
    for server in SERVERS:
        node.ask(server)
    assert [node.answerer(ZTUNNEL_ADDRESS) for _ in SERVERS] == SERVERS


@pytest.mark.parametrize("server", [SERVERS[0], SERVERS6[0], mapped(SERVERS[0])])
def test_a_connected_socket_hears_its_peer(node: Asking, server: str) -> None:
    """Whatever else it has asked; getpeername says the same, of any other peer what the kernel says."""
    node.ask(SERVERS[1] if "." in server else SERVERS6[1])
    assert node.call("connect", server, 53) == (PASS, (ztunnel(server), 15053))
    node.app.state = CONNECTED
    assert node.answerer(ztunnel(server)) == server
    assert node.call("getpeername", ztunnel(server), 15053) == (1, (server, 53))
    assert node.call("getpeername", server, 9999) == (1, (server, 9999))
    node.call("connect", ztunnel(server), 15053)  # by its own choice, now
    for hook in ("recvmsg", "getpeername"):
        assert node.call(hook, ztunnel(server), 15053) == (1, (ztunnel(server), 15053))


@pytest.mark.parametrize("hook", ["sendmsg", "connect"])
@pytest.mark.parametrize(
    ("flags", "address", "port"),
    [
        (IN_MESH | DNS, SERVERS[0], 5353),
        (IN_MESH | DNS, "127.0.0.53", 53),
        (IN_MESH | DNS, "0.0.0.0", 53),
        (IN_MESH | DNS, APP, 53),
        (IN_MESH | DNS, "::1", 53),
        (IN_MESH | DNS, "::", 53),
        (IN_MESH | DNS, APP6, 53),
        (IN_MESH, SERVERS[0], 53),
        (IN_MESH, SERVERS6[0], 53),
        (0, SERVERS[0], 53),
    ],
)
def test_what_is_left_alone(programs: CollectionSpec, hook: str, flags: int, address: str, port: int) -> None:
    """Other ports, what stays in the pod, pods that do not ask for it: unchanged, and nothing is kept."""
    node = Asking(programs, flags)
    node.know_ztunnel()
    assert node.call(hook, address, port) == (PASS, (address, port))
    assert not [*node.maps["dns_state"].owners()]


@pytest.mark.parametrize("address", [ZTUNNEL_ADDRESS, ZTUNNEL_ADDRESS6, mapped(ZTUNNEL_ADDRESS)])
def test_other_datagrams_are_left_alone(node: Asking, address: str) -> None:
    """Those to a socket that has asked nothing; those of others, and of ztunnel's other ports, to one that has."""
    assert node.call("recvmsg", address, 15053)[1] == (address, 15053)
    for server in (SERVERS[0], SERVERS6[0]):
        node.ask(server)
    for source in ((address, 15008), (SERVERS6[0] if ":" in address else SERVERS[0], 15053)):
        assert node.call("recvmsg", *source)[1] == source


@pytest.mark.parametrize("hook", ["sendmsg", "connect"])
@pytest.mark.parametrize("server", [SERVERS[0], SERVERS6[0]])
def test_refused(programs: CollectionSpec, hook: str, server: str) -> None:
    """Without a ztunnel, and without an address of its of the family: unchanged, and counted."""
    node = Asking(programs)
    assert node.call(hook, server, 53) == (REFUSE, (server, 53))
    assert node.count(Count.REFUSED_NO_ZTUNNEL) == 1
    node.know_ztunnel(ip6="::")
    assert node.call(hook, SERVERS6[0], 53) == (REFUSE, (SERVERS6[0], 53))
    assert node.count(Count.REFUSED_NO_ADDRESS) == 1
    assert node.call(hook, SERVERS[0], 53)[0] == PASS
