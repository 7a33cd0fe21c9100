"""Contexts of programs that see packets: XDP and sockets' buffers (struct xdp_md, struct __sk_buff)."""

from typing import ClassVar, TypeVar

from pybpfasm.lang.contexts import Context, ContextField, context_field
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Record, be32, u32

T = TypeVar("T", bound=Record)


class PacketContext(Context):
    """A context with a packet; `data_at` and `data_end_at` are where the packet's bounds lie in it."""

    data_at: ClassVar[int]
    data_end_at: ClassVar[int]

    def packet(self, as_type: type[T], offset: int = 0) -> T | None:
        """The packet's bytes from `offset` on as a struct, in place; None if the packet ends before the struct does.

        A helper that moves the packet's data ends what this gave.
        """
        only_in_program("packet")


class XdpMd(PacketContext):
    """struct xdp_md: a packet as the driver has received it, from its Ethernet header on."""

    uapi = "xdp_md"
    data_at, data_end_at = 0, 4

    ingress_ifindex: u32 = context_field(12)
    rx_queue_index: u32 = context_field(16)


class SkBuff(PacketContext):
    """struct __sk_buff: a packet with what the kernel knows of it. `protocol` is in network order, in 32 bits."""

    uapi = "__sk_buff"
    data_at, data_end_at = 76, 80

    len: u32 = context_field(0)
    pkt_type: u32 = context_field(4)
    mark: u32 = context_field(8, writable=True)
    queue_mapping: u32 = context_field(12, writable=True)
    protocol: be32 = context_field(16)
    vlan_present: u32 = context_field(20)
    vlan_tci: u32 = context_field(24)
    priority: u32 = context_field(32, writable=True)
    ingress_ifindex: u32 = context_field(36)
    ifindex: u32 = context_field(40)
    tc_index: u32 = context_field(44, writable=True)
    cb: list[u32] = context_field(48, writable=True, count=5)
    hash: u32 = context_field(68)
    tc_classid: u32 = context_field(72, writable=True)

    def load(self, as_type: type[T], offset: int) -> T | None:
        """A copy of the packet's bytes from `offset` on, wherever they lie; None if the packet is shorter."""
        only_in_program("load")

    def store(self, offset: int, data: Record, flags: int = 0) -> int:
        """Write a struct over the packet's bytes from `offset` on: 0, or a negative errno.

        `flags`: BPF_F_RECOMPUTE_CSUM, BPF_F_INVALIDATE_HASH. It ends what `packet` gave.
        """
        only_in_program("store")


__all__ = ["ContextField", "PacketContext", "SkBuff", "XdpMd"]
