"""What skb_adjust_room refuses, in the kernel's order (net/core/filter.c, bpf_skb_adjust_room), and what it changes."""

from pybpfasm.sim.contexts.packets import ETH_P_IP, ETH_P_IPV6, SkBuff
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.uapi import AdjustRoomEncapL2, AdjustRoomFlag, AdjustRoomMode

IP4_HEADER_BYTES, IP6_HEADER_BYTES = 20, 40
_ETH_HLEN = 14
LONGEST_PACKET = 16064  # BPF_SKB_MAX_LEN, with pages of 4 KiB
_MAX_GSO_PACKET = 0xFFFF
_MAX_ROOM = 0xFFF

_F = AdjustRoomFlag
_ENCAP_L2 = AdjustRoomEncapL2.MASK << AdjustRoomEncapL2.SHIFT
_ENCAP_L3 = _F.ENCAP_L3_IPV4 | _F.ENCAP_L3_IPV6
_ENCAP_L4 = _F.ENCAP_L4_GRE | _F.ENCAP_L4_UDP
_DECAP_L3 = _F.DECAP_L3_IPV4 | _F.DECAP_L3_IPV6
_SHRINKING = _F.FIXED_GSO | _F.NO_CSUM_RESET | _DECAP_L3
_KNOWN = int(_SHRINKING | _ENCAP_L3 | _ENCAP_L4 | _F.ENCAP_L2_ETH) | _ENCAP_L2


def longest(context: SkBuff) -> int:
    """How many bytes a packet can grow to; one that is to be cut into segments may be longer."""
    return _MAX_GSO_PACKET if context.gso_size else LONGEST_PACKET


def header_bytes(context: SkBuff) -> int:
    """The IP header without options."""
    return IP4_HEADER_BYTES if context.protocol == ETH_P_IP else IP6_HEADER_BYTES


def room_refused(context: SkBuff, length: int, difference: int, mode: int, flags: int) -> Errno | None:
    """Why a packet of `length` bytes cannot be changed so; None if it can."""
    if flags & ~_KNOWN:
        return Errno.EINVAL
    if abs(difference) > _MAX_ROOM:
        return Errno.EFAULT
    if context.protocol not in (ETH_P_IP, ETH_P_IPV6) or mode not in (AdjustRoomMode.NET, AdjustRoomMode.MAC):
        return Errno.ENOTSUPP
    if flags & _DECAP_L3 and (difference >= 0 or flags & _DECAP_L3 == _DECAP_L3):
        return Errno.EINVAL
    if difference < 0:
        return _shrinking_refused(context, length, -difference, flags)
    if length + difference > longest(context):
        return Errno.ENOTSUPP
    return _encapsulation_refused(difference, flags) if flags & _ENCAP_L3 else None


def _shrinking_refused(context: SkBuff, length: int, less: int, flags: int) -> Errno | None:
    least = header_bytes(context)
    if flags & _DECAP_L3:
        least = IP4_HEADER_BYTES if flags & _F.DECAP_L3_IPV4 else IP6_HEADER_BYTES
    if length - context.network_offset - less < least:
        return Errno.ENOTSUPP
    return Errno.EINVAL if flags & ~int(_SHRINKING) else None


def _encapsulation_refused(difference: int, flags: int) -> Errno | None:
    link_bytes = flags >> AdjustRoomEncapL2.SHIFT
    both = flags & _ENCAP_L3 == _ENCAP_L3 or flags & _ENCAP_L4 == _ENCAP_L4
    short = flags & _F.ENCAP_L2_ETH and link_bytes < _ETH_HLEN
    return Errno.EINVAL if both or short or link_bytes > difference else None


def protocol_after(protocol: int, flags: int) -> int:
    """The packet's protocol once an outer IP header of the other version has come or gone."""
    if flags & (_F.ENCAP_L3_IPV4 | _F.DECAP_L3_IPV4):
        return ETH_P_IP
    return ETH_P_IPV6 if flags & (_F.ENCAP_L3_IPV6 | _F.DECAP_L3_IPV6) else protocol
