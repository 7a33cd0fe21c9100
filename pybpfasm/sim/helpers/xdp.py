"""Helpers of XDP packets, and fib_lookup (net/core/filter.c)."""

from typing import TYPE_CHECKING

from pybpfasm.sim.helpers.arguments import packet_of, xdp_of
from pybpfasm.sim.helpers.packets import load_bytes, replace, store_bytes
from pybpfasm.sim.helpers.registry import helper
from pybpfasm.sim.linux_errno import Errno
from pybpfasm.uapi import FibLookupResult, Helper

if TYPE_CHECKING:
    from pybpfasm.sim.machine import Machine

_ETH_HLEN = 14
_MAX_META = 252
_MAX_COPY = 0xFFFF
_FIB_BYTES = 64
_FIB_KNOWN_FLAGS = 0x3F


@helper(Helper.XDP_ADJUST_HEAD)
def xdp_adjust_head(machine: "Machine", xdp: int, delta: int) -> int:
    """Move the packet's begin: forwards, or backwards into the headroom."""
    context, packet = xdp_of(machine, xdp)
    data, meta = packet.data, packet.metadata
    if delta > len(data) - _ETH_HLEN or -delta > context.headroom - len(meta):
        return -Errno.EINVAL
    context.headroom += delta
    replace(machine, context, bytes(max(-delta, 0)) + data[max(delta, 0) :], meta)
    return 0


@helper(Helper.XDP_ADJUST_TAIL)
def xdp_adjust_tail(machine: "Machine", xdp: int, delta: int) -> int:
    """Move the packet's end: backwards, or forwards into the tailroom, which is zero."""
    context, packet = xdp_of(machine, xdp)
    size = len(packet.data) + delta
    if size < _ETH_HLEN or delta > context.tailroom:
        return -Errno.EINVAL
    context.tailroom -= delta
    replace(machine, context, packet.data[:size].ljust(size, b"\0"))
    return 0


@helper(Helper.XDP_ADJUST_META)
def xdp_adjust_meta(machine: "Machine", xdp: int, delta: int) -> int:
    """Move the begin of the metadata before the packet: up to 252 bytes, a multiple of 4."""
    context, packet = xdp_of(machine, xdp)
    meta = packet.metadata
    size = len(meta) - delta
    if size < 0 or size > context.headroom:
        return -Errno.EINVAL
    if size % 4 or size > _MAX_META:
        return -Errno.EACCES
    new = bytes(size - len(meta)) + meta if size > len(meta) else meta[len(meta) - size :]
    replace(machine, context, packet.data, new)
    return 0


@helper(Helper.XDP_GET_BUFF_LEN)
def xdp_get_buff_len(machine: "Machine", xdp: int) -> int:
    """How many bytes the packet has."""
    return len(xdp_of(machine, xdp)[1].data)


@helper(Helper.XDP_LOAD_BYTES)
def xdp_load_bytes(machine: "Machine", xdp: int, offset: int, target: int, size: int) -> int:
    """Copy bytes of the packet; EINVAL if it has not so many."""
    _, packet = xdp_of(machine, xdp)
    machine.memory.check_writable(target, size)
    if max(offset, size) > _MAX_COPY:
        return -Errno.EFAULT
    if offset + size > len(packet.data):
        return -Errno.EINVAL
    return load_bytes(machine, packet, offset, target, size)


@helper(Helper.XDP_STORE_BYTES)
def xdp_store_bytes(machine: "Machine", xdp: int, offset: int, source: int, size: int) -> int:
    """Write bytes into the packet; EINVAL if it has not so many."""
    _, packet = xdp_of(machine, xdp)
    data = machine.memory.read(source, size)
    if max(offset, size) > _MAX_COPY:
        return -Errno.EFAULT
    if offset + size > len(packet.data):
        return -Errno.EINVAL
    return store_bytes(machine, packet, offset, data)


@helper(Helper.FIB_LOOKUP)
def fib_lookup(machine: "Machine", context: int, params: int, size: int, flags: int) -> int:
    """The world's canned answer, in struct bpf_fib_lookup; without one: NOT_FWDED."""
    del context
    packet_of(machine)
    if size < _FIB_BYTES or flags & ~_FIB_KNOWN_FLAGS:
        return -Errno.EINVAL
    data = bytearray(machine.memory.read(params, size))
    machine.memory.check_writable(params, size)
    answer = machine.world.fib
    if answer is None:
        return FibLookupResult.NOT_FWDED
    order = machine.world.byteorder
    if answer.returns == FibLookupResult.SUCCESS:
        data[8:12] = answer.ifindex.to_bytes(4, order)
        data[12:16] = answer.metric.to_bytes(4, order)
        data[48:52] = bytes(4)
        data[52:58] = answer.source_mac[:6].ljust(6, b"\0")
        data[58:64] = answer.destination_mac[:6].ljust(6, b"\0")
        if answer.destination is not None:
            data[32 : 32 + len(answer.destination)] = answer.destination
    elif answer.returns == FibLookupResult.FRAG_NEEDED:
        data[6:8] = answer.mtu.to_bytes(2, order)
    machine.memory.write(params, bytes(data[:size]))
    return answer.returns
