"""Helpers of packets: read and write their bytes, change their size, send them elsewhere."""

from typing import TYPE_CHECKING

from pybpfasm.sim.contexts.base import Packet
from pybpfasm.sim.contexts.packets import ETH_P_IP, ETH_P_IPV6, SkBuff, Xdp
from pybpfasm.sim.contexts.sockets import SkReuseport
from pybpfasm.sim.helpers.arguments import context_of, packet_of, skb_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.helpers.room import (
    IP4_HEADER_BYTES,
    IP6_HEADER_BYTES,
    LONGEST_PACKET,
    header_bytes,
    longest,
    protocol_after,
    room_refused,
)
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.maps import Map, ObjectMap
from pybpfasm.sim.world import Redirect
from pybpfasm.uapi import (
    AdjustRoomMode,
    HeaderStart,
    Helper,
    RedirectFlag,
    SkbStoreBytesFlag,
    TcxAction,
    XdpAction,
)

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_ETH_HLEN = 14
_VLAN_BYTES = 4
_ETH_P_8021Q, _ETH_P_8021AD = 0x8100, 0x88A8
_PACKET_HOST_TYPES = (0, 1, 2, 3)
_ACTION_MASK = 3


def replace(machine: "Machine", context: SkBuff | Xdp, data: bytes, meta: bytes | None = None) -> None:
    """Give the packet other bytes."""
    packet = packet_of(machine)
    packet.replace(data, packet.metadata if meta is None else meta)
    if isinstance(context, SkBuff):
        context.linear = None
    machine.sync_context()


def network_number(machine: "Machine", value: int) -> int:
    """The number that 16 bits in network order stand for."""
    return int.from_bytes(value.to_bytes(2, machine.world.byteorder), "big")


# --- bytes ------------------------------------------------------------------------------------------------------------


@helper(Helper.SKB_LOAD_BYTES)
def skb_load_bytes(machine: "Machine", skb: int, offset: int, target: int, size: int) -> int:
    """Copy bytes of the packet; zeros and EFAULT if it has not so many."""
    context_of(machine, skb, SkBuff, SkReuseport)
    return load_bytes(machine, packet_of(machine), offset, target, size)


@helper(Helper.SKB_LOAD_BYTES_RELATIVE)
def skb_load_bytes_relative(machine: "Machine", skb: int, offset: int, target: int, size: int, start: int) -> int:
    """Copy bytes of the packet, counted from the Ethernet or the IP header."""
    context = context_of(machine, skb, SkBuff)
    if start == HeaderStart.NET:
        offset += context.network_offset
    elif start != HeaderStart.MAC:
        machine.memory.check_writable(target, size)
        machine.memory.write(target, bytes(size))
        return -Errno.EFAULT
    return load_bytes(machine, packet_of(machine), offset, target, size)


def load_bytes(machine: "Machine", packet: Packet, offset: int, target: int, size: int) -> int:
    """Copy bytes of a packet; zeros and EFAULT if it has not so many."""
    machine.memory.check_writable(target, size)
    data = packet.data
    if offset + size > len(data):
        machine.memory.write(target, bytes(size))
        return -Errno.EFAULT
    machine.memory.write(target, data[offset : offset + size])
    return 0


def store_bytes(machine: "Machine", packet: Packet, offset: int, data: bytes) -> int:
    """Write bytes into a packet; EFAULT if it has not so many."""
    start = packet.meta + offset
    if start + len(data) > len(packet.frame):
        return -Errno.EFAULT
    packet.frame[start : start + len(data)] = data
    machine.sync_context()
    return 0


@helper(Helper.SKB_STORE_BYTES)
def skb_store_bytes(machine: "Machine", skb: int, offset: int, source: int, size: int, flags: int) -> int:
    """Write bytes into the packet."""
    context, packet = skb_of(machine, skb)
    if flags & ~int(SkbStoreBytesFlag.RECOMPUTE_CSUM | SkbStoreBytesFlag.INVALIDATE_HASH):
        return -Errno.EINVAL
    if flags & SkbStoreBytesFlag.INVALIDATE_HASH:
        context.hash = 0
    return store_bytes(machine, packet, offset, machine.memory.read(source, size))


@helper(Helper.SKB_PULL_DATA)
def skb_pull_data(machine: "Machine", skb: int, size: int) -> int:
    """Make the first `size` bytes (0: those that are so already) lie before data_end."""
    context, packet = skb_of(machine, skb)
    if size > len(packet.data):
        return -Errno.ENOMEM
    if context.linear is not None and size > context.linear:
        context.linear = size
        packet.replace(packet.data, packet.metadata, 0, size)
    return 0


@helper(Helper.SKB_CHANGE_TAIL)
def skb_change_tail(machine: "Machine", skb: int, size: int, flags: int) -> int:
    """Make the packet `size` bytes long: cut, or zeros at the end."""
    context, packet = skb_of(machine, skb)
    if flags or size > LONGEST_PACKET or size < context.network_offset:
        return -Errno.EINVAL
    replace(machine, context, packet.data[:size].ljust(size, b"\0"))
    return 0


@helper(Helper.SKB_CHANGE_HEAD)
def skb_change_head(machine: "Machine", skb: int, size: int, flags: int) -> int:
    """Put `size` zero bytes before the packet."""
    context, packet = skb_of(machine, skb)
    if flags or len(packet.data) + size > longest(context):
        return -Errno.EINVAL
    context.network_offset += size
    replace(machine, context, bytes(size) + packet.data)
    return 0


@helper(Helper.SKB_CHANGE_PROTO)
def skb_change_proto(machine: "Machine", skb: int, protocol: int, flags: int) -> int:
    """Make room for the other IP version's header: 20 bytes more for IPv6, 20 less for IPv4; the program fills it."""
    context, packet = skb_of(machine, skb)
    wanted = network_number(machine, protocol)
    if flags:
        return -Errno.EINVAL
    at, data = context.network_offset, packet.data
    difference = IP6_HEADER_BYTES - IP4_HEADER_BYTES
    if (context.protocol, wanted) == (ETH_P_IP, ETH_P_IPV6):
        data = data[:at] + bytes(difference) + data[at:]
    elif (context.protocol, wanted) == (ETH_P_IPV6, ETH_P_IP):
        data = data[:at] + data[at + difference :]
    else:
        return -Errno.ENOTSUPP
    context.protocol = wanted
    replace(machine, context, data)
    return 0


@helper(Helper.SKB_CHANGE_TYPE)
def skb_change_type(machine: "Machine", skb: int, kind: int) -> int:
    """Change pkt_type among those of packets for, and not for, this host."""
    context, _ = skb_of(machine, skb)
    if kind not in _PACKET_HOST_TYPES or context.pkt_type not in _PACKET_HOST_TYPES:
        return -Errno.EINVAL
    context.pkt_type = kind
    return 0


@helper(Helper.SKB_ADJUST_ROOM)
def skb_adjust_room(machine: "Machine", skb: int, difference: int, mode: int, flags: int) -> int:
    """Make or take room after the IP header (NET) or before it (MAC)."""
    context, packet = skb_of(machine, skb)
    refused = room_refused(context, len(packet.data), difference, mode, flags)
    if refused is not None:
        return -refused
    at = context.network_offset + (header_bytes(context) if mode == AdjustRoomMode.NET else 0)
    data = packet.data
    data = data[:at] + bytes(max(difference, 0)) + data[at + max(-difference, 0) :]
    context.protocol = protocol_after(context.protocol, flags)
    machine.observed.act("skb_adjust_room", difference=difference, mode=mode, flags=flags)
    replace(machine, context, data)
    return 0


@helper(Helper.SKB_VLAN_PUSH)
def skb_vlan_push(machine: "Machine", skb: int, protocol: int, tci: int) -> int:
    """Add a VLAN tag: kept beside the packet; a tag that was kept there goes into it."""
    context, packet = skb_of(machine, skb)
    wanted = network_number(machine, protocol)
    if wanted not in (_ETH_P_8021Q, _ETH_P_8021AD):
        wanted = _ETH_P_8021Q
    data = packet.data
    if context.vlan_present:
        tag = context.vlan_proto.to_bytes(2, "big") + context.vlan_tci.to_bytes(2, "big")
        data = data[: _ETH_HLEN - 2] + tag + data[_ETH_HLEN - 2 :]
        context.protocol = context.vlan_proto
    context.vlan_present, context.vlan_proto, context.vlan_tci = 1, wanted, tci
    replace(machine, context, data)
    return 0


@helper(Helper.SKB_VLAN_POP)
def skb_vlan_pop(machine: "Machine", skb: int) -> int:
    """Remove a VLAN tag: the one beside the packet, or the first in it."""
    context, packet = skb_of(machine, skb)
    data = packet.data
    if context.vlan_present:
        context.vlan_present = context.vlan_proto = context.vlan_tci = 0
    elif int.from_bytes(data[_ETH_HLEN - 2 : _ETH_HLEN], "big") in (_ETH_P_8021Q, _ETH_P_8021AD):
        data = data[: _ETH_HLEN - 2] + data[_ETH_HLEN - 2 + _VLAN_BYTES :]
        context.protocol = int.from_bytes(data[_ETH_HLEN - 2 : _ETH_HLEN], "big")
    replace(machine, context, data)
    return 0


@helper(Helper.GET_HASH_RECALC)
def get_hash_recalc(machine: "Machine", skb: int) -> int:
    """The packet's hash, as the test gives it."""
    return skb_of(machine, skb)[0].hash


@helper(Helper.SET_HASH)
def set_hash(machine: "Machine", skb: int, value: int) -> int:
    """Set the packet's hash."""
    skb_of(machine, skb)[0].hash = value
    return 0


@helper(Helper.SET_HASH_INVALID)
def set_hash_invalid(machine: "Machine", skb: int) -> int:
    """Forget the packet's hash."""
    skb_of(machine, skb)[0].hash = 0
    return 0


# --- elsewhere --------------------------------------------------------------------------------------------------------


@helper(Helper.REDIRECT)
def redirect(machine: "Machine", ifindex: int, flags: int) -> int:
    """Send the packet to an interface, once the program returns this answer."""
    if isinstance(machine.context, Xdp):
        if flags:
            return XdpAction.ABORTED
        machine.observed.redirects.append(Redirect("redirect", ifindex, flags))
        return XdpAction.REDIRECT
    if flags & ~int(RedirectFlag.INGRESS):
        return TcxAction.DROP
    machine.observed.redirects.append(Redirect("redirect", ifindex, flags))
    return TcxAction.REDIRECT


@helper(Helper.REDIRECT_PEER)
def redirect_peer(machine: "Machine", ifindex: int, flags: int) -> int:
    """Send the packet to the other end of an interface, in its namespace."""
    if flags:
        return TcxAction.DROP
    machine.observed.redirects.append(Redirect("redirect_peer", ifindex, flags))
    return TcxAction.REDIRECT


@helper(Helper.REDIRECT_NEIGH)
def redirect_neigh(machine: "Machine", ifindex: int, params: int, size: int, flags: int) -> int:
    """Send the packet to an interface, with the neighbour's address filled in."""
    if flags or (size and size < 20):
        return TcxAction.DROP
    if size:
        machine.memory.read(params, size)
    machine.observed.redirects.append(Redirect("redirect_neigh", ifindex, flags))
    return TcxAction.REDIRECT


@helper(Helper.CLONE_REDIRECT)
def clone_redirect(machine: "Machine", skb: int, ifindex: int, flags: int) -> int:
    """Send a copy of the packet to an interface."""
    skb_of(machine, skb)
    if flags & ~int(RedirectFlag.INGRESS):
        return -Errno.EINVAL
    machine.observed.redirects.append(Redirect("clone_redirect", ifindex, flags))
    return 0


@helper(Helper.REDIRECT_MAP)
def redirect_map(machine: "Machine", map_: Map, key: int, flags: int) -> int:
    """Send the packet to what a map holds at a key; the low two bits of `flags` are the answer if it holds nothing."""
    known = _ACTION_MASK | int(RedirectFlag.BROADCAST | RedirectFlag.EXCLUDE_INGRESS)
    if flags & ~known or not isinstance(map_, ObjectMap):
        return XdpAction.ABORTED
    wanted = (key & 0xFFFFFFFF).to_bytes(4, machine.world.byteorder)
    target = None if flags & RedirectFlag.BROADCAST else map_.get(wanted)
    if target is None and not flags & RedirectFlag.BROADCAST:
        return flags & _ACTION_MASK
    machine.observed.redirects.append(Redirect("redirect_map", target, flags, map_.name, wanted))
    return XdpAction.REDIRECT
