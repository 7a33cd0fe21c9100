"""Helpers of sockets: cookies, look-up, choice, options."""

import ipaddress
from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.base import address_of
from pybpfasm.sim.contexts.packets import SkBuff
from pybpfasm.sim.contexts.sockets import SkLookup, SkReuseport, Sock, SockAddr, SockOps
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.helpers.arguments import context_of, context_socket, hold_socket, socket_address, socket_at
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import Map, SocketMap
from pybpfasm.uapi import Helper, SkAssignFlag, SockOpsCallbackFlag, TcpState

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_IPPROTO_TCP, _IPPROTO_UDP = 6, 17
_TUPLE4_BYTES, _TUPLE6_BYTES = 12, 36
_NET_LIMIT = 1 << 31
_CURRENT_NETNS = (1 << 64) - 1
_CURRENT_NETNS_32 = (1 << 32) - 1
_OVERFLOW_UID = 65534
_SOCKADDR_IN_BYTES, _SOCKADDR_IN6_BYTES = 16, 28
_AF_INET, _AF_INET6 = 2, 10


def _socket_of(machine: "Machine", address: int) -> Sock | None:
    """The socket that r1 is about: itself, or the context's."""
    region = machine.context_region
    if region is not None and address == region.base:
        return context_socket(machine)
    return socket_at(machine, address)


@helper(Helper.GET_SOCKET_COOKIE)
def get_socket_cookie(machine: "Machine", address: int) -> int:
    """The socket's cookie; 0 if a packet has no socket."""
    sock = _socket_of(machine, address)
    if sock is None:
        return 0 if isinstance(machine.context, SkBuff) else machine.world.socket_cookie
    return machine.world.cookie_of(sock)


@helper(Helper.GET_SOCKET_UID)
def get_socket_uid(machine: "Machine", skb: int) -> int:
    """The user that owns the packet's socket; 65534 if it has none."""
    sock = context_of(machine, skb, SkBuff).sk
    if sock is None:
        return _OVERFLOW_UID
    return machine.world.socket_uid if sock.uid is None else sock.uid


@helper(Helper.GET_NETNS_COOKIE)
def get_netns_cookie(machine: "Machine", context: int) -> int:
    """The cookie of the network namespace of the context's socket; for NULL, that of the first namespace: 1."""
    if context == 0:
        return 1
    sock = _socket_of(machine, context)
    return (sock.netns_cookie if sock is not None else 0) or machine.world.netns_cookie


@helper(Helper.SK_LOOKUP_TCP, Helper.SKC_LOOKUP_TCP)
def sk_lookup_tcp(machine: "Machine", context: int, tuple_: int, size: int, netns: int, flags: int) -> int:
    """A TCP socket by the addresses of a packet to it, or NULL; it must be released."""
    del context
    return _look_up(machine, "tcp", tuple_, size, netns, flags)


@helper(Helper.SK_LOOKUP_UDP)
def sk_lookup_udp(machine: "Machine", context: int, tuple_: int, size: int, netns: int, flags: int) -> int:
    """A UDP socket by the addresses of a packet to it, or NULL; it must be released."""
    del context
    return _look_up(machine, "udp", tuple_, size, netns, flags)


def _look_up(machine: "Machine", protocol: str, address: int, size: int, netns: int, flags: int) -> int:
    data = machine.memory.read(address, size)
    known_netns = netns in (_CURRENT_NETNS, _CURRENT_NETNS_32) or netns < _NET_LIMIT
    if size not in (_TUPLE4_BYTES, _TUPLE6_BYTES) or flags or not known_netns:
        return 0
    world = machine.world
    found = world.lookup(protocol, data) if world.lookup is not None else None
    if found is None:
        number = _IPPROTO_TCP if protocol == "tcp" else _IPPROTO_UDP
        matches = [sock for sock in world.sockets if sock.protocol == number and _matches(sock, data)]
        matches.sort(key=lambda sock: sock.dst_port == 0)  # a connected socket comes before a listening one
        found = matches[0] if matches else None
    return hold_socket(machine, found, f"sk_lookup_{protocol}")


def _matches(sock: Sock, data: bytes) -> bool:
    """Whether a packet with these addresses (struct bpf_sock_tuple) would reach the socket."""
    width = (len(data) - 4) // 2
    source, destination = ipaddress.ip_address(data[:width]), ipaddress.ip_address(data[width : 2 * width])
    source_port, destination_port = (int.from_bytes(data[at : at + 2], "big") for at in (2 * width, 2 * width + 2))
    local, remote = (sock.src_ip4, sock.dst_ip4) if width == 4 else (sock.src_ip6, sock.dst_ip6)
    if sock.src_port != destination_port or not _same_or_any(local, destination):
        return False
    return sock.dst_port == 0 or (sock.dst_port == source_port and ipaddress.ip_address(remote) == source)


def _same_or_any(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    own = ipaddress.ip_address(text)
    return own.is_unspecified or own == address


@helper(Helper.SK_RELEASE)
def sk_release(machine: "Machine", sock: int) -> int:
    """Give a socket back that a look-up returned; its pointer is dead then."""
    socket_at(machine, sock)
    if sock not in machine.held:
        raise SimError("sk_release of a socket that no look-up returned, or that was released already")
    del machine.held[sock]
    return 0


@helper(Helper.SK_FULLSOCK)
def sk_fullsock(machine: "Machine", sock: int) -> int:
    """The socket itself if it is a full one, else NULL."""
    found = socket_at(machine, sock)
    return 0 if found.state in (TcpState.TIME_WAIT, _NEW_SYN_RECV) else sock


_NEW_SYN_RECV = 12  # TCP_NEW_SYN_RECV of include/net/tcp_states.h


@helper(Helper.SKC_TO_TCP_SOCK, Helper.SKC_TO_TCP6_SOCK, Helper.SKC_TO_UDP6_SOCK, Helper.SKC_TO_UNIX_SOCK)
def skc_to_other(machine: "Machine", sock: int) -> int:
    """The socket as the kernel's own struct: the same address."""
    return sk_fullsock(machine, sock)


@helper(Helper.TCP_SOCK)
def tcp_sock(machine: "Machine", sock: int) -> int:
    """The address of a TCP socket's struct bpf_tcp_sock, or NULL."""
    found = socket_at(machine, sock)
    if found.protocol != _IPPROTO_TCP:
        return 0
    return address_of(found.tcp, machine.memory, "tcp_sock")


@helper(Helper.GET_LISTENER_SOCK)
def get_listener_sock(machine: "Machine", sock: int) -> int:
    """The listening socket of a connection, or NULL."""
    return socket_address(machine, socket_at(machine, sock).listener)


@helper(Helper.SK_ASSIGN)
def sk_assign(machine: "Machine", context: int, sock: int, flags: int) -> int:
    """Choose the socket that gets the packet; NULL takes the choice back."""
    chosen = None if sock == 0 else socket_at(machine, sock)
    found: SkBuff | SkLookup = _assignable(machine, context)
    if isinstance(found, SkBuff):
        if chosen is None or flags:
            return -Errno.EINVAL
        found.assigned = chosen
    else:
        if flags & ~int(SkAssignFlag.REPLACE | SkAssignFlag.NO_REUSEPORT):
            return -Errno.EINVAL
        if found.sk is not None and not flags & SkAssignFlag.REPLACE and chosen is not None:
            return -Errno.EEXIST
        if chosen is not None and chosen.protocol != found.protocol:
            return -Errno.EPROTOTYPE
        found.sk = chosen
    machine.observed.act("sk_assign", sock=chosen, flags=flags)
    return 0


def _assignable(machine: "Machine", context: int) -> SkBuff | SkLookup:
    if isinstance(machine.context, SkLookup):
        return context_of(machine, context, SkLookup)
    return context_of(machine, context, SkBuff)


@helper(Helper.SK_SELECT_REUSEPORT)
def sk_select_reuseport(machine: "Machine", context: int, map_: Map, key: int, flags: int) -> int:
    """Choose the socket of the group that a map holds at a key."""
    found = context_of(machine, context, SkReuseport)
    if not isinstance(map_, SocketMap) or flags:
        return -Errno.EINVAL
    sock = map_.get(machine.memory.read(key, map_.key_size))
    if sock is None:
        return -Errno.ENOENT
    found.selected = sock
    return 0


@helper(Helper.BIND)
def bind(machine: "Machine", context: int, address: int, size: int) -> int:
    """Bind the connecting socket to a local address."""
    context_of(machine, context, SockAddr)
    if not 2 <= size <= _SOCKADDR_IN6_BYTES:
        return -Errno.EINVAL
    data = machine.memory.read(address, size)
    family = int.from_bytes(data[:2], machine.world.byteorder)
    sock = context_socket(machine)
    if (family, size) == (_AF_INET, _SOCKADDR_IN_BYTES):
        text = str(ipaddress.IPv4Address(data[4:8]))
        if sock is not None:
            sock.src_ip4 = text
    elif family == _AF_INET6 and size >= _SOCKADDR_IN6_BYTES - 4:
        text = str(ipaddress.IPv6Address(data[8:24]))
        if sock is not None:
            sock.src_ip6 = text
    else:
        return -Errno.EAFNOSUPPORT
    port = int.from_bytes(data[2:4], "big")
    machine.observed.act("bind", address=text, port=port)
    return 0


# --- options ----------------------------------------------------------------------------------------------------------


@helper(Helper.SETSOCKOPT)
def setsockopt(machine: "Machine", target: int, level: int, name: int, value: int, size: int) -> int:
    """Set an option of the socket, which keeps it in `options`."""
    if size <= 0:
        return -Errno.EINVAL
    data = machine.memory.read(value, size)
    sock = _socket_of(machine, target)
    if sock is None:
        return -Errno.EINVAL
    sock.options[level, name] = data
    machine.observed.act("setsockopt", level=level, name=name, value=data)
    return 0


@helper(Helper.GETSOCKOPT)
def getsockopt(machine: "Machine", target: int, level: int, name: int, value: int, size: int) -> int:
    """Read an option from the socket's `options`; zeros and ENOPROTOOPT if it is not there."""
    if size <= 0:
        return -Errno.EINVAL
    machine.memory.check_writable(value, size)
    sock = _socket_of(machine, target)
    data = None if sock is None else sock.options.get((level, name))
    machine.memory.write(value, (data or b"")[:size].ljust(size, b"\0"))
    return 0 if data is not None else -Errno.ENOPROTOOPT


@helper(Helper.SOCK_OPS_CB_FLAGS_SET)
def sock_ops_cb_flags_set(machine: "Machine", context: int, flags: int) -> int:
    """Choose the events that the socket reports; those of the flags that are not known."""
    found = context_of(machine, context, SockOps)
    if found.sk is None or not found.is_fullsock:
        return -Errno.EINVAL
    found.sk.callback_flags = flags & SockOpsCallbackFlag.ALL_CB_FLAGS
    return flags & 0xFFFFFFFF & ~int(SockOpsCallbackFlag.ALL_CB_FLAGS)
