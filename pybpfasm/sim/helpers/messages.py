"""Helpers of socket maps and of messages: who gets a socket's bytes (net/core/sock_map.c, net/core/filter.c)."""

from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.base import Packet
from pybpfasm.sim.contexts.packets import SkBuff
from pybpfasm.sim.contexts.sockets import SkMsg, SockOps
from pybpfasm.sim.errors import SimError
from pybpfasm.sim.helpers.arguments import context_of, packet_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import Map, SocketMap
from pybpfasm.sim.world import Redirect
from pybpfasm.uapi import Helper, RedirectFlag, SkAction, TcpState

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_MAX_MESSAGE = 1 << 20


def _socket_map(map_: Map) -> SocketMap:
    if not isinstance(map_, SocketMap):
        raise SimError(f"map {map_.name} is of type {map_.type.name}: it holds no sockets")
    return map_


@helper(Helper.SOCK_MAP_UPDATE, Helper.SOCK_HASH_UPDATE)
def sock_map_update(machine: "Machine", context: int, map_: Map, key: int, flags: int) -> int:
    """Enter the context's socket into a map."""
    found = context_of(machine, context, SockOps)
    wanted = machine.memory.read(key, map_.key_size)
    if found.sk is None or not found.is_fullsock:
        return -Errno.EOPNOTSUPP
    _socket_map(map_).set(wanted, found.sk, flags)
    return 0


@helper(Helper.SK_REDIRECT_MAP)
def sk_redirect_map(machine: "Machine", skb: int, map_: Map, key: int, flags: int) -> int:
    """Send the bytes to the socket at an index."""
    context_of(machine, skb, SkBuff)
    return _redirect(machine, "sk_redirect_map", map_, key.to_bytes(4, machine.world.byteorder), flags)


@helper(Helper.SK_REDIRECT_HASH)
def sk_redirect_hash(machine: "Machine", skb: int, map_: Map, key: int, flags: int) -> int:
    """Send the bytes to the socket at a key."""
    context_of(machine, skb, SkBuff)
    return _redirect(machine, "sk_redirect_hash", map_, machine.memory.read(key, map_.key_size), flags)


@helper(Helper.MSG_REDIRECT_MAP)
def msg_redirect_map(machine: "Machine", message: int, map_: Map, key: int, flags: int) -> int:
    """Send the message to the socket at an index."""
    context_of(machine, message, SkMsg)
    return _redirect(machine, "msg_redirect_map", map_, key.to_bytes(4, machine.world.byteorder), flags)


@helper(Helper.MSG_REDIRECT_HASH)
def msg_redirect_hash(machine: "Machine", message: int, map_: Map, key: int, flags: int) -> int:
    """Send the message to the socket at a key."""
    context_of(machine, message, SkMsg)
    return _redirect(machine, "msg_redirect_hash", map_, machine.memory.read(key, map_.key_size), flags)


def _redirect(machine: "Machine", name: str, map_: Map, key: bytes, flags: int) -> int:
    target = _socket_map(map_).get(key)
    if flags & ~int(RedirectFlag.INGRESS) or target is None or target.state == TcpState.LISTEN:
        return SkAction.DROP
    machine.observed.redirects.append(Redirect(name, target, flags, map_.name, key))
    return SkAction.PASS


# --- messages ---------------------------------------------------------------------------------------------------------


def _message(machine: "Machine", address: int) -> Packet:
    context_of(machine, address, SkMsg)
    return packet_of(machine)


@helper(Helper.MSG_APPLY_BYTES)
def msg_apply_bytes(machine: "Machine", message: int, count: int) -> int:
    """The verdict is for the next `count` bytes, not for this message only."""
    _message(machine, message)
    machine.observed.act("msg_apply_bytes", bytes=count)
    return 0


@helper(Helper.MSG_CORK_BYTES)
def msg_cork_bytes(machine: "Machine", message: int, count: int) -> int:
    """The program wants to be called again once there are `count` bytes."""
    _message(machine, message)
    machine.observed.act("msg_cork_bytes", bytes=count)
    return 0


@helper(Helper.MSG_PULL_DATA)
def msg_pull_data(machine: "Machine", message: int, start: int, end: int, flags: int) -> int:
    """Make data and data_end point to the bytes from `start` to `end`."""
    packet = _message(machine, message)
    if flags or end <= start or end > len(packet.data):
        return -Errno.EINVAL
    packet.replace(packet.data, b"", start, end)
    return 0


@helper(Helper.MSG_PUSH_DATA)
def msg_push_data(machine: "Machine", message: int, start: int, count: int, flags: int) -> int:
    """Put `count` bytes into the message at `start`; here they are zeros."""
    packet = _message(machine, message)
    data = packet.data
    if flags or start > len(data):
        return -Errno.EINVAL
    if len(data) + count > _MAX_MESSAGE:
        return -Errno.ENOMEM
    _replace(machine, packet, data[:start] + bytes(count) + data[start:])
    return 0


@helper(Helper.MSG_POP_DATA)
def msg_pop_data(machine: "Machine", message: int, start: int, count: int, flags: int) -> int:
    """Take `count` bytes out of the message at `start`."""
    packet = _message(machine, message)
    data = packet.data
    if flags or start + count > len(data):
        return -Errno.EINVAL
    _replace(machine, packet, data[:start] + data[start + count :])
    return 0


def _replace(machine: "Machine", packet: Packet, data: bytes) -> None:
    packet.replace(data)
    machine.sync_context()
