"""Contexts of programs that see packets: XDP and sockets' buffers (struct xdp_md, struct __sk_buff)."""

from typing import ClassVar, TypeVar

from pybpfasm.lang.buffers import Data
from pybpfasm.lang.contexts import Context, ContextField, context_field
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Record, be16, be32, u32
from pybpfasm.uapi import Helper

T = TypeVar("T", bound=Record)
N = TypeVar("N", be16, be32)


def csum_diff(old: Data | None, new: Data | None, seed: int = 0) -> int:
    """By how much a checksum changes when `new` takes the place of `old`, in whole words of 4 bytes, on top of `seed`.

    None is nothing: `csum_diff(None, header)` sums up. It gives 32 bits,
    or 16 (Linux 6.12), or a negative errno.
    """
    del old, new, seed
    only_in_program("csum_diff")


class PacketContext(Context):
    """A context with a packet; `data_at` and `data_end_at` are where the packet's bounds lie in it.

    `load_helper` and `store_helper` copy from and to the packet, where it has them.
    """

    data_at: ClassVar[int]
    data_end_at: ClassVar[int]
    load_helper: ClassVar[Helper]
    store_helper: ClassVar[Helper]

    def packet(self, as_type: type[T], offset: int = 0) -> T | None:
        """The packet's bytes from `offset` on as a struct, in place; None if the packet ends before the struct does.

        A helper that moves the packet's data ends what this gave.
        """
        only_in_program("packet")


class XdpMd(PacketContext):
    """struct xdp_md: a packet as the driver has received it, from its Ethernet header on."""

    uapi = "xdp_md"
    data_at, data_end_at = 0, 4
    load_helper, store_helper = Helper.XDP_LOAD_BYTES, Helper.XDP_STORE_BYTES

    ingress_ifindex: u32 = context_field(12)
    rx_queue_index: u32 = context_field(16)

    def load(self, as_type: type[T], offset: int) -> T | None:
        """A copy of the packet's bytes from `offset` on, wherever they lie; None if it is shorter (Linux 5.18)."""
        only_in_program("load")

    def store(self, offset: int, data: Data) -> int:
        """Write over the packet's bytes from `offset` on: 0, or a negative errno (Linux 5.18)."""
        only_in_program("store")


class SkBuff(PacketContext):
    """struct __sk_buff: a packet with what the kernel knows of it. `protocol` is in network order, in 32 bits."""

    uapi = "__sk_buff"
    data_at, data_end_at = 76, 80
    load_helper, store_helper = Helper.SKB_LOAD_BYTES, Helper.SKB_STORE_BYTES

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

    def store(self, offset: int, data: Data, flags: int = 0) -> int:
        """Write over the packet's bytes from `offset` on: 0, or a negative errno.

        `flags` are those of `uapi.SkbStoreBytesFlag`. It ends what `packet` gave.
        """
        only_in_program("store")

    def l3_csum_replace(self, offset: int, old: N, new: N) -> int:
        """Mend the IP checksum at `offset` for a number that was `old` and is `new`: 0, or a negative errno."""
        only_in_program("l3_csum_replace")

    def l3_csum_add(self, offset: int, difference: int) -> int:
        """Mend the IP checksum at `offset` by what `csum_diff` gave: 0, or a negative errno."""
        only_in_program("l3_csum_add")

    def l4_csum_replace(self, offset: int, old: N, new: N, flags: int = 0) -> int:
        """Mend the TCP or UDP checksum at `offset` for a number that has changed: 0, or a negative errno.

        `flags`, of `uapi.CsumReplaceFlag`: PSEUDO_HDR for an address, MARK_MANGLED_0 for UDP, where 0 says that
        there is no checksum.
        """
        only_in_program("l4_csum_replace")

    def l4_csum_add(self, offset: int, difference: int, flags: int = 0) -> int:
        """Mend the TCP or UDP checksum at `offset` by what `csum_diff` gave: 0, or a negative errno."""
        only_in_program("l4_csum_add")


__all__ = ["ContextField", "PacketContext", "SkBuff", "XdpMd", "csum_diff"]
