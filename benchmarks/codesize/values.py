"""Values of the maps as programs find them, laid out as `programs.maps` declares them."""

import socket
import struct

from programs.maps import IN_MESH
from programs.slots import CALLS, CONNECTIONS, ORPHANED, SPREAD, TAKEN, TIME, TIME_SHIFT
from pybpfasm import sim

APP, ZTUNNEL_IP, SERVICE, OTHER_POD = "10.0.0.5", "10.0.0.9", "10.96.0.10", "10.0.0.6"
APP6, ZTUNNEL_IP6, SERVICE6, OTHER_POD6 = "fd00::5", "fd00::9", "fd00:96::10", "fd00::6"
APP_NETNS, ZTUNNEL_NETNS = 77, 99
OUT_PORT, IN_PORT, HBONE_PORT, DNS_PORT, CLIENT_PORT = 15001, 15006, 15008, 15053, 40000
U32, U64 = (1 << 32) - 1, (1 << 64) - 1

COOKIE, OTHER_COOKIE = 1001, 3003
NOW = 5_000_000_000


def address(text: str) -> bytes:
    """An IPv4 address as it lies in memory."""
    return socket.inet_aton(text)


def address6(text: str) -> bytes:
    """An address of either family as an `Address`."""
    return socket.inet_pton(socket.AF_INET6, text if ":" in text else f"::ffff:{text}")


def endpoint_bytes(ip: str, port: int, family: int = 0) -> bytes:
    """An `Endpoint`."""
    return address6(ip) + struct.pack(">H", port) + struct.pack("<H", family)


def call_bytes(
    *,
    original: tuple[str, int] = (SERVICE, 80),
    family: int = 2,
    enrolled: int = IN_MESH,
    ztunnel: str = ZTUNNEL_IP,
    port: int = OUT_PORT,
    pod: str = APP,
) -> bytes:
    """A `Call` to ztunnel."""
    return (
        endpoint_bytes(*original, family)
        + struct.pack("<I", enrolled)
        + endpoint_bytes(ztunnel, port)
        + address6(pod)
        + struct.pack("<4xQ", ZTUNNEL_NETNS)
    )


def state_bytes(
    call: bytes,
    *,
    original: tuple[str, int] = (SERVICE, 80),
    family: int = 2,
    side: int = 0,
    client: int = COOKIE,
) -> bytes:
    """A `SocketState` with this call, of a connection to ztunnel."""
    return call + endpoint_bytes(*original, family) + struct.pack("<IQ", side, client)


SERVERS, SERVERS6 = [f"10.96.0.{number}" for number in range(8)], [f"fd00:96::{number}" for number in range(8)]


def dns_bytes(
    *,
    connected: tuple[str, int] = (SERVICE, 53),
    ztunnel: tuple[str, str] = (ZTUNNEL_IP, ZTUNNEL_IP6),
    first: int = 3,
    waiting: int = 2,
    age: int = 0,
) -> bytes:
    """A `DnsState` of a socket that is connected to a server, and has asked some by either family."""
    return (
        b"".join(
            b"".join(map(address6, asked)) + struct.pack("<QQQ", first, first + waiting, NOW - age) + address6(at)
            for asked, at in zip((SERVERS, SERVERS6), ztunnel, strict=True)
        )
        + endpoint_bytes(*connected)
        + bytes(4)
    )


# --- slots ------------------------------------------------------------------------------------------------------------


def _since(age: int) -> int:
    """A time that many units ago, where an owner has it."""
    now = sim.World(clock_ns=NOW).jiffies() >> 12
    return (now - age & TIME) << TIME_SHIFT


def pending_bytes(cookie: int, age: int, call: bytes, *, is_taken: bool = False) -> bytes:
    """A `Pending` slot that a socket has had since so many units of time, or writes to; 0 is nobody."""
    owned = TAKEN | cookie if is_taken else _since(age) | cookie
    return struct.pack("<Q", owned if cookie else 0) + call


def pending_number(cookie: int) -> int:
    """Which slot a socket's call can have."""
    return cookie & (CALLS - 1)


def connection_bytes(client: str, client_port: int, server: str, server_port: int, netns: int = ZTUNNEL_NETNS) -> bytes:
    """A `Connection`."""
    ports = struct.pack("<HH4x", client_port, server_port)
    return struct.pack("<Q", netns) + address6(client) + address6(server) + ports


def connection_number(client: str, port: int) -> int:
    """Which slot a connection can have."""
    word = int.from_bytes(address6(client)[12:], "big")
    return ((word << 16 | port) * SPREAD & U64) >> 40 & (CONNECTIONS - 1)


# Where an `Address` or a port of a `Connection` begins, to change one byte there.
FIELDS = {
    "netns": 0,
    **{f"client {word}": 8 + 4 * word for word in range(4)},
    **{f"server {word}": 24 + 4 * word for word in range(4)},
    "client port": 40,
    "server port": 42,
}


def altered(connection: bytes, field: str) -> bytes:
    """A `Connection` that differs in one field, or in none: ""."""
    if not field:
        return connection
    changed = bytearray(connection)
    changed[FIELDS[field] + (1 if "port" in field else 3)] ^= 0x80
    return bytes(changed)


def owner(kind: str, cookie: int, age: int = 0) -> int:
    """Whose a connection's slot is."""
    return {
        "free": 0,
        "own": cookie,
        "another's": OTHER_COOKIE,
        "taken": TAKEN | cookie,
        "orphan": ORPHANED | _since(age) | cookie,
    }[kind]


# What a `Slot` has a cookie for once it is so, in their order.
MARKS = ("joined", "spliced", "accepted", "answered", "released")


def slot_bytes(
    owned: int,
    connection: bytes,
    *,
    netns: int = APP_NETNS,
    original: tuple[str, int] = (SERVICE, 80),
    family: int = 2,
    by_tcp: int = 0,
    redirected: int = 0,
    **marks: int,
) -> bytes:
    """A `Slot`; both directions are alike. `marks` are of `MARKS`, with cookies."""
    return (
        struct.pack("<Q", owned)
        + connection
        + struct.pack("<Q", netns)
        + endpoint_bytes(*original, family)
        + struct.pack("<4x5Q", *(marks.get(name, 0) for name in MARKS))
        + struct.pack("<II", by_tcp, redirected) * 2
    )
