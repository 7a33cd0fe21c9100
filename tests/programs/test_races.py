"""Two CPUs: a program is stopped behind each access that others may see, others run whole, it goes on.

What must hold does not depend on the order: each is told its own destination, and its bytes go to its own other end.
All ask for one slot. What happens to one socket happens in turn, under its lock.
"""

import random
import socket
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from test_slots import (
    ADDRESSES,
    NETNS,
    OUT_PORT,
    SECOND,
    SLOTS,
    STATE_CB_FLAG,
    ZTUNNEL_NETNS,
    Connection,
    Machine,
    mapped,
    packed,
)

from programs.slots import ORPHANED, SPREAD
from pybpfasm import sim
from pybpfasm.isa.opcodes import Class
from pybpfasm.uapi import SockOpsOp, TcpState

_JMP_CALL = 0x85
_FRAME = 10


@attrs.frozen
class Race:
    """What happens `before`, what is `stopped`, and what happens `meanwhile`, each as "event:socket" or "pass:seconds".

    Socket `1` is a pod's, `2` is another pod's, `n` is the first pod's next one, of the same port. `untold` are those
    that may be told nothing: the question, or the accepted socket, comes when the client is gone already.
    """

    before: str
    stopped: str
    meanwhile: str
    untold: str = ""

    def __str__(self) -> str:
        return f"{self.before} | {self.stopped} | {self.meanwhile}"


STANDS = "call:1 syn:1 est:1 acc:1"
STANDS2 = "call:2 syn:2 est:2 acc:2"
STANDS_NEXT = "call:n syn:n est:n"
# Another has the slot: the first is kept elsewhere.
CROWDED = f"{STANDS2} {STANDS}"

RACES = (
    # A program takes so long that others could have its call's slot, were it not marked as taken.
    Race("", "call:2", "pass:9 call:1", untold="2"),
    Race("call:1", "syn:1", "pass:9 call:2", untold="1"),
    # An accepted socket without a destination asks while a later connection of its name is on its way.
    Race("call:1 syn:1 est:1 close:1 acc:1 call:n", "syn:n", "ask:1", untold="1"),
    Race("call:1 syn:1 est:1 close:1 acc:1", "ask:1", "call:n syn:n", untold="1"),
    Race(f"{STANDS} ask:1 close:1 {STANDS2} ask:2 close:2 gone:2 call:n", "syn:n", "ask:1", untold="1"),
    # ztunnel asks, and the client closes; its slot goes to others, or does not.
    Race(STANDS, "ask:1", "close:1"),
    Race(STANDS, "ask:1", "close:1 call:2 syn:2 est:2 acc:2 ask:2"),
    Race(STANDS, "ask:1", "close:1 call:n syn:n"),
    Race(f"{STANDS} wrong:1", "ask:1", "close:1 call:2 syn:2"),
    Race(f"{STANDS} close:1", "ask:1", "call:2 syn:2 est:2"),
    Race(f"{STANDS} close:1", "ask:1", STANDS_NEXT),
    Race(f"{STANDS} close:1", "ask:1", f"pass:70 {STANDS2} send:2", untold="1"),
    Race(f"{STANDS} ask:1 close:1", "ask:1", f"{STANDS2} send:2", untold="1"),
    Race(f"{STANDS} ask:1", "ask:1", f"close:1 {STANDS2}", untold="1"),
    Race(CROWDED, "ask:1", "close:1"),
    Race(CROWDED, "ask:1", "close:2 close:1 call:n syn:n"),
    # The client closes.
    Race(STANDS, "close:1", "ask:1"),
    Race(STANDS, "close:1", STANDS2),
    Race(STANDS, "close:1", f"ask:1 {STANDS2} send:2"),
    Race(STANDS, "close:1", "ask:1 back:1 gone:1"),
    Race("call:1 syn:1", "close:1", STANDS2),
    Race("call:1 syn:1 est:1", "close:1", "acc:1", untold="1"),
    Race("call:1 syn:1 est:1", "close:1", "acc:1 ask:1 call:2 syn:2", untold="1"),
    Race(CROWDED, "close:1", "ask:1 gone:1"),
    Race(f"{STANDS2} call:1 syn:1 est:1", "close:1", "acc:1", untold="1"),
    # ztunnel accepts, and the client closes, sends, or is followed by another.
    Race("call:1 syn:1 est:1", "acc:1", "close:1", untold="1"),
    Race("call:1 syn:1 est:1", "acc:1", "send:1"),
    Race("call:1 syn:1", "acc:1", "est:1 send:1"),
    Race("call:1 syn:1 est:1", "acc:1", "close:1 call:2 syn:2 est:2", untold="1"),
    Race("call:1 syn:1 est:1", "acc:1", "tcp:1 send:1"),
    Race(f"{STANDS} ask:1 close:1 {STANDS_NEXT} gone:1", "acc:n", "call:2 syn:2 est:2 acc:2"),
    Race(f"{STANDS} ask:1 close:1 {STANDS_NEXT} gone:1", "acc:n", "send:n close:n", untold="n"),
    Race(f"{STANDS2} call:1 syn:1 est:1", "acc:1", "close:2 send:1"),
    # A SYN takes the slot.
    Race("call:1", "syn:1", "call:2 syn:2 est:2 acc:2 ask:2"),
    Race("call:1", "syn:1", "call:2 syn:2 close:2"),
    Race("call:1 pass:5", "syn:1", "call:2 syn:2"),
    Race(f"{STANDS} close:1 call:2", "syn:2", "ask:1"),
    Race(f"{STANDS} ask:1 close:1 call:2", "syn:2", "ask:1 back:1", untold="1"),
    Race(f"{STANDS} ask:1 close:1 gone:1 call:2", "syn:2", STANDS_NEXT),
    Race(f"{STANDS} close:1 pass:70 call:2", "syn:2", "ask:1", untold="1"),
    Race(f"{STANDS} close:1 call:n", "syn:n", "ask:1"),
    Race(f"{STANDS2} call:1", "syn:1", "ask:2 close:2"),
    # connect().
    Race("", "call:1", "call:2 syn:2"),
    Race("call:2 pass:9", "call:1", "syn:2", untold="2"),
    # The client's side stands.
    Race("call:1 syn:1", "est:1", "acc:1 ask:1"),
    Race(f"{STANDS} ask:1 close:1 gone:1 call:2 syn:2", "est:2", "acc:2 back:2 ask:2"),
    # Messages.
    Race(f"{STANDS} ask:1", "send:1", "gone:1 call:2 syn:2"),
    Race(f"{STANDS} ask:1", "back:1", "close:1"),
    Race(f"{STANDS} ask:1", "back:1", f"close:1 {STANDS2} ask:2"),
    Race(f"{STANDS} ask:1", "back:1", f"close:1 {STANDS_NEXT}"),
    Race("call:1 syn:1 est:1", "send:1", "acc:1"),
    Race(f"{STANDS} ask:1", "peer:1", "gone:1 call:2 syn:2"),
)


def slot_number(caller: str, port: int) -> int:
    """Of a connection of IPv4."""
    word = int.from_bytes(packed(ADDRESSES[caller][0])[12:], "big")
    return ((word << 16 | port) * SPREAD & (1 << 64) - 1) >> 40 & (SLOTS - 1)


PORT = 40000
PORTS = {
    "1": PORT,
    "n": PORT,
    "2": next(p for p in range(40001, 40100) if slot_number("other", p) == slot_number("pod", PORT)),
}


class Steady(random.Random):
    """Chance that leaves nothing to chance."""

    def random(self) -> float:
        """Nothing that happens now and then."""
        return 1.0

    def getrandbits(self, _: int, /) -> int:
        """Always the first."""
        return 0


class TwoCpus(Machine):
    """A program can be stopped, and others run meanwhile."""

    def __init__(self, splice: str, untold: str) -> None:
        super().__init__(splice, 0)
        self.chance = Steady()
        self.untold = untold
        self.stop_behind: int | None = None
        self.meanwhile: Callable[[], None] = list
        self.stopped_at: sim.TraceEntry | None = None
        self.called = {name: self.made(caller) for name, caller in (("1", "pod"), ("2", "other"), ("n", "pod"))}
        self.tcp_since: set[tuple[str, bool]] = set()

    def made(self, caller: str) -> Connection:
        """A new socket of IPv4."""
        sock = sim.Sock(cookie=self.cookie(), netns_cookie=NETNS[caller], family=socket.AF_INET)
        return Connection(caller, socket.AF_INET, sock)

    def run(self, name: str, ctx: sim.Context) -> sim.Result:
        """Run a program, which is stopped once if that is wanted."""
        if self.stop_behind is None:
            return sim.run(self.programs[name], ctx, maps=self.maps, world=self.world)
        left, self.stop_behind = self.stop_behind, None

        def note(entry: sim.TraceEntry) -> None:
            nonlocal left
            left -= is_seen(entry)
            if left == 0 and self.stopped_at is None:
                self.stopped_at = entry
                self.meanwhile()

        return sim.run(self.programs[name], ctx, maps=self.maps, world=self.world, trace=note)

    # --- events -------------------------------------------------------------------------------------------------------

    def play(self, events: str) -> None:
        """Let things happen."""
        for event in events.split():
            what, _, name = event.partition(":")
            if what == "pass":
                self.world.advance(int(name) * SECOND)
            else:
                getattr(self, f"{what}_")(name, self.called[name])

    def call_(self, name: str, one: Connection) -> None:
        """connect()."""
        host, port = {"1": ("192.0.2.1", 111), "2": ("198.51.100.2", 222), "n": ("203.0.113.3", 333)}[name]
        one.dialled, one.called = (host, port), True
        assert self.run("connect4", sim.SockAddr(user_ip4=host, user_port=port, sk=one.client)).ret == 1

    def syn_(self, name: str, one: Connection) -> None:
        """The SYN leaves."""
        one.waits = True
        self.syn(one, PORTS[name])

    def est_(self, _: str, one: Connection) -> None:
        """The client's side stands."""
        one.waits, one.standing = False, True
        self.client_event(one, SockOpsOp.ACTIVE_ESTABLISHED_CB)

    def acc_(self, _: str, one: Connection) -> None:
        """ztunnel's side stands."""
        one.accepted = sim.Sock(
            cookie=self.cookie(), netns_cookie=ZTUNNEL_NETNS, family=one.family, src_ip6=mapped(one.ztunnel),
            src_port=OUT_PORT, dst_ip6=mapped(one.own), dst_port=one.port,
        )  # fmt: skip
        self.accept(one)

    def ask_(self, name: str, one: Connection) -> None:
        """A question: it has its own answer."""
        found = self.ask(one)
        assert found == one.dialled or (found is None and name in self.untold), f"{name} is told {found}"

    def wrong_(self, _: str, one: Connection) -> None:
        """A question about the other family has none."""
        asked = sim.Sockopt(level=socket.IPPROTO_IPV6, optname=80, optval=bytes(28), retval=-92, sk=one.accepted)
        self.run("getsockopt", asked)
        assert asked.retval == -92

    def peer_(self, name: str, one: Connection) -> None:
        """The client asks."""
        found = self.peer(one)
        assert found == one.dialled or (found == (one.ztunnel, OUT_PORT) and name in self.untold), (
            f"{name} sees {found}"
        )

    def send_(self, name: str, one: Connection) -> None:
        """The client sends."""
        if self.has_joined(one.client):
            before = one.accepted
            target = self.send(one, 10)
            self.went(name, target, before or one.accepted, back=False)

    def back_(self, name: str, one: Connection) -> None:
        """ztunnel sends."""
        if self.has_joined(one.accepted) and self.splice == "both":
            self.went(name, self.send(one, 10, back=True), one.client, back=True)

    def went(self, name: str, target: sim.Sock | None, other_end: sim.Sock | None, *, back: bool) -> None:
        """To its other end or by TCP, and once by TCP, always so."""
        is_right = target is None or (target is other_end and (name, back) not in self.tcp_since)
        assert is_right, f"{name}: {target and target.cookie}, {other_end and other_end.cookie}, {self.tcp_since}"
        if target is None:
            self.tcp_since.add((name, back))

    def tcp_(self, name: str, one: Connection) -> None:
        """The client's TCP takes bytes."""
        self.client_event(one, SockOpsOp.HDR_OPT_LEN_CB, 1)
        self.tcp_since.add((name, False))

    def close_(self, _: str, one: Connection) -> None:
        """The client closes, or the peer has reset it."""
        state = TcpState.FIN_WAIT2 if one.standing else TcpState.SYN_SENT
        if one.client.callback_flags & STATE_CB_FLAG:
            self.client_event(one, SockOpsOp.STATE_CB, state, TcpState.CLOSE)
        self.forget(one.client)
        one.is_open = False

    def gone_(self, _: str, one: Connection) -> None:
        """ztunnel closes its side."""
        self.close_accepted(one)

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """All that have begun stand, are asked about, send, and close; nothing is left."""
        for name, one in self.called.items():
            if one.accepted is not None and not one.asked:
                self.ask_(name, one)
        for name, one in self.called.items():
            if one.called and one.port == 0 and not any(each.is_open for each in self.of_name(one)):
                self.syn_(name, one)
        for name, one in self.called.items():
            if one.is_open and (one.waits or (one.standing and one.accepted is None and not one.asked)):
                self.stand_late(name, one)
        for name, one in self.called.items():
            if one.is_open and one.standing and one.accepted is not None:
                for event in (self.send_, self.back_, self.send_, self.back_, self.peer_):
                    event(name, one)
        for one in self.called.values():
            if one.is_open:
                self.close_client(one)
            self.close_accepted(one)
        self.check_nothing_is_left()

    def of_name(self, one: Connection) -> list[Connection]:
        """The connections that have had, or have, the same addresses and ports."""
        return [each for each in self.called.values() if each is not one and each.port and each.caller == one.caller]

    def stand_late(self, name: str, one: Connection) -> None:
        """The earlier connection of its name is over by then."""
        for other in self.of_name(one):
            self.close_accepted(other)
        if one.waits:
            self.est_(name, one)
        self.acc_(name, one)
        self.ask_(name, one)

    def check_nothing_is_left(self) -> None:
        """All sockets are closed."""
        assert [hex(owner) for owner in self.owners() if owner and not owner & ORPHANED] == []
        assert len(self.maps["original_dst"]) == len(self.maps["sockets"]) == 0
        assert not any(any(self.maps["shares"].lookup(netns) or b"") for netns in NETNS.values())


def is_seen(entry: sim.TraceEntry) -> bool:
    """Whether an instruction may access what others do: it calls a helper, or accesses more than its own stack."""
    instruction: Any = entry.instruction
    if instruction is None:
        return False
    kind = instruction.opcode & 7
    base = {Class.LDX: instruction.src, Class.ST: instruction.dst, Class.STX: instruction.dst}.get(kind, _FRAME)
    return base != _FRAME or instruction.opcode == _JMP_CALL


def stopped(race: Race, splice: str, behind: int) -> sim.TraceEntry | None:
    """Play a race, and check what comes of it; where the program was stopped, None if it has ended before that."""
    cpus = TwoCpus(splice, race.untold)
    cpus.play(race.before)
    cpus.stop_behind, cpus.meanwhile = behind, lambda: cpus.play(race.meanwhile)
    cpus.play(race.stopped)
    if cpus.stopped_at is None:
        return None
    try:
        cpus.finish()
    except AssertionError as error:
        raise AssertionError(f"stopped behind {cpus.stopped_at}: {error}") from error
    return cpus.stopped_at


CASES = [
    (splice, race)
    for race in RACES
    for splice in ("to-ztunnel", "both")
    if "back" not in race.stopped or splice == "both"
]


@pytest.mark.parametrize(("splice", "race"), CASES, ids=str)
def test_what_must_hold_does_whatever_the_order(splice: str, race: Race) -> None:
    """Wherever the program is stopped."""
    behind = 1
    while stopped(race, splice, behind) is not None:
        behind += 1
    assert behind > 5
