"""What a program may find: the inputs on which ours and the twins are compared, and those of the hot paths.

A scene is a choice for each thing that a program looks at ("to": "127.0.0.1", "ztunnel": "known"); from it a context,
maps and what helpers answer are made anew for each run. All that can be chosen is in one table a program; its first
choices are the usual case.
"""

import itertools
import random
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from benchmarks.codesize.values import (
    APP,
    APP6,
    APP_NETNS,
    CLIENT_PORT,
    COOKIE,
    DNS_PORT,
    FIELDS,
    HBONE_PORT,
    IN_PORT,
    MARKS,
    NOW,
    OTHER_COOKIE,
    OTHER_POD,
    OTHER_POD6,
    OUT_PORT,
    SERVICE,
    SERVICE6,
    U32,
    ZTUNNEL_IP,
    ZTUNNEL_IP6,
    ZTUNNEL_NETNS,
    address,
    address6,
    altered,
    call_bytes,
    connection_bytes,
    connection_number,
    dns_bytes,
    endpoint_bytes,
    owner,
    pending_bytes,
    pending_number,
    slot_bytes,
    state_bytes,
)
from programs.maps import DNS, EXEMPT, IN_MESH, IS_HOST, IS_ZTUNNEL, ZTUNNEL
from programs.redirect import MEMORY_LIMIT, MESSAGE_OVERHEAD
from programs.slots import COOKIE as COOKIE_BITS
from pybpfasm import sim
from pybpfasm.sim.helpers.registry import HELPERS
from pybpfasm.spec import CollectionSpec
from pybpfasm.uapi import Helper, MapType

Scene = Mapping[str, Any]
Choices = Mapping[str, tuple[Any, ...]]

CGROUP = 4711


@attrs.frozen
class Setting:
    """All that a run needs. `sockets` has the sockets by what they are called here.

    `touched` are the elements of arrays, by map and key, that were looked up: there are too many to look at all.
    `overtaken` happens before each atomic instruction.
    """

    context: sim.Context
    maps: dict[str, sim.Map]
    world: sim.World
    sockets: dict[str, sim.Sock]
    helpers: "Helpers"
    touched: set[tuple[str, bytes]]
    overtaken: Callable[[], None] | None


def scenes(choices: Choices, count: int, seed: int = 0, also: tuple[Scene, ...] = ()) -> list[Scene]:
    """The usual cases; each with each other choice; each with each two of them; and `count` random scenes.

    There is one usual case of first choices, and `also` are more of them, by what differs.
    """
    first = {name: options[0] for name, options in choices.items()}
    usual = [first, *(first | dict(change) for change in also)]
    changes = [(name, option) for name, options in choices.items() for option in options[1:]]
    ones = [case | {name: option} for case in usual for name, option in changes]
    twos = [case | dict(two) for case in usual for two in itertools.combinations(changes, 2) if two[0][0] != two[1][0]]
    return [*usual, *ones, *twos, *_random(choices, count, seed)]


def _random(choices: Choices, count: int, seed: int) -> Iterator[Scene]:
    source = random.Random(seed)  # noqa: S311 - the same scenes each time are wanted
    for _ in range(count):
        yield {name: source.choice(options) for name, options in choices.items()}


# --- maps and helpers -------------------------------------------------------------------------------------------------


def _maps(collection: CollectionSpec, scene: Scene) -> dict[str, sim.Map]:
    """Empty maps; those that are to be full have room for one entry."""
    full = {
        "original_dst": scene.get("original_dst") == "full",
        "shares": scene.get("share") == "no room",
    }
    specs = {name: spec.resized(1) if full.get(name) else spec for name, spec in collection.maps.items()}
    maps = sim.create_maps(specs)
    for index in range(maps["counters"].max_entries):
        maps["counters"].update(index, 1000 * index)
    return maps


Helpers = dict[Helper | int | str, Callable[..., int | None]]


def _setting(
    scene: Scene, context: sim.Context, maps: dict[str, sim.Map], world: sim.World, sockets: dict[str, sim.Sock]
) -> Setting:
    """A setting whose helpers do what the scene says."""
    touched: set[tuple[str, bytes]] = set()

    def overtaken() -> None:
        """Another CPU is faster: another socket gets what has been looked up."""
        for name, key in touched:
            value = maps[name].lookup(key) or b""
            maps[name].update(key, struct.pack("<Q", OTHER_COOKIE) + value[8:])

    is_lost = scene.get("race") == "lost"
    return Setting(context, maps, world, sockets, _helpers(scene, touched), touched, overtaken if is_lost else None)


def _helpers(scene: Scene, touched: set[tuple[str, bytes]]) -> Helpers:
    """Helpers that fail in this scene: what never happens to arrays, and happens to storage without memory."""
    missing = {name for name in ("counters", "pending", "connections") if scene.get(name) == "missing"}
    look_up = HELPERS[Helper.MAP_LOOKUP_ELEM]

    def noted(machine: Any, map_: sim.Map, key: int) -> int | None:
        if map_.name in missing:
            return 0
        if map_.type is MapType.ARRAY:
            touched.add((map_.name, machine.memory.read(key, map_.key_size)))
        return look_up(machine, map_, key)

    helpers: Helpers = {Helper.MAP_LOOKUP_ELEM: noted}
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
_CALLING: dict[str, tuple[Any, ...]] = {
    "pending": ("free", "own", "another's", "taken", "missing"),
    "age": (0, 1, 2, 255),
    "race": ("won", "lost"),
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

CONNECT4: Choices = {"to": _IP4, **_CONNECTING, **_CALLING}
CONNECT6: Choices = {
    "to": (
        *(f"::ffff:{to}" for to in _IP4),
        *("::1", "::", "::2", "::1:0:0", "::1:0:0:0", "1::", "1::1", "0:1::1", "::fffe:a60:a", "1::ffff:a60:a"),
        *("0:0:0:1::ffff:a60:a", "::100:0", "::ff:ffff:a60:a", SERVICE6, APP6, ZTUNNEL_IP6, OTHER_POD6),
        *(f"fd00::{word}:0:{last}" for word, last in (("1", "5"), ("1", "9"))),
        *("fd01::5", "fd01::9", "fd00:0:1::5", "fd00:0:1::9", "fd00::1:5"),
    ),
    **_CONNECTING,
    **_CALLING,
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
        _storage(maps).set_value(app, state_bytes(call_bytes(original=("192.0.2.1", 443))))
        _dns(maps).set_value(app, dns_bytes(waiting=scene.get("waiting", 2), age=scene.get("asked", 0)))
    _call(maps, scene, call_bytes(original=("192.0.2.2", 443)))
    protocol = scene.get("protocol", 17)
    context = sim.SockAddr(user_ip4=ip4, user_ip6=ip6, user_port=scene["port"], protocol=protocol, sk=app)
    world = sim.World(cgroup_id=CGROUP, clock_ns=NOW)
    return _setting(scene, context, maps, world, {"app": app})


def _call(maps: dict[str, sim.Map], scene: Scene, call: bytes) -> None:
    """Enter what is in the slot of the socket's call."""
    kind = scene.get("pending", "")
    cookie = {"own": COOKIE, "another's": COOKIE + 1024, "taken": COOKIE + 1024}.get(kind, 0)
    value = pending_bytes(cookie, scene.get("age", 0), call, is_taken=kind == "taken")
    maps["pending"].update(pending_number(COOKIE), value)


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
    "asked": (0, 900_000_000, 1_100_000_000),
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
    return _setting(scene, context, maps, sim.World(), {"app": app})


# --- slots of connections ---------------------------------------------------------------------------------------------

# What is in the slot that a connection can have: whose it is, in which field that one's connection differs, since when
# an orphan has been there; whom its marks are of, in so far as they matter to a program.
_MARKS = ("nobody's", "the owner's", "another's")
_SLOT: dict[str, tuple[Any, ...]] = {
    "slot": ("own", "free", "another's", "taken", "orphan"),
    "connections": ("there", "missing"),
    "slot_differs": ("", *FIELDS),
}


def _slot(maps: dict[str, sim.Map], scene: Scene, client: tuple[str, int], server: tuple[str, int], **more: Any) -> int:
    """Enter what is in a connection's slot, and return its number."""
    number = connection_number(*client)
    owned = owner(scene["slot"], COOKIE, scene.get("orphan_age", 0))
    cookies = {"nobody's": 0, "the owner's": owned & COOKIE_BITS, "another's": OTHER_COOKIE + 1}
    marks = {name: cookies[scene.get(name, "nobody's")] for name in MARKS}
    connection = altered(connection_bytes(*client, *server), scene["slot_differs"])
    value = slot_bytes(owned, connection, **marks, **more)
    maps["connections"].update(number, value if owned else bytes(len(value)))
    return number


# --- getpeername4, getpeername6 ---------------------------------------------------------------------------------------

GETPEERNAME: Choices = {
    **_SLOT,
    "side": (None, 0, 1, 2),
    "client": (COOKIE, 0, 1 << 63),
    "original": (SERVICE, SERVICE6),
    "protocol": (6, 17, 132),
    "port": (OUT_PORT, DNS_PORT),
    "question": ((SERVICE, 53), None, (SERVICE6, 53), (SERVICE, 0)),
}


def getpeername(collection: CollectionSpec, scene: Scene) -> Setting:
    """A getpeername() that the kernel has answered."""
    maps = _maps(collection, scene)
    app = sim.Sock(cookie=COOKIE, netns_cookie=APP_NETNS, src_ip6=f"::ffff:{APP}", src_port=CLIENT_PORT)
    original = (scene["original"], 80)
    if scene["side"] is not None:
        state = state_bytes(call_bytes(), original=original, client=scene["client"], side=scene["side"])
        _storage(maps).set_value(app, state)
    if scene["question"] is not None:
        _dns(maps).set_value(app, dns_bytes(connected=scene["question"]))
    _slot(maps, scene, (APP, CLIENT_PORT), (ZTUNNEL_IP, OUT_PORT), original=original)
    context = sim.SockAddr(
        user_ip4=ZTUNNEL_IP,
        user_ip6=f"::ffff:{ZTUNNEL_IP}",
        user_port=scene["port"],
        protocol=scene["protocol"],
        sk=app,
    )
    return _setting(scene, context, maps, sim.World(), {"app": app})


# --- getsockopt -------------------------------------------------------------------------------------------------------

GETSOCKOPT: Choices = {
    **_SLOT,
    "accepted": ("the owner's", "nobody's", "another's"),
    "answered": _MARKS,
    "race": ("won", "lost"),
    "optname": (80, 81, 0, -1),
    "level": (0, 1, 41, -1),
    "optlen": (28, 0, 15, 4096, 4097, 1 << 20, -1),
    "room": (28, 0, 15, 16, 17, 27, 64),
    "state": (None, 1, 0, 2),
    "family": (2, 10, 0),
    "retval": (-92, 0),
}


def getsockopt(collection: CollectionSpec, scene: Scene) -> Setting:
    """A getsockopt() that the kernel has answered."""
    maps = _maps(collection, scene)
    accepted = sim.Sock(
        cookie=OTHER_COOKIE,
        netns_cookie=ZTUNNEL_NETNS,
        src_ip6=f"::ffff:{ZTUNNEL_IP}",
        src_port=OUT_PORT,
        dst_ip6=f"::ffff:{APP}",
        dst_port=CLIENT_PORT,
    )
    if scene["state"] is not None:
        state = state_bytes(bytes(72), original=(OTHER_POD, 8080), family=scene["family"], side=scene["state"])
        _storage(maps).set_value(accepted, state)
    _slot(maps, scene, (APP, CLIENT_PORT), (ZTUNNEL_IP, OUT_PORT), family=scene["family"])
    context = sim.Sockopt(
        level=scene["level"],
        optname=scene["optname"],
        optlen=scene["optlen"],
        optval=bytes(range(1, scene["room"] + 1)),
        retval=scene["retval"],
        sk=accepted,
    )
    return _setting(scene, context, maps, sim.World(), {"accepted": accepted})


# --- redirect ---------------------------------------------------------------------------------------------------------

REDIRECT: Choices = {
    **_SLOT,
    "sender": ("client", "accepted"),
    "netns": ("the client's", "another"),
    "spliced": ("the owner's", "nobody's", "another's"),
    "by_tcp": (0, 1, 1 << 31),
    "redirected": (
        0,
        MEMORY_LIMIT - MESSAGE_OVERHEAD - 5,
        MEMORY_LIMIT - MESSAGE_OVERHEAD - 4,
        MEMORY_LIMIT,
        U32,
    ),
    "bytes": (5, 0, 4, 70_000),
    "peer": ("there", "absent"),
}


def redirect(collection: CollectionSpec, scene: Scene) -> Setting:
    """A message that a socket is about to send."""
    maps = _maps(collection, scene)
    app, accepted = sim.Sock(cookie=COOKIE, netns_cookie=APP_NETNS), sim.Sock(netns_cookie=ZTUNNEL_NETNS)
    number = _slot(
        maps,
        scene,
        (APP, CLIENT_PORT),
        (ZTUNNEL_IP, OUT_PORT),
        netns=APP_NETNS if scene["netns"] == "the client's" else APP_NETNS + 1,
        by_tcp=scene["by_tcp"],
        redirected=scene["redirected"],
    )
    if scene["peer"] == "there":
        _socket_map(maps).set(number * 2, app)
        _socket_map(maps).set(number * 2 + 1, accepted)
    own, other = (f"::ffff:{APP}", CLIENT_PORT), (f"::ffff:{ZTUNNEL_IP}", OUT_PORT)
    if scene["sender"] == "accepted":
        own, other = other, own
    context = sim.SkMsg(
        data=bytes(scene["bytes"]),
        local_ip6=own[0],
        local_port=own[1],
        remote_ip6=other[0],
        remote_port=other[1],
        sk=app if scene["sender"] == "client" else accepted,
    )
    return _setting(scene, context, maps, sim.World(), {"app": app, "accepted": accepted})


def _socket_map(maps: dict[str, sim.Map]) -> Any:
    return maps["sockets"]


# --- sockops ----------------------------------------------------------------------------------------------------------

SOCKOPS: Choices = {
    "op": (3, 4, 5, 10, 14, 0, 2, 6, 15, 1 << 31, U32),
    "side": ("client", "accepting"),
    "sk": ("there", "none"),
    "arg0": (1, 0, 4, 5),
    "arg1": (7, 0, 1),
    "to_ztunnel": (True, False),
    "port": (OUT_PORT, 443, DNS_PORT),
    "went_to": (OUT_PORT, IN_PORT),
    "local_port": (OUT_PORT, CLIENT_PORT, IN_PORT, HBONE_PORT, DNS_PORT, OUT_PORT + 1),
    "family": (4, 6),
    "differs": ("", *(f"{side}{word}" for side in ("local", "remote") for word in range(4))),
    "pod": ("its own", "unknown"),
    "enrolled": (IN_MESH, 0),
    "pending": ("own", "free", "another's", "taken", "missing"),
    "age": (0, 1, 255),
    "race": ("won", "lost"),
    "state": ("none", "there"),
    "client": (COOKIE, 0),
    **_SLOT,
    "slot": ("free", "own", "another's", "taken", "orphan"),
    "orphan_age": (0, 15, 16),
    "joined": ("the owner's", "nobody's", "another's"),
    **dict.fromkeys(("spliced", "accepted", "answered", "released"), _MARKS),
    "entry": ("none", "same", "other client"),
    "original_dst": ("room", "full"),
    "sockets": ("room", "there"),
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
    sockets = {"socket": sock, "other": sim.Sock(cookie=OTHER_COOKIE)}
    context = _event(scene, None if scene["sk"] == "none" else sock)
    call = call_bytes(
        pod=_OWN[scene["family"]] if scene["pod"] == "its own" else "::",
        ztunnel=_ZTUNNEL[scene["family"]],
        enrolled=scene["enrolled"],
        port=scene["went_to"],
    )
    _call(maps, scene, call)
    if scene["state"] == "there":
        _storage(maps).set_value(sock, state_bytes(call, client=scene["client"]))
    _fill(maps, scene, context, sockets["other"])
    world = sim.World(clock_ns=NOW, netns_cookie=ZTUNNEL_NETNS, socket_cookie=COOKIE)
    return _setting(scene, context, maps, world, sockets)


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


def _fill(maps: dict[str, sim.Map], scene: Scene, context: sim.SockOps, other: sim.Sock) -> None:
    """Enter what the client's side left, as the event's program will look it up, or something else into a full map."""
    client, server = (context.local_ip6, context.local_port), (context.remote_ip6, context.remote_port)
    if scene["side"] == "accepting":
        client, server = server, client
    number = _slot(maps, scene, client, server)
    if scene["sockets"] == "there":
        _socket_map(maps).set(number * 2, other)
        _socket_map(maps).set(number * 2 + 1, other)
    left_by = OTHER_COOKIE if scene["entry"] == "other client" else COOKIE
    origin = endpoint_bytes(SERVICE, 8080) + struct.pack("<4xQQ", left_by, ZTUNNEL_NETNS)
    if scene["share"] == "no room":
        maps["shares"].update(5, 1)
    elif scene["share"] != "none":
        maps["shares"].update(ZTUNNEL_NETNS, 16384 if scene["share"] == "used up" else 16383)
    if scene["original_dst"] == "full":
        maps["original_dst"].update(bytes(48), origin)
    elif scene["entry"] != "none":
        maps["original_dst"].update(connection_bytes(*client, *server), origin)


CROWDED = {"op": 3, "slot": "another's", "slot_differs": "client port"}
ACCEPTED = {"op": 5, "side": "accepting"}
OVER = {"op": 3, "slot": "orphan", "slot_differs": "client port", "orphan_age": 16, "spliced": "the owner's"}

# Connections of the host to an enrolled pod, other families, other events, what is not in its slot.
ALSO_USUAL: Mapping[str, tuple[Scene, ...]] = {
    "connect4": (
        {"netns": "host", "to": OTHER_POD},
        {"protocol": 17, "netns": "dns", "port": 53},
        {"pending": "another's", "age": 2},
        {"pending": "another's", "storage": "fails"},
    ),
    "connect6": (
        {"netns": "host", "to": f"::ffff:{OTHER_POD}"},
        {"to": SERVICE6},
        {"netns": "host", "to": OTHER_POD6},
        {"protocol": 17, "netns": "dns", "port": 53},
        {"protocol": 17, "netns": "dns", "port": 53, "to": SERVICE6},
        {"pending": "another's", "age": 2, "to": SERVICE6},
        {"pending": "another's", "storage": "fails"},
        {"pending": "another's", "storage": "fails", "to": SERVICE6},
    ),
    "getpeername4": ({"protocol": 17, "port": DNS_PORT}, {"slot": "another's"}),
    "getpeername6": ({"protocol": 17, "port": DNS_PORT}, {"slot": "another's"}),
    "getsockopt": (
        {"level": 41, "family": 10},
        {"slot": "free", "state": 1},
        {"slot": "free", "state": 1, "level": 41, "family": 10},
        {"slot": "orphan"},
    ),
    "recvmsg6": ({"from": f"::ffff:{ZTUNNEL_IP}"},),
    "redirect": ({"sender": "accepted"},),
    "sockops": (
        {**OVER, "released": "the owner's"},
        {"op": 3, "age": 1},
        {"op": 3, "pending": "free", "state": "there"},
        CROWDED,
        {**CROWDED, "entry": "same"},
        {**CROWDED, "counters": "missing"},
        {"op": 4, "slot": "own"},
        {**ACCEPTED, "slot": "own"},
        {**ACCEPTED, "entry": "same"},
        {**ACCEPTED, "entry": "same", "counters": "missing"},
        {"op": 10, "slot": "own"},
        {"op": 10, "side": "accepting", "slot": "own"},
        {"op": 10, "state": "there", "entry": "same"},
        {"op": 14, "slot": "own"},
        {"op": 14, "side": "accepting", "slot": "own"},
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
