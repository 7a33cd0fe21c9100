"""Helpers of internet checksums (RFC 1071): one's complement sums of 16-bit words."""

from typing import TYPE_CHECKING

from pybpfasm.sim.helpers.arguments import skb_of
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.sim.registers import M32
from pybpfasm.uapi import CsumReplaceFlag, Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_MANGLED_0 = 0xFFFF
_M16 = 0xFFFF


def add(a: int, b: int) -> int:
    """One's complement sum of two numbers of 32 bits."""
    total = a + b
    return (total & M32) + (total >> 32)


def fold(total: int) -> int:
    """A sum as 16 bits."""
    while total >> 16:
        total = (total & _M16) + (total >> 16)
    return total


def words(machine: "Machine", data: bytes) -> int:
    """The sum of 32-bit words in the machine's order."""
    order = machine.world.byteorder
    total = 0
    for at in range(0, len(data), 4):
        total = add(total, int.from_bytes(data[at : at + 4], order))
    return total


@helper(Helper.CSUM_DIFF)
def csum_diff(machine: "Machine", old: int, old_size: int, new: int, new_size: int, seed: int) -> int:
    """The difference that replacing bytes makes to a checksum, 16 bits, added to `seed`."""
    if (old_size | new_size) & 3:
        return -Errno.EINVAL
    removed = words(machine, machine.memory.read(old, old_size))
    added = words(machine, machine.memory.read(new, new_size))
    if old_size and not new_size:
        return fold(~add(removed, ~seed & M32) & M32)
    total = add(added, seed)
    return fold(add(total, ~removed & M32) if old_size else total)


@helper(Helper.L3_CSUM_REPLACE)
def l3_csum_replace(machine: "Machine", skb: int, offset: int, old: int, new: int, flags: int) -> int:
    """Update the checksum of an IPv4 header at `offset` for a field of 2 or 4 bytes, or by a difference."""
    if flags & ~int(CsumReplaceFlag.HDR_FIELD_MASK):
        return -Errno.EINVAL
    return _replace(machine, skb, offset, old, new, flags)


@helper(Helper.L4_CSUM_REPLACE)
def l4_csum_replace(machine: "Machine", skb: int, offset: int, old: int, new: int, flags: int) -> int:
    """Update the checksum of TCP, UDP or ICMP at `offset`; MARK_MANGLED_0 leaves a checksum of zero alone."""
    known = CsumReplaceFlag.HDR_FIELD_MASK | CsumReplaceFlag.PSEUDO_HDR | CsumReplaceFlag.MARK_MANGLED_0
    if flags & ~int(known | CsumReplaceFlag.MARK_ENFORCE | CsumReplaceFlag.IPV6):
        return -Errno.EINVAL
    return _replace(machine, skb, offset, old, new, flags)


def _replace(machine: "Machine", skb: int, offset: int, old: int, new: int, flags: int) -> int:
    context, packet = skb_of(machine, skb)
    size = flags & CsumReplaceFlag.HDR_FIELD_MASK
    start = packet.meta + offset
    if offset > _M16 or offset & 1 or start + 2 > len(packet.frame):
        return -Errno.EFAULT
    order = machine.world.byteorder
    current = int.from_bytes(packet.frame[start : start + 2], order)
    keeps_zero = flags & CsumReplaceFlag.MARK_MANGLED_0
    if keeps_zero and not flags & CsumReplaceFlag.MARK_ENFORCE and current == 0:
        return 0
    if size not in (0, 2, 4) or (size == 0 and old):
        return -Errno.EINVAL
    mask = _M16 if size == 2 else M32
    total = add(add(~current & _M16, ~old & mask if size else 0), new & mask)
    updated = ~fold(total) & _M16
    if keeps_zero and updated == 0:
        updated = _MANGLED_0
    packet.frame[start : start + 2] = updated.to_bytes(2, order)
    context.packet = packet.data
    return 0


@helper(Helper.CSUM_UPDATE)
def csum_update(machine: "Machine", skb: int, total: int) -> int:
    """Refused as for a packet whose checksum the device has not summed up."""
    del total
    skb_of(machine, skb)
    return -Errno.ENOTSUPP
