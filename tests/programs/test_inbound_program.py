"""The programs at devices in the interpreter: each of thousands of packets is decided as a model in a few lines has it.

The scenes take every jump of every program both ways.
"""

import ipaddress
import itertools
import random
import struct
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from merbridge.datapath.addresses import as_address
from merbridge.datapath.collection import DatapathSettings, collection
from programs.inbound import MOST_HEADERS, ROUTE_MARK, SENT_MARK
from programs.maps import EXEMPT, IN_MESH, IS_HOST, IS_ZTUNNEL, KEEP_GATEWAY, MAY_CALL, Place, PodInfo
from pybpfasm import htonl, sim
from pybpfasm.sim.helpers.registry import HELPERS
from pybpfasm.uapi import Helper

NEXT, DROP, REDIRECT = -1, 2, 7
SYN, ACK, FIN = 0x02, 0x10, 0x01
EXEMPT_CGROUP = 77
CURRENT = (1 << 32) - 1

# Who is who: addresses by family, the flags of their entries, the index of their devices.
ADDRESSES = {
    4: {
        "pod": "10.0.0.5",
        "left": "10.0.0.6",
        "caller": "10.0.0.7",
        "ztunnel": "10.0.0.9",
        "before": "10.0.0.8",
        "host": "10.0.0.1",
    },
    6: {
        "pod": "fd00::5",
        "left": "fd00::6",
        "caller": "fd00::7",
        "ztunnel": "fd00::9",
        "before": "fd00::8",
        "host": "fd00::1",
    },
}
OTHER = {4: "192.0.2.7", 6: "2001:db8::7"}
FLAGS = {
    "pod": IN_MESH | MAY_CALL,
    "left": KEEP_GATEWAY,
    "caller": MAY_CALL,
    "ztunnel": IS_ZTUNNEL,
    "before": IS_ZTUNNEL,
    "host": IS_HOST,
}
DEVICES = {"pod": 15, "left": 16, "ztunnel": 19, "before": 18, "host": 0, "caller": 0}
MACS = {name: bytes([2, 0, 0, 0, 0, number]) for name, number in DEVICES.items()}
GATEWAY = b"\x02gatew"

SPECS = collection(DatapathSettings(max_pods=8, max_connections=8))
OPEN_ONES = collection(DatapathSettings(max_pods=8, max_connections=8, fail_open=True))


@attrs.frozen
class Scene:
    """A packet, and what is there when it comes: `open` names the namespaces that have a socket for it.

    `device` is whose device it is at.
    """

    family: int = 4
    source: str = "other"
    destination: str = "pod"
    shape: str = "segment"
    flags: int = ACK
    port: int = 80
    open: frozenset[str] = frozenset()
    listening: bool = False
    known: frozenset[str] = frozenset({"ztunnel", "before"})
    exempt: str = "no"
    mark: int = 0
    counted: bool = True
    assign: int = 0
    store: int = 0
    device: str = "pod"

    def address(self, who: str) -> str:
        """Somebody's address."""
        return ADDRESSES[self.family].get(who, OTHER[self.family])


# What is behind the first VLAN tag, of which the kernel has taken note, when there is a second.
TAGGED = {"VLAN": b"\x81\x00", "provider's VLAN": b"\x88\xa8"}

SHAPES = {
    4: (
        "segment",
        "options",
        "later fragment",
        "cut",
        "other",
        "short",
        "unreachable",
        "echo",
        "about UDP",
        "cut error",
        "cut message",
        "no IP",
        *TAGGED,
    ),
    6: (
        *("segment", "hop by hop", "destination options", "routing", "first fragment", "later fragment", "two headers"),
        *(
            "five headers",
            "cut header",
            "later fragment of UDP",
            "cut",
            "other",
            "another",
            "short",
            "unreachable",
            "too big",
            "echo",
        ),
        *("about UDP", "cut error", "headers and error", "cut message"),
    ),
}
TCP, UDP, ICMP, ICMP6, SCTP = 6, 17, 1, 58, 132
NO_TCP = {
    *TAGGED,
    "another",
    "cut message",
    "no IP",
    "other",
    "short",
    "echo",
    "about UDP",
    "cut error",
    "later fragment of UDP",
    "headers and error",
}
# The ends of chains that are later fragments, and what these are of.
LATER_OF = {"l": TCP, "d": 60, "h": 0, "r": 43, "x": UDP, "y": ICMP}
LATER, CUT, ERRORS = {"later fragment"}, {"cut", "cut header", "five headers"}, {"unreachable", "too big"}


def packet(scene: Scene) -> bytes:
    """The bytes, from Ethernet's header on."""
    if scene.shape == "no IP":
        return bytes(12) + b"\x08\x06" + bytes(40)
    if scene.shape in TAGGED:
        return bytes(12) + TAGGED[scene.shape] + b"\0\0\x08\0" + ip4(scene)
    ether = bytes(12) + (b"\x08\x00" if scene.family == 4 else b"\x86\xdd")
    return ether + (ip4(scene) if scene.family == 4 else ip6(scene))


def tcp(source: int, destination: int, flags: int) -> bytes:
    """A TCP header."""
    return struct.pack("!HHIIBBHHH", source, destination, 1, 2, 5 << 4, flags, 100, 0, 0)


def header4(source: str, destination: str, protocol: int, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IPv4 header."""
    words = 0x45 + len(options) // 4
    fixed = struct.pack("!BBHHHBBH", words, 0, 40, 0, fragment, 64, protocol, 0)
    return fixed + ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed + options


def header6(source: str, destination: str, following: int) -> bytes:
    """An IPv6 header."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return struct.pack("!IHBB", 6 << 28, 40, following, 64) + addresses


def ip4(scene: Scene) -> bytes:
    """From IPv4's header on."""
    source, destination = scene.address(scene.source), scene.address(scene.destination)
    segment = tcp(4000, scene.port, scene.flags)
    if scene.shape == "short":
        return header4(source, destination, TCP)[:16]
    if scene.shape == "options":
        return header4(source, destination, TCP, b"\x01" * 8) + segment
    if scene.shape == "later fragment":
        return header4(source, destination, TCP, fragment=5) + segment
    if scene.shape == "cut":
        return header4(source, destination, TCP, fragment=0x2000) + segment[:8]
    if scene.shape == "other":
        return header4(source, destination, UDP) + segment
    if scene.shape == "cut message":
        return header4(source, destination, ICMP) + bytes([3, 4, 0, 0])
    if scene.shape in ("unreachable", "echo", "about UDP", "cut error"):
        kind = 8 if scene.shape == "echo" else 3
        # What came back went from the pod to the other: the error is told by a router.
        inner = header4(destination, scene.address("other"), UDP if scene.shape == "about UDP" else TCP, b"\x01" * 4)
        message = struct.pack("!BBHI", kind, 4, 0, 0) + inner + tcp(scene.port, 4000, 0)[:8]
        return header4(source, destination, ICMP) + (message[: 34 if scene.shape == "cut error" else None])
    return header4(source, destination, TCP) + segment


NO_CHAIN = ("", "")


def chain_of(shape: str) -> tuple[str, str]:
    """The headers of IPv6 by their letters, and the end, of a shape such as `DRF t`, or `- l` for no header."""
    headers, _, end = shape.partition(" ")
    return (headers.strip("-"), end) if set(headers) <= set("HRFD-") and len(end) == 1 else NO_CHAIN


def chained(scene: Scene) -> bytes:
    """An IPv6 packet of a shape such as `DRF t`: headers by their letters, and what is behind the last."""
    headers, end = chain_of(scene.shape)
    numbers = {"H": 0, "R": 43, "F": 44, "D": 60}
    last = {"t": TCP, "k": TCP, "u": UDP, "c": 60, "i": ICMP6, "s": SCTP}.get(end, 44)
    following = [*(numbers[each] for each in headers), last]
    data = header6(scene.address(scene.source), scene.address(scene.destination), following[0])
    for number, after in itertools.pairwise(following):
        data += struct.pack("!BBHI", after, 0, 1 if number == 44 else 0, 0)
    segment = tcp(4000, scene.port, scene.flags)
    later = {end: struct.pack("!BBHI", after, 0, 65, 9) for end, after in LATER_OF.items()}
    ends = {"t": segment, "k": segment[:9], "u": bytes(8), "c": b"\x06", **later}
    return data + ends.get(end, bytes([128, *bytes(60)]))


def ip6(scene: Scene) -> bytes:
    """From IPv6's header on."""
    if chain_of(scene.shape) != NO_CHAIN:
        return chained(scene)
    source, destination = scene.address(scene.source), scene.address(scene.destination)
    segment = tcp(4000, scene.port, scene.flags)
    extension = {"hop by hop": 0, "destination options": 60, "routing": 43}
    if scene.shape == "short":
        return header6(source, destination, TCP)[:30]
    if scene.shape in extension:
        return header6(source, destination, extension[scene.shape]) + bytes([TCP, 1, *bytes(14)]) + segment
    if scene.shape in ("first fragment", "later fragment", "later fragment of UDP"):
        following = UDP if scene.shape.endswith("UDP") else TCP
        offset = 1 if scene.shape == "first fragment" else 64 | 1
        return header6(source, destination, 44) + struct.pack("!BBHI", following, 0, offset, 9) + segment
    if scene.shape == "two headers":
        return header6(source, destination, 0) + bytes([60, 0, *bytes(6), TCP, 0, *bytes(6)]) + segment
    if scene.shape == "five headers":
        return header6(source, destination, 60) + bytes([60, 0, *bytes(6)]) * 4 + bytes([TCP, 0, *bytes(6)]) + segment
    if scene.shape == "cut header":
        return header6(source, destination, 60) + b"\x06\x00"
    if scene.shape == "cut":
        return header6(source, destination, TCP) + segment[:8]
    if scene.shape == "other":
        return header6(source, destination, UDP) + segment
    if scene.shape == "another":
        return header6(source, destination, SCTP) + segment
    if scene.shape == "cut message":
        return header6(source, destination, ICMP6) + bytes([1, 0, 0, 0])
    if scene.shape in ("unreachable", "too big", "echo", "about UDP", "cut error", "headers and error"):
        kind = {"echo": 128, "too big": 2}.get(scene.shape, 1)
        inner = header6(destination, scene.address("other"), UDP if scene.shape == "about UDP" else TCP)
        message = struct.pack("!BBHI", kind, 0, 0, 0) + inner + tcp(scene.port, 4000, 0)[:8]
        if scene.shape == "headers and error":
            return header6(source, destination, 60) + bytes([ICMP6, 0, *bytes(6)]) + message[:20]
        return header6(source, destination, ICMP6) + (message[: 50 if scene.shape == "cut error" else None])
    return header6(source, destination, TCP) + segment


def kind(scene: Scene) -> str:
    """What the packet shows."""
    headers, end = chain_of(scene.shape)
    if end:
        if len(headers) + (end in "c" or end in LATER_OF) > MOST_HEADERS:
            return "cut"
        if LATER_OF.get(end, UDP) not in (UDP, ICMP):
            return "later"
        return {"t": "segment", "k": "cut", "c": "cut"}.get(end, "other")
    if scene.shape in NO_TCP:
        return "other"
    for name, shapes in (("later", LATER), ("cut", CUT), ("error", ERRORS)):
        if scene.shape in shapes:
            return name
    return "segment"


def has_no_addresses(scene: Scene) -> bool:
    """Whether none are read: it is not IP, or cut within IP's header."""
    return scene.shape in ("no IP", "short", *TAGGED)


def read_source(scene: Scene) -> str:
    """Whose the packet's source is taken to be: an error about a segment is from him to whom that was."""
    return "other" if kind(scene) == "error" else scene.source


def is_open(scene: Scene, where: str) -> bool:
    """Whether a namespace has the connection's socket."""
    return where in scene.open and not scene.listening


def to_ztunnel(scene: Scene) -> tuple[Any, ...]:
    """To the one that serves, if there is one."""
    return ("to", "ztunnel") if "ztunnel" in scene.known else ("drop",)


def as_new(scene: Scene) -> tuple[Any, ...]:
    """What is not known to belong to a connection."""
    return to_ztunnel(scene) if scene.destination == "pod" else ("next",)


def model_to_pod(scene: Scene) -> tuple[Any, ...]:
    """What should become of a packet at a pod's device, on its way to the pod."""
    if scene.mark == SENT_MARK:
        return ("next",)
    if scene.shape in TAGGED:
        return ("drop",)
    if kind(scene) == "other" or scene.destination not in ("pod", "left"):
        return ("next",)
    if kind(scene) in ("later", "cut"):
        return as_new(scene)
    if kind(scene) == "segment" and scene.flags & (SYN | ACK) == SYN:
        return ("next",) if scene.exempt == "yes" else as_new(scene)
    for which in ("ztunnel", "before"):
        if which in scene.known and is_open(scene, which):
            return ("to", which)
    if kind(scene) == "error" or is_open(scene, scene.destination):
        return ("next",)
    return as_new(scene)


def model_from_pod(scene: Scene) -> tuple[Any, ...]:
    """At a pod's device, on its way from the pod."""
    if scene.mark == SENT_MARK or has_no_addresses(scene) or read_source(scene) != scene.device:
        return ("next",)
    if scene.destination in ("ztunnel", "before"):
        return ("to", scene.destination)
    if kind(scene) != "segment":
        return ("next",)
    for which in ("ztunnel", "before"):
        if which in scene.known and is_open(scene, which):
            return ("to", which)
    return ("next",)


def model_from_ztunnel(scene: Scene) -> tuple[Any, ...]:
    """At ztunnel's device on the host, on its way from ztunnel."""
    by_itself = not has_no_addresses(scene) and read_source(scene) in ("ztunnel", "before")
    if kind(scene) in ("other", "error") and not by_itself:
        return ("next",)
    if scene.destination in ("pod", "left"):
        return ("to", scene.destination)
    return ("as if from", scene.source) if scene.source in ("pod", "left") else ("next",)


def model_to_ztunnel(scene: Scene) -> tuple[Any, ...]:
    """At ztunnel's device on the host, on its way to ztunnel."""
    if scene.shape in TAGGED:
        return ("drop",)
    if kind(scene) not in ("segment", "cut") or scene.destination not in ("ztunnel", "before"):
        return ("next",)
    if kind(scene) == "cut":
        return ("drop",)
    own = scene.port in (15001, 15006) and scene.flags & (SYN | ACK) == SYN
    return ("drop",) if own and scene.source not in ("pod", "caller", "host") else ("next",)


def model_at_ztunnel(scene: Scene) -> tuple[Any, ...]:
    """At ztunnel's own device."""
    if kind(scene) == "other" or scene.destination in ("ztunnel", "before"):
        return ("next",)
    for_pod = scene.destination in ("pod", "left")
    if not for_pod and (kind(scene) == "error" or scene.source not in ("pod", "left")):
        return ("next",)
    if kind(scene) != "segment" or not for_pod or is_open(scene, "here"):
        return ("route",)
    return ("route, to listener",) if scene.listening and scene.assign == 0 else ("drop",)


MODELS = {
    "to_pod": model_to_pod,
    "from_pod": model_from_pod,
    "from_ztunnel": model_from_ztunnel,
    "to_ztunnel": model_to_ztunnel,
    "at_ztunnel": model_at_ztunnel,
}


def place(who: str) -> bytes:
    """An entry of `places`."""
    return bytes(
        Place(
            netns_cookie=1,
            flags=FLAGS[who],
            ifindex=DEVICES[who],
            netns_id=DEVICES[who],
            mac=MACS[who],
            gateway=GATEWAY,
        )
    )


def sockets_of(scene: Scene) -> dict[int, list[sim.Sock]]:
    """Each namespace's sockets for the packet's connection, or one that listens at any port of interest."""
    source, destination = scene.address(scene.source), scene.address(scene.destination)
    if kind(scene) == "error":
        source = scene.address("other")
    ends = (
        {"src_ip4": destination, "dst_ip4": source}
        if scene.family == 4
        else {"src_ip6": destination, "dst_ip6": source}
    )
    connected = sim.Sock(src_port=scene.port, dst_port=4000, state=1, **ends)
    listeners = [sim.Sock(src_port=port, state=10) for port in {scene.port, 15006, 15008}]
    found: dict[int, list[sim.Sock]] = {}
    for who, number in (*DEVICES.items(), ("here", CURRENT)):
        here = [connected] if who in scene.open and not scene.listening else []
        found[number] = [*here, *(listeners if scene.listening else [])]
    return found


def run(name: str, scene: Scene, specs: Any = SPECS) -> tuple[tuple[Any, ...], sim.Result]:
    """What a program makes of a packet, in the model's words."""
    maps = sim.create_maps(specs.maps)
    for who in ADDRESSES[scene.family]:
        maps["places"].update(bytes(as_address(ipaddress.ip_address(scene.address(who)))), place(who))
    for number, who in enumerate(("ztunnel", "before")):
        if who in scene.known:
            maps["ztunnels"].update(number, place(who))
    none = as_address(None)
    maps["cgroup_info_map"].update(EXEMPT_CGROUP, bytes(PodInfo(flags=EXEMPT, ip4=htonl(0), ip6=none)))
    maps["cgroup_info_map"].update(EXEMPT_CGROUP + 1, bytes(PodInfo(flags=0, ip4=htonl(0), ip6=none)))
    sockets, look_up, load = sockets_of(scene), HELPERS[Helper.SKC_LOOKUP_TCP], HELPERS[Helper.MAP_LOOKUP_ELEM]
    store = HELPERS[Helper.SKB_STORE_BYTES]
    group = {"yes": EXEMPT_CGROUP, "no": 0, "another": EXEMPT_CGROUP + 1}[scene.exempt]
    assigned: list[int] = []

    def by_netns(machine: Any, context: int, peers: int, size: int, netns: int, flags: int) -> int:
        machine.world.sockets = sockets.get(netns & CURRENT, [])
        return look_up(machine, context, peers, size, netns, flags) or 0

    def assign(machine: Any, context: int, sock: int, flags: int) -> int:
        del machine, context, sock, flags
        assigned.append(scene.assign)
        return scene.assign

    helpers: dict[Any, Any] = {
        Helper.SKC_LOOKUP_TCP: by_netns,
        Helper.SK_ASSIGN: assign,
        Helper.SKB_CGROUP_ID: lambda *_: group,
    }
    if not scene.counted:
        helpers[Helper.MAP_LOOKUP_ELEM] = lambda machine, map_, key: (
            0 if map_.name == "counters" else load(machine, map_, key)
        )
    stores = itertools.count(1)
    if scene.store:
        helpers[Helper.SKB_STORE_BYTES] = lambda *arguments: -14 if next(stores) == scene.store else store(*arguments)
    context = sim.SkBuff(packet=packet(scene), mark=scene.mark, ifindex=DEVICES[scene.device])
    result = sim.run(specs.programs[name], context, maps=maps, world=sim.World(), helpers=helpers)
    return said(result, context, assigned), result


def said(result: sim.Result, context: sim.SkBuff, assigned: list[int]) -> tuple[Any, ...]:
    """A result in the model's words; what was written is checked."""
    packet = bytes(context.packet)
    if result.ret32 == REDIRECT:
        (redirect,) = result.redirects
        who = next(name for name, number in DEVICES.items() if number == redirect.target)
        if redirect.flags:
            assert packet[6:12] == MACS[who]
            assert packet[:6] == (bytes(6) if FLAGS[who] & KEEP_GATEWAY else GATEWAY)
            return ("as if from", who)
        assert packet[:6] == MACS[who]
        return ("to", who)
    if result.ret32 == DROP:
        return ("drop",)
    assert result.ret32 == NEXT
    assert packet[:12] == bytes(12)
    if context.mark == ROUTE_MARK:
        return ("route, to listener",) if assigned == [0] else ("route",)
    return ("next",)


def chain(chance: random.Random) -> str:
    """Some headers of IPv6, and an end."""
    headers = "".join(chance.choice("HRFD") for _ in range(chance.randrange(1, 6)))
    return f"{headers} {chance.choice('tttkulldhrxcis')}"


def scenes() -> Iterator[Scene]:
    """Each pair of who and who with each shape, and thousands of others, the same each time."""
    everybody = (*DEVICES, "other")
    for family, shapes in SHAPES.items():
        for source, destination, shape in itertools.product(everybody, everybody, shapes):
            yield Scene(family, source, destination, shape)
            yield Scene(family, source, destination, shape, flags=SYN, known=frozenset())
    for headers, end in itertools.product(("-", "D", "DD", "DDD", "DDDD"), ("tkucis", *LATER_OF)):
        yield from (Scene(6, shape=f"{headers} {each}") for each in end)
    chance = random.Random(7)  # noqa: S311 - the same scenes each time are wanted
    for _ in range(6000):
        family = chance.choice((4, 6))
        yield Scene(
            family,
            chance.choice(everybody),
            chance.choice((*everybody, "pod", "pod")),
            chain(chance)
            if family == 6 and chance.random() < 0.4
            else chance.choice((*SHAPES[family], *["segment"] * 8)),
            flags=chance.choice((SYN, ACK, SYN | ACK, FIN | ACK, 0)),
            port=chance.choice((80, 15001, 15006, 15008)),
            open=frozenset(chance.sample(("ztunnel", "before", "pod", "left", "here"), chance.randrange(3))),
            listening=chance.random() < 0.2,
            known=frozenset(chance.sample(("ztunnel", "before"), chance.randrange(3))),
            exempt=chance.choice(("no", "no", "yes", "another")),
            mark=chance.choice((0, 0, SENT_MARK, 5)),
            counted=chance.random() < 0.8,
            assign=chance.choice((0, 0, -3)),
            device=chance.choice(("pod", "pod", "left")),
        )


def unwritable(name: str) -> Iterator[Scene]:
    """Scenes in which the Ethernet header cannot be written; then nothing is sent."""
    for scene in scenes():
        verdict = MODELS[name](scene)
        if verdict[0] in ("to", "as if from"):
            yield attrs.evolve(scene, store=1)
            if verdict == ("as if from", "pod"):
                yield attrs.evolve(scene, store=2)


@pytest.mark.parametrize("name", MODELS)
def test_each_packet_goes_where_it_should(name: str) -> None:
    """And all jumps are taken both ways, but where the packet cannot be written."""
    covered: sim.Coverage | None = None
    for scene in scenes():
        got, result = run(name, scene)
        assert got == MODELS[name](scene), scene
        covered = result.coverage if covered is None else covered | result.coverage
    for scene in unwritable(name):
        got, result = run(name, scene)
        assert got == ("drop",), scene
        assert covered is not None
        covered |= result.coverage
    assert covered is not None
    assert list(covered.missing()) == []


def test_fail_open_lets_new_connections_in() -> None:
    """Without a ztunnel, and with --fail-open yes, a pod is reached itself."""
    scene = Scene(flags=SYN, known=frozenset())
    assert run("to_pod", scene)[0] == ("drop",)
    assert run("to_pod", scene, OPEN_ONES)[0] == ("next",)
