"""What a program may find: the inputs on which ours and the twins are compared, and those of the hot paths.

A scene is a choice for each thing that a program looks at ("to": "127.0.0.1", "ztunnel": "known"); from it a context,
maps and what helpers answer are made anew for each run. All that can be chosen is in one table a program; its first
choices are the usual case.
"""

import random
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from programs.maps import DNS, EXEMPT, IN_MESH, IS_HOST, IS_ZTUNNEL, ZTUNNEL
from pybpfasm import sim
from pybpfasm.sim.helpers.registry import HELPERS
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import Helper

Scene = Mapping[str, Any]
Choices = Mapping[str, tuple[Any, ...]]

APP, ZTUNNEL_IP, SERVICE, OTHER_POD = "10.0.0.5", "10.0.0.9", "10.96.0.10", "10.0.0.6"
APP6, ZTUNNEL_IP6, SERVICE6, OTHER_POD6 = "fd00::5", "fd00::9", "fd00:96::10", "fd00::6"
APP_NETNS, ZTUNNEL_NETNS, CGROUP = 77, 99, 4711
OUT_PORT, IN_PORT, HBONE_PORT, DNS_PORT, CLIENT_PORT = 15001, 15006, 15008, 15053, 40000
COOKIE = 1001
MEMORY_LIMIT, MESSAGE_OVERHEAD = 4 << 20, 1024
U32, U64 = (1 << 32) - 1, (1 << 64) - 1


@attrs.frozen
class Setting:
    """All that a run needs. `sockets` has the sockets by what they are called here."""

    context: sim.Context
    maps: dict[str, sim.Map]
    world: sim.World
    helpers: dict[Helper | int | str, Callable[..., int | None]]
    sockets: dict[str, sim.Sock]


def scenes(choices: Choices, count: int, seed: int = 0, also: tuple[Scene, ...] = ()) -> list[Scene]:
    """The usual case; it with each other choice, and with each two of them; and `count` random ones.

    `also` are other usual cases, by what differs.
    """
    first = {name: options[0] for name, options in choices.items()}
    around = [scene for change in ({}, *also) for scene in _around(first | dict(change), choices)]
    return [*around, *_random(choices, count, seed)]


def _around(usual: dict[str, Any], choices: Choices) -> list[Scene]:
    changes = [(name, option) for name, options in choices.items() for option in options[1:]]
    found: list[Scene] = [usual]
    found += [usual | {name: option} for name, option in changes]
    found += [
        usual | dict(two)
        for index, first in enumerate(changes)
        for two in ((first, second) for second in changes[index + 1 :])
        if two[0][0] != two[1][0]
    ]
    return found


def _random(choices: Choices, count: int, seed: int) -> Iterator[Scene]:
    source = random.Random(seed)  # noqa: S311 - the same scenes each time are wanted
    for _ in range(count):
        yield {name: source.choice(options) for name, options in choices.items()}


# --- maps and helpers -------------------------------------------------------------------------------------------------


def address(text: str) -> bytes:
    """An IPv4 address as it lies in memory."""
    return socket.inet_aton(text)


def address6(text: str) -> bytes:
    """An address of either family as an `Address`."""
    return socket.inet_pton(socket.AF_INET6, text if ":" in text else f"::ffff:{text}")


def state_bytes(
    *,
    original: tuple[str, int] = (SERVICE, 80),
    family: int = 2,
    client: int = COOKIE,
    generation: int = 1,
    redirected: int = 0,
    pod: str = APP,
    ztunnel: str = ZTUNNEL_IP,
    port: int = OUT_PORT,
    side: int = 0,
    by_tcp: int = 0,
    enrolled: int = IN_MESH,
) -> bytes:
    """A `SocketState` of a connection to ztunnel."""
    return (
        address6(original[0])
        + struct.pack(">H", original[1])
        + struct.pack("<H4x", family)
        + struct.pack("<QI4xQQ", client, generation, redirected, ZTUNNEL_NETNS)
        + address6(ztunnel)
        + struct.pack(">Hxx", port)
        + address6(pod)
        + struct.pack("<III", side, by_tcp, enrolled)
    )


SERVERS, SERVERS6 = [f"10.96.0.{number}" for number in range(8)], [f"fd00:96::{number}" for number in range(8)]
NOW = 5_000_000_000


def dns_bytes(
    *,
    connected: tuple[str, int] = (SERVICE, 53),
    ztunnel: tuple[str, str] = (ZTUNNEL_IP, ZTUNNEL_IP6),
    first: int = 3,
    waiting: int = 2,
    age: int = 0,
) -> bytes:
    """A `DnsState` of a socket that is connected to a server, and has asked some by either family."""
    server = address6(connected[0]) + struct.pack(">HH4x", connected[1], 0)
    return (
        b"".join(
            b"".join(map(address6, asked)) + struct.pack("<QQQ", first, first + waiting, NOW - age) + address6(at)
            for asked, at in zip((SERVERS, SERVERS6), ztunnel, strict=True)
        )
        + server
    )


def _maps(collection: CollectionSpec, scene: Scene) -> dict[str, sim.Map]:
    """Empty maps; those that are to be full have room for one entry."""
    full = {
        "original_dst": scene.get("original_dst") == "full",
        "sockets": scene.get("sockets") == "full",
        "shares": scene.get("share") == "no room",
    }
    specs = {name: spec.resized(1) if full.get(name) else spec for name, spec in collection.maps.items()}
    maps = sim.create_maps(specs)
    for index in range(maps["counters"].max_entries):
        maps["counters"].update(index, 1000 * index)
    return maps


def _failing(scene: Scene) -> dict[Helper | int | str, Callable[..., int | None]]:
    """Helpers that fail in this scene: what never happens to `counters`, and happens to storage without memory."""
    helpers: dict[Helper | int | str, Callable[..., int | None]] = {}
    if scene.get("counters") == "missing":
        real = HELPERS[Helper.MAP_LOOKUP_ELEM]
        helpers[Helper.MAP_LOOKUP_ELEM] = lambda machine, map_, key: (
            0 if map_.name == "counters" else real(machine, map_, key)
        )
    if scene.get("deleting") == "fails":
        helpers[Helper.MAP_DELETE_ELEM] = lambda *_: -2
    if scene.get("storage") == "fails":
        helpers[Helper.SK_STORAGE_GET] = lambda *_: 0
    return helpers


# --- connect4, connect6 -----------------------------------------------------------------------------------------------

_FLAGS = {
    "in mesh": IN_MESH,
    "outside": 0,
    "ztunnel": IS_ZTUNNEL,
    "both": IN_MESH | IS_ZTUNNEL,
    "dns": IN_MESH | DNS,
    "host": IS_HOST,
    "exempt": EXEMPT,
    "others": U32 - 1 - IS_HOST,
}

_CONNECTING: dict[str, tuple[Any, ...]] = {
    "protocol": (6, 17, 0, 132),
    "netns": ("in mesh", "unknown", "outside", "ztunnel", "both", "others", "host", "dns"),
    "cgroup": ("unknown", "in mesh", "outside", "both", "exempt", "host"),
    "port": (80, OUT_PORT, 0, 65535, HBONE_PORT, 53, DNS_PORT),
    "ztunnel": ((ZTUNNEL_IP, ZTUNNEL_IP6), None, ("0.0.0.0", ZTUNNEL_IP6), (ZTUNNEL_IP, "::"), (APP, APP6)),  # noqa: S104 - an address that is not set
    "storage": ("new", "there", "fails"),
    "counters": ("there", "missing"),
}
_IP4 = (
    SERVICE,
    "127.0.0.1",
    "127.255.3.4",
    "126.0.0.127",
    "128.0.0.1",
    "0.0.0.0",  # noqa: S104
    APP,
    ZTUNNEL_IP,
    "0.0.0.127",
    OTHER_POD,
)

CONNECT4: Choices = {"to": _IP4, **_CONNECTING}
CONNECT6: Choices = {
    "to": (
        *(f"::ffff:{to}" for to in _IP4),
        *("::1", "::", "::2", "::1:0:0", "::1:0:0:0", "1::", "1::1", "0:1::1", "::fffe:a60:a", "1::ffff:a60:a"),
        *("0:0:0:1::ffff:a60:a", "::100:0", "::ff:ffff:a60:a", SERVICE6, APP6, ZTUNNEL_IP6, OTHER_POD6),
        *(f"fd00::{word}:0:{last}" for word, last in (("1", "5"), ("1", "9"))),
        *("fd01::5", "fd01::9", "fd00:0:1::5", "fd00:0:1::9", "fd00::1:5"),
    ),
    **_CONNECTING,
}


def _connecting(collection: CollectionSpec, scene: Scene, ip4: str, ip6: str) -> Setting:
    maps = _maps(collection, scene)
    for name, key, kind in (
        ("netns_info_map", APP_NETNS, scene["netns"]),
        ("cgroup_info_map", CGROUP, scene["cgroup"]),
    ):
        if kind != "unknown":
            maps[name].update(key, struct.pack("<I", _FLAGS[kind]) + address(APP) + address6(APP6))
    for each in (OTHER_POD, OTHER_POD6):
        maps["mesh_pods"].update(address6(each), struct.pack("<I", IN_MESH))
    if scene["ztunnel"] is not None:
        ztunnel = address(scene["ztunnel"][0]) + address6(scene["ztunnel"][1])
        maps["settings"].update(ZTUNNEL, struct.pack("<Q", ZTUNNEL_NETNS) + ztunnel + bytes(4))
    app = sim.Sock(cookie=COOKIE, netns_cookie=APP_NETNS)
    if scene["storage"] == "there":
        _storage(maps).set_value(app, state_bytes(generation=7, by_tcp=1))
        _dns(maps).set_value(app, dns_bytes(waiting=scene.get("waiting", 2), age=scene.get("age", 0)))
    protocol = scene.get("protocol", 17)
    context = sim.SockAddr(user_ip4=ip4, user_ip6=ip6, user_port=scene["port"], protocol=protocol, sk=app)
    world = sim.World(cgroup_id=CGROUP, clock_ns=NOW)
    return Setting(context, maps, world, _failing(scene), {"app": app})


def connect4(collection: CollectionSpec, scene: Scene) -> Setting:
    """A connect() or a datagram to an IPv4 address."""
    return _connecting(collection, scene, scene["to"], "::")


def connect6(collection: CollectionSpec, scene: Scene) -> Setting:
    """A connect() or a datagram to an IPv6 address."""
    return _connecting(collection, scene, "0.0.0.0", scene["to"])  # noqa: S104 - not set


def _storage(maps: dict[str, sim.Map]) -> Any:
    return maps["socket_state"]


def _dns(maps: dict[str, sim.Map]) -> Any:
    return maps["dns_state"]


# --- sendmsg4, sendmsg6, recvmsg4, recvmsg6 ---------------------------------------------------------------------------

_SENDING: dict[str, tuple[Any, ...]] = {
    **{name: options for name, options in _CONNECTING.items() if name != "protocol"},
    "netns": ("dns", "unknown", "in mesh", "outside", "host"),
    "port": (53, 80, 0, DNS_PORT),
    "waiting": (2, 0, 7, 8),
    "age": (0, 900_000_000, 1_100_000_000),
}
SENDMSG4: Choices = {**_SENDING, "to": _IP4}
SENDMSG6: Choices = {**_SENDING, "to": (SERVICE6, *CONNECT6["to"])}

_RECEIVING: dict[str, tuple[Any, ...]] = {
    "port": (DNS_PORT, 53, 0),
    "connected": (False, True),
    "question": ((SERVICE, 53), None, (SERVICE6, 53), (SERVICE, 0)),
    "waiting": (2, 0, 1, 8),
    "first": (3, 0, 7, (1 << 40) + 5),
}
RECVMSG4: Choices = {**_RECEIVING, "from": (ZTUNNEL_IP, SERVICE, "0.0.0.0")}  # noqa: S104 - an address that is not set
RECVMSG6: Choices = {
    **_RECEIVING,
    "from": (
        ZTUNNEL_IP6,
        *(f"{words}:{ZTUNNEL_IP}" for words in ("::ffff", "::fffe", "0:0:0:1:0:ffff", "1::ffff")),
        *CONNECT6["to"],
    ),
}


def recvmsg(collection: CollectionSpec, scene: Scene) -> Setting:
    """A datagram that the kernel has received."""
    maps = _maps(collection, scene)
    app = sim.Sock(cookie=COOKIE, netns_cookie=APP_NETNS, protocol=17, state=1 if scene["connected"] else 7)
    if scene["question"] is not None:
        state = dns_bytes(connected=scene["question"], first=scene["first"], waiting=scene["waiting"])
        _dns(maps).set_value(app, state)
    ip4, ip6 = ("0.0.0.0", scene["from"]) if ":" in scene["from"] else (scene["from"], "::")  # noqa: S104 - not set
    context = sim.SockAddr(user_ip4=ip4, user_ip6=ip6, user_port=scene["port"], protocol=17, sk=app)
    return Setting(context, maps, sim.World(), {}, {"app": app})


# --- getpeername4, getpeername6 ---------------------------------------------------------------------------------------

GETPEERNAME: Choices = {
    "side": (0, None, 1, 2),
    "client": (COOKIE, 0, 1 << 63),
    "original": (SERVICE, SERVICE6),
    "protocol": (6, 17, 132),
    "port": (OUT_PORT, DNS_PORT),
    "question": ((SERVICE, 53), None, (SERVICE6, 53), (SERVICE, 0)),
}


def _peer_state(scene: Scene) -> bytes:
    return state_bytes(original=(scene["original"], 80), client=scene["client"], side=scene["side"])


def getpeername(collection: CollectionSpec, scene: Scene) -> Setting:
    """A getpeername() that the kernel has answered."""
    maps = _maps(collection, scene)
    app = sim.Sock(cookie=COOKIE, netns_cookie=APP_NETNS)
    if scene["side"] is not None:
        _storage(maps).set_value(app, _peer_state(scene))
    if scene["question"] is not None:
        _dns(maps).set_value(app, dns_bytes(connected=scene["question"]))
    context = sim.SockAddr(
        user_ip4=ZTUNNEL_IP,
        user_ip6=f"::ffff:{ZTUNNEL_IP}",
        user_port=scene["port"],
        protocol=scene["protocol"],
        sk=app,
    )
    return Setting(context, maps, sim.World(), {}, {"app": app})


# --- getsockopt -------------------------------------------------------------------------------------------------------

GETSOCKOPT: Choices = {
    "optname": (80, 81, 0, -1),
    "level": (0, 1, 41, -1),
    "optlen": (28, 0, 15, 4096, 4097, 1 << 20, -1),
    "room": (28, 0, 15, 16, 17, 27, 64),
    "state": (1, None, 0, 2),
    "family": (2, 10, 0),
    "retval": (-92, 0),
}


def getsockopt(collection: CollectionSpec, scene: Scene) -> Setting:
    """A getsockopt() that the kernel has answered."""
    maps = _maps(collection, scene)
    accepted = sim.Sock(cookie=2002, netns_cookie=ZTUNNEL_NETNS)
    if scene["state"] is not None:
        _storage(maps).set_value(accepted, state_bytes(family=scene["family"], side=scene["state"]))
    context = sim.Sockopt(
        level=scene["level"],
        optname=scene["optname"],
        optlen=scene["optlen"],
        optval=bytes(range(1, scene["room"] + 1)),
        retval=scene["retval"],
        sk=accepted,
    )
    return Setting(context, maps, sim.World(), {}, {"accepted": accepted})


# --- redirect ---------------------------------------------------------------------------------------------------------

REDIRECT: Choices = {
    "side": (0, None, 1, 2),
    "by_tcp": (0, 1, 1 << 31),
    "redirected": (
        0,
        MEMORY_LIMIT - MESSAGE_OVERHEAD - 5,
        MEMORY_LIMIT - MESSAGE_OVERHEAD - 4,
        MEMORY_LIMIT,
        U64,
        1 << 40,
    ),
    "bytes": (5, 0, 4, 70_000),
    "peer": ("there", "absent"),
}


def redirect(collection: CollectionSpec, scene: Scene) -> Setting:
    """A message that a socket is about to send."""
    maps = _maps(collection, scene)
    sockets = {"app": sim.Sock(cookie=COOKIE), "accepted": sim.Sock(cookie=2002)}
    if scene["side"] is not None:
        state = state_bytes(side=scene["side"], by_tcp=scene["by_tcp"], redirected=scene["redirected"])
        _storage(maps).set_value(sockets["app"], state)
        if scene["peer"] == "there":
            key = struct.pack("<QI4xQ", COOKIE, 1, scene["side"] ^ 1)
            _socket_map(maps).set(key, sockets["accepted"])
    context = sim.SkMsg(data=bytes(scene["bytes"]), sk=sockets["app"])
    return Setting(context, maps, sim.World(), {}, sockets)


def _socket_map(maps: dict[str, sim.Map]) -> Any:
    return maps["sockets"]


# --- sockops ----------------------------------------------------------------------------------------------------------

SOCKOPS: Choices = {
    "op": (3, 4, 5, 10, 14, 0, 2, 6, 15, 1 << 31, U32),
    "sk": ("with state", "without", "none"),
    "arg0": (1, 0, 2),
    "arg1": (7, 0, 1),
    "to_ztunnel": (True, False),
    "port": (OUT_PORT, 443),
    "went_to": (OUT_PORT, IN_PORT),
    "local_port": (OUT_PORT, CLIENT_PORT, IN_PORT, HBONE_PORT, DNS_PORT, OUT_PORT + 1),
    "family": (4, 6),
    "differs": ("", *(f"{side}{word}" for side in ("local", "remote") for word in range(4))),
    "pod": ("its own", "unknown"),
    "enrolled": (IN_MESH, 0),
    "client": (COOKIE, 0),
    "generation": (1, 0, U32),
    "entry": ("same", "none", "other client", "other generation"),
    "original_dst": ("room", "full"),
    "sockets": ("room", "full"),
    "share": ("there", "none", "used up", "no room"),
    "deleting": ("works", "fails"),
    "storage": ("works", "fails"),
    "counters": ("there", "missing"),
    "data_segs_out": (0, 1),
    "flags": (0, 0x44, 0x7F),
}


def sockops(collection: CollectionSpec, scene: Scene) -> Setting:
    """Something happened to a socket; the accepting side's events have the addresses the other way round."""
    maps = _maps(collection, scene)
    sock = sim.Sock(cookie=COOKIE, netns_cookie=ZTUNNEL_NETNS, callback_flags=scene["flags"])
    sockets = {"socket": sock, "other": sim.Sock(cookie=3003)}
    context = _event(scene, None if scene["sk"] == "none" else sock)
    if scene["sk"] == "with state":
        state = state_bytes(
            client=scene["client"],
            generation=scene["generation"],
            pod=_OWN[scene["family"]] if scene["pod"] == "its own" else "::",
            ztunnel=_ZTUNNEL[scene["family"]],
            enrolled=scene["enrolled"],
            port=scene["went_to"],
            by_tcp=1,
        )
        _storage(maps).set_value(sock, state)
    _fill(maps, scene, context)
    if scene["sockets"] == "full":
        _socket_map(maps).set(bytes(24), sockets["other"])
    return Setting(context, maps, sim.World(netns_cookie=ZTUNNEL_NETNS), _failing(scene), sockets)


_OWN, _ZTUNNEL, _SERVICE = {4: APP, 6: APP6}, {4: ZTUNNEL_IP, 6: ZTUNNEL_IP6}, {4: SERVICE, 6: SERVICE6}


def _event(scene: Scene, sock: sim.Sock | None) -> sim.SockOps:
    family = scene["family"]
    peer = _ZTUNNEL[family] if scene["to_ztunnel"] else _SERVICE[family]
    return sim.SockOps(
        op=scene["op"],
        args=[scene["arg0"], scene["arg1"], 0, 0],
        local_ip6=_altered(_OWN[family], scene["differs"], "local"),
        local_port=scene["local_port"],
        remote_ip6=_altered(peer, scene["differs"], "remote"),
        remote_port=scene["port"],
        data_segs_out=scene["data_segs_out"],
        sk=sock,
    )


def _altered(of: str, differs: str, side: str) -> str:
    """An address with one word changed, if this side's is to differ in one."""
    packed = bytearray(address6(of))
    if differs.startswith(side):
        packed[4 * int(differs[-1]) + 3] ^= 0x80
    return socket.inet_ntop(socket.AF_INET6, bytes(packed))


def _fill(maps: dict[str, sim.Map], scene: Scene, context: sim.SockOps) -> None:
    """Enter what the client's side left, as the event's program will look it up, or something else into a full map."""
    passive = context.op == 5
    client_ip, client_port = (
        (context.remote_ip6, context.remote_port) if passive else (context.local_ip6, context.local_port)
    )
    server_ip, server_port = (
        (context.local_ip6, context.local_port) if passive else (context.remote_ip6, context.remote_port)
    )
    key = struct.pack("<Q", ZTUNNEL_NETNS) + address6(client_ip) + address6(server_ip)
    key += struct.pack("<HH4x", client_port, server_port)
    generation = scene["generation"] ^ (1 << 31 if scene["entry"] == "other generation" else 0)
    client = scene["client"] ^ (1 << 40 if scene["entry"] == "other client" else 0)
    value = address6(SERVICE) + struct.pack(">H6x", 8080) + struct.pack("<QI4xQ", client, generation, ZTUNNEL_NETNS)
    if scene["share"] == "no room":
        maps["shares"].update(5, 1)
    elif scene["share"] != "none":
        maps["shares"].update(ZTUNNEL_NETNS, 16384 if scene["share"] == "used up" else 16383)
    if scene["original_dst"] == "full":
        maps["original_dst"].update(bytes(48), value)
    elif scene["entry"] != "none":
        maps["original_dst"].update(key, value)


# A connection of the host to an enrolled pod.
ALSO_USUAL: Mapping[str, tuple[Scene, ...]] = {
    "connect4": ({"netns": "host", "to": OTHER_POD}, {"protocol": 17, "netns": "dns", "port": 53}),
    "connect6": (
        {"netns": "host", "to": f"::ffff:{OTHER_POD}"},
        {"to": SERVICE6},
        {"netns": "host", "to": OTHER_POD6},
        {"protocol": 17, "netns": "dns", "port": 53},
        {"protocol": 17, "netns": "dns", "port": 53, "to": SERVICE6},
    ),
    "getpeername4": ({"protocol": 17, "port": DNS_PORT},),
    "getpeername6": ({"protocol": 17, "port": DNS_PORT},),
    "getsockopt": ({"level": 41, "family": 10},),
    "recvmsg6": ({"from": f"::ffff:{ZTUNNEL_IP}"},),
    "sockops": (
        {"op": 4},
        {"op": 5, "to_ztunnel": False},
        {"op": 10},
        {"op": 3, "entry": "none"},
        {"op": 3, "entry": "none", "share": "none"},
    ),
}

Make = Callable[[CollectionSpec, Scene], Setting]
PROGRAMS: Mapping[str, tuple[Make, Choices]] = {
    "connect4": (connect4, CONNECT4),
    "connect6": (connect6, CONNECT6),
    "getpeername4": (getpeername, GETPEERNAME),
    "getpeername6": (getpeername, GETPEERNAME),
    "getsockopt": (getsockopt, GETSOCKOPT),
    "recvmsg4": (recvmsg, RECVMSG4),
    "recvmsg6": (recvmsg, RECVMSG6),
    "redirect": (redirect, REDIRECT),
    "sendmsg4": (connect4, SENDMSG4),
    "sendmsg6": (connect6, SENDMSG6),
    "sockops": (sockops, SOCKOPS),
}
