"""Connections in the interpreter, in few slots: whatever happens to their sockets, each is told its own destination.

Random sequences of what sockets do are compared with what is known of them.
"""

import random
import socket
import struct
from typing import Any

import attrs
import pytest

from merbridge.datapath.collection import DatapathSettings, collection
from programs.maps import IN_MESH, IS_HOST, ZTUNNEL, Count
from programs.slots import ORPHANED
from pybpfasm import sim
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import SockOpsOp, TcpState

SLOTS = 4
SO_ORIGINAL_DST = 80
WRITE_CURRENT_MSS = 1
OUT_PORT = 15001
ZTUNNEL_NETNS = 99
ADDRESSES = {"pod": ("10.0.0.5", "fd00::5"), "other": ("10.0.0.6", "fd00::6"), "host": ("10.0.0.1", "fd00::1")}
NETNS = {"pod": 77, "other": 78, "host": 1}
ZTUNNEL_ADDRESSES = ("10.0.0.9", "fd00::9")
# Few ports, so that connections follow each other under one name, and meet in one slot.
PORTS = (40000, 40001, 40002, 40007, 40011)
SECOND = 1_000_000_000
STATE_CB_FLAG, WRITE_HDR_OPT_CB_FLAG = 1 << 2, 1 << 6


def compiled(splice: str) -> CollectionSpec:
    """The programs of a node with few slots."""
    return collection(DatapathSettings(splice=splice, max_connections=SLOTS, capture_dns=False))


PROGRAMS = {splice: compiled(splice) for splice in ("off", "to-ztunnel", "both")}


def mapped(address: str) -> str:
    """As sockets of both families have it."""
    return address if ":" in address else f"::ffff:{address}"


def packed(address: str) -> bytes:
    """As the maps have it."""
    return socket.inet_pton(socket.AF_INET6, mapped(address))


@attrs.define(eq=False)
class Connection:
    """A client's socket, and the accepted one once there is one. `dialled` is what getsockopt and getpeername tell."""

    caller: str
    family: int
    client: sim.Sock
    dialled: tuple[str, int] = ("", 0)
    port: int = 0
    accepted: sim.Sock | None = None
    called: bool = False
    standing: bool = False
    by_tcp: bool = False
    called_at: int = 0
    may_be_lost: bool = False
    is_lost: bool = False
    waits: bool = False
    asked: bool = False
    is_open: bool = True
    closed_at: int = 0

    @property
    def own(self) -> str:
        """The client's address."""
        return ADDRESSES[self.caller][self.family == socket.AF_INET6]

    @property
    def ztunnel(self) -> str:
        """Ztunnel's, of the same family."""
        return ZTUNNEL_ADDRESSES[self.family == socket.AF_INET6]


class Machine:
    """The programs, their maps, and sockets to which things happen."""

    def __init__(self, splice: str, seed: int) -> None:
        self.splice = splice
        self.programs = PROGRAMS[splice].programs
        self.maps = sim.create_maps(PROGRAMS[splice])
        self.world = sim.World(cgroup_id=4711)
        self.chance = random.Random(seed)  # noqa: S311 - the same story each time is wanted
        self.sockets_made = 0
        for name, flags in (("pod", IN_MESH), ("other", IN_MESH), ("host", IS_HOST)):
            self.know(NETNS[name], flags, *ADDRESSES[name])
        self.maps["settings"].update(ZTUNNEL, struct.pack("<Q", ZTUNNEL_NETNS) + both(*ZTUNNEL_ADDRESSES) + bytes(4))
        for address in ADDRESSES["pod"]:
            self.maps["mesh_pods"].update(packed(address), struct.pack("<I", IN_MESH))

    def know(self, netns: int, flags: int, ip4: str, ip6: str) -> None:
        """Have a namespace known."""
        self.maps["netns_info_map"].update(netns, struct.pack("<I", flags) + both(ip4, ip6))

    def run(self, name: str, ctx: sim.Context) -> sim.Result:
        """Run a program."""
        return sim.run(self.programs[name], ctx, maps=self.maps, world=self.world)

    def count(self, what: Count) -> int:
        """How often something was counted."""
        return int.from_bytes(self.maps["counters"].lookup(what) or b"", "little")

    def cookie(self) -> int:
        """Of a new socket: they ask for few slots among those of calls, too."""
        self.sockets_made += 1
        return self.sockets_made * 1024 + self.chance.randrange(3)

    # --- what sockets do ----------------------------------------------------------------------------------------------

    def socket(self, caller: str) -> Connection:
        """A new one."""
        family = self.chance.choice((socket.AF_INET, socket.AF_INET6))
        sock = sim.Sock(cookie=self.cookie(), netns_cookie=NETNS[caller], family=family)
        return Connection(caller, family, sock)

    def connect(self, one: Connection) -> None:
        """connect(): to anywhere from a pod, to the pod from the host."""
        port = self.chance.randrange(1, 60000)
        to = ADDRESSES["pod"] if one.caller == "host" else ("192.0.2.1", "2001:db8::1")
        host = to[one.family == socket.AF_INET6]
        ctx: Any
        if one.family == socket.AF_INET:
            ctx = sim.SockAddr(user_ip4=host, user_port=port, sk=one.client)
            assert self.run("connect4", ctx).ret == 1
            assert ctx.user_ip4 == one.ztunnel
        else:
            ctx = sim.SockAddr(user_ip6=host, user_port=port, sk=one.client)
            assert self.run("connect6", ctx).ret == 1
            assert ctx.user_ip6 == one.ztunnel
        one.dialled, one.called, one.called_at = (host, port), True, self.world.clock_ns
        assert ctx.user_port == port_of(one)

    def syn(self, one: Connection, port: int) -> None:
        """TCP_CONNECT_CB, with this source port."""
        one.port = port
        one.client.src_port, one.client.src_ip6 = port, mapped(one.own)
        self.client_event(one, SockOpsOp.TCP_CONNECT_CB)
        one.called = False

    def client_event(self, one: Connection, op: SockOpsOp, *args: int, **more: Any) -> None:
        """Something happens to the client's socket."""
        self.run("sockops", sim.SockOps(
            op=op, args=[*args, 0, 0, 0, 0][:4], local_ip6=mapped(one.own), local_port=one.port,
            remote_ip6=mapped(one.ztunnel), remote_port=port_of(one), sk=one.client, **more,
        ))  # fmt: skip

    def accepting_event(self, one: Connection, op: SockOpsOp, *args: int) -> None:
        """Something happens to the accepted one."""
        self.run("sockops", sim.SockOps(
            op=op, args=[*args, 0, 0, 0, 0][:4], local_ip6=mapped(one.ztunnel), local_port=port_of(one),
            remote_ip6=mapped(one.own), remote_port=one.port, sk=one.accepted,
        ))  # fmt: skip

    def stand(self, one: Connection) -> None:
        """The handshake is over on both sides."""
        self.client_event(one, SockOpsOp.ACTIVE_ESTABLISHED_CB, data_segs_out=self.chance.randrange(2))
        one.accepted = sim.Sock(
            cookie=self.cookie(), netns_cookie=ZTUNNEL_NETNS, family=one.family, src_ip6=mapped(one.ztunnel),
            src_port=port_of(one), dst_ip6=mapped(one.own), dst_port=one.port,
        )  # fmt: skip
        one.standing = True

    def accept(self, one: Connection) -> None:
        """The accepting side stands."""
        self.accepting_event(one, SockOpsOp.PASSIVE_ESTABLISHED_CB)

    def ask(self, one: Connection) -> tuple[str, int] | None:
        """SO_ORIGINAL_DST on the accepted socket, now and then behind a question that has no answer."""
        six = one.family == socket.AF_INET6
        if self.chance.random() < 0.2:
            for level, room in ((0 if six else 41, 28), (41 if six else 0, 15)):
                in_vain = sim.Sockopt(level=level, optname=80, optval=bytes(room), retval=-92, sk=one.accepted)
                self.run("getsockopt", in_vain)
                assert in_vain.retval == -92
        level = socket.IPPROTO_IPV6 if six else socket.SOL_IP
        room = bytes(28 if six else 16)
        asked = sim.Sockopt(level=level, optname=SO_ORIGINAL_DST, optval=room, retval=-92, sk=one.accepted)
        self.run("getsockopt", asked)
        one.asked = True
        if asked.retval:
            return None
        _, port = struct.unpack_from(">HH", asked.optval)
        return socket.inet_ntop(one.family, asked.optval[8:24] if six else asked.optval[4:8]), port

    def peer(self, one: Connection) -> tuple[str, int]:
        """getpeername on the client's socket."""
        six = one.family == socket.AF_INET6
        ctx: Any
        if six:
            ctx = sim.SockAddr(user_ip6=one.ztunnel, user_port=OUT_PORT, sk=one.client)
            self.run("getpeername6", ctx)
            return ctx.user_ip6, ctx.user_port
        ctx = sim.SockAddr(user_ip4=one.ztunnel, user_port=OUT_PORT, sk=one.client)
        self.run("getpeername4", ctx)
        return ctx.user_ip4, ctx.user_port

    def send(self, one: Connection, size: int, *, back: bool = False) -> sim.Sock | None:
        """A message of the client's, or back to it: the socket that it goes to past TCP, or None."""
        ends = {"local_ip6": mapped(one.own), "local_port": one.port}
        ends |= {"remote_ip6": mapped(one.ztunnel), "remote_port": port_of(one)}
        if back:
            ends = {"local_ip6": ends["remote_ip6"], "local_port": ends["remote_port"],
                    "remote_ip6": ends["local_ip6"], "remote_port": ends["local_port"]}  # fmt: skip
        ctx = sim.SkMsg(data=bytes(size), sk=one.accepted if back else one.client, **ends)
        redirects = self.run("redirect", ctx).redirects
        return redirects[0].target if redirects else None

    def close_client(self, one: Connection) -> None:
        """It closes, or gives up; TCP tells where it was asked to."""
        if one.client.callback_flags & STATE_CB_FLAG:
            state = TcpState.FIN_WAIT2 if one.standing else TcpState.SYN_SENT
            self.client_event(one, SockOpsOp.STATE_CB, state, TcpState.FIN_WAIT1)
            self.client_event(one, SockOpsOp.STATE_CB, state, TcpState.CLOSE)
        self.forget(one.client)
        one.is_open, one.closed_at = False, self.world.clock_ns

    def close_accepted(self, one: Connection) -> None:
        """Ztunnel closes its side."""
        if one.accepted is not None and one.accepted.callback_flags & STATE_CB_FLAG:
            self.accepting_event(one, SockOpsOp.STATE_CB, TcpState.LAST_ACK, TcpState.CLOSE)
        self.forget(one.accepted)
        one.accepted = None

    def forget(self, sock: sim.Sock | None) -> None:
        """The kernel takes a closed socket out of the map."""
        for key in list(self.maps["sockets"].keys()):
            if self.maps["sockets"].get(key) is sock:
                self.maps["sockets"].delete(key)

    def owners(self) -> list[int]:
        """Of the slots."""
        return [int.from_bytes((self.maps["connections"].lookup(each) or b"")[:8], "little") for each in range(SLOTS)]

    def has_joined(self, sock: sim.Sock | None) -> bool:
        """Whether the kernel runs `redirect` for what it sends."""
        return any(each is sock for each in self.maps["sockets"].objects().values())


def both(ip4: str, ip6: str) -> bytes:
    """Addresses of both families."""
    return socket.inet_aton(ip4) + socket.inet_pton(socket.AF_INET6, ip6)


def port_of(one: Connection) -> int:
    """Ztunnel's port that the connection goes to."""
    if one.caller != "host":
        return OUT_PORT
    return 15008 if one.dialled[1] == 15008 else 15006


class Story(Machine):
    """Random things happen, and what comes of them is compared with what is known."""

    def __init__(self, splice: str, seed: int) -> None:
        super().__init__(splice, seed)
        self.connections: list[Connection] = []

    def step(self) -> None:
        """One thing."""
        if len(self.connections) < 12 and self.chance.random() < 0.4:
            self.connections.append(self.socket(self.chance.choice(tuple(NETNS))))
        if not self.connections:
            return
        one = self.chance.choice(self.connections)
        if not one.standing:
            self.begin(one)
        else:
            self.go_on(one)
        if self.chance.random() < 0.1:
            self.world.advance(self.chance.randrange(5 * SECOND))
        self.connections = [each for each in self.connections if each.is_open or each.accepted is not None]

    def begin(self, one: Connection) -> None:
        """A socket that is not connected calls, sends its SYN, or gives up."""
        if not one.called:
            self.connect(one)
            if self.chance.random() < 0.1:  # no route: the SYN is never sent
                one.called = False
            return
        if one.waits:
            self.stand_or_give_up(one)
            return
        port = self.chance.choice(PORTS)
        if any(each.is_open and self.is_name(each, one, port) for each in self.connections if each is not one):
            return
        full = self.count(Count.ORIGINAL_DST_FULL) + self.count(Count.SHARE_USED_UP)
        self.syn(one, port)
        one.may_be_lost = self.world.clock_ns - one.called_at > 4 * SECOND
        one.is_lost = self.count(Count.ORIGINAL_DST_FULL) + self.count(Count.SHARE_USED_UP) > full
        one.called, one.waits = True, True

    def stand_or_give_up(self, one: Connection) -> None:
        """The SYN is answered, once the accepted socket of an earlier connection of that name is gone; or it is not."""
        if self.chance.random() < 0.2:
            self.close_client(one)
            one.called = one.waits = False
            one.is_open = self.chance.random() < 0.5  # and calls again
            if not one.is_open:
                self.connections.remove(one)
        elif not any(self.is_name(each, one, one.port) for each in self.connections if each is not one):
            one.called = one.waits = False
            self.stand(one)
            self.accept(one)
            assert self.ask_later(one)

    @staticmethod
    def is_name(each: Connection, one: Connection, port: int) -> bool:
        """Whether a connection that is still there has the port."""
        return (each.caller, each.family, each.port) == (one.caller, one.family, port)

    def ask_later(self, one: Connection) -> bool:
        """What may have no destination is told at once that it has none, and closed."""
        if not one.is_lost and not one.may_be_lost:
            return True
        found = self.ask(one)
        if found is None:
            self.end(one)
            return True
        return found == one.dialled and not one.is_lost

    def end(self, one: Connection) -> None:
        """Both sides close."""
        if one.is_open:
            self.close_client(one)
        self.close_accepted(one)

    def go_on(self, one: Connection) -> None:
        """Something happens to a connection that stands."""
        what = self.chance.choice(("ask", "peer", "send", "send", "answer", "by tcp", "close", "accepted closes"))
        if what == "ask" and one.accepted is not None:
            self.ask_again(one)
        elif what == "peer" and one.is_open:
            assert self.peer(one) == one.dialled
        elif what == "send" and one.is_open and self.has_joined(one.client):
            self.sent(one, self.send(one, self.chance.choice((1, 100, 1 << 21))))
        elif what == "answer" and self.has_joined(one.accepted):
            target = self.send(one, 100, back=True)
            assert target in ((None, one.client) if one.is_open and self.splice == "both" else (None,))
        elif what == "by tcp":
            self.by_tcp(one)
        elif what == "close" and one.is_open:
            self.close_client(one)
        elif what == "accepted closes":
            self.close_accepted(one)

    def ask_again(self, one: Connection) -> None:
        """The answer is there as long as the client is, and for the first question a minute longer.

        Who asks once more after that may be told nothing, but never another's.
        """
        is_late = not one.is_open and (one.asked or self.world.clock_ns - one.closed_at > 60 * SECOND)
        found = self.ask(one)
        if found != one.dialled:
            assert (is_late, found) == (True, None)

    def sent(self, one: Connection, target: sim.Sock | None) -> None:
        """To its own other end or by TCP, and once by TCP, always so."""
        assert target is None or (target is one.accepted and not one.by_tcp)
        one.by_tcp = one.by_tcp or target is None

    def by_tcp(self, one: Connection) -> None:
        """TCP takes bytes, or asks for another reason."""
        if one.is_open and one.client.callback_flags & WRITE_HDR_OPT_CB_FLAG:
            self.client_event(one, SockOpsOp.HDR_OPT_LEN_CB, self.chance.choice((0, WRITE_CURRENT_MSS)))
            one.by_tcp = one.by_tcp or not one.client.callback_flags & WRITE_HDR_OPT_CB_FLAG
        if one.accepted is not None and one.accepted.callback_flags & WRITE_HDR_OPT_CB_FLAG:
            self.accepting_event(one, SockOpsOp.HDR_OPT_LEN_CB, WRITE_CURRENT_MSS)

    def finish(self) -> None:
        """All close."""
        for one in list(self.connections):
            self.end(one)


@pytest.mark.parametrize("splice", PROGRAMS)
@pytest.mark.parametrize("seed", range(6))
def test_each_connection_is_told_its_own_destination(splice: str, seed: int) -> None:
    """Whatever happens, and nothing is left when all are closed."""
    story = Story(splice, seed)
    for _ in range(1500):
        story.step()
    assert story.count(Count.CROWDED) > 20
    assert (story.count(Count.SPLICED) > 5) == (splice != "off")
    story.finish()
    assert [owner for owner in story.owners() if owner and not owner & ORPHANED] == []
    assert len(story.maps["original_dst"]) == len(story.maps["sockets"]) == 0
    shares = [story.maps["shares"].lookup(netns) or b"" for netns in NETNS.values()]
    assert not any(map(any, shares))
