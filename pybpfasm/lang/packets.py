"""Contexts of programs that see bytes of a packet or a message."""

from typing import ClassVar, TypeVar

from pybpfasm.lang.buffers import Data
from pybpfasm.lang.context_fields import Context
from pybpfasm.lang.context_structs import SkBuffFields, SkMsgFields, SkReuseportFields, XdpMdFields
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Record, be16, be32
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
    """A context with a packet; its bounds lie at `data_at` and `data_end_at`, `data_width` bytes wide."""

    data_at: ClassVar[int]
    data_end_at: ClassVar[int]
    data_width: ClassVar[int] = 4

    def packet(self, as_type: type[T], offset: int = 0) -> T | None:
        """The packet's bytes from `offset` on as a struct, in place; None if the packet ends before the struct does.

        A helper that moves the packet's data ends what this gave.
        """
        only_in_program("packet")


class CopiedContext(PacketContext):
    """A context of whose packet helpers copy: `load_helper` from it, `store_helper` to it."""

    load_helper: ClassVar[Helper]
    store_helper: ClassVar[Helper]


class XdpMd(XdpMdFields, CopiedContext):
    """struct xdp_md: a packet as the driver has received it, from its Ethernet header on."""

    data_at, data_end_at = 0, 4
    load_helper, store_helper = Helper.XDP_LOAD_BYTES, Helper.XDP_STORE_BYTES

    def load(self, as_type: type[T], offset: int) -> T | None:
        """A copy of the packet's bytes from `offset` on, wherever they lie; None if it is shorter (Linux 5.18)."""
        only_in_program("load")

    def store(self, offset: int, data: Data) -> int:
        """Write over the packet's bytes from `offset` on: 0, or a negative errno (Linux 5.18)."""
        only_in_program("store")


class SkBuff(SkBuffFields, CopiedContext):
    """struct __sk_buff: a packet with what the kernel knows of it. `protocol` is that of the Ethernet header.

    `remote_port` is in network order in 32 bits, `local_port` is in host order.
    """

    data_at, data_end_at = 76, 80
    load_helper, store_helper = Helper.SKB_LOAD_BYTES, Helper.SKB_STORE_BYTES

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


class SkMsg(SkMsgFields, PacketContext):
    """struct sk_msg_md: bytes that a socket is about to send; `packet` sees the first of its pieces.

    `local_port` is in host order, `remote_port` in network order in 32 bits.
    """

    data_at, data_end_at, data_width = 0, 8, 8


class SkReuseport(SkReuseportFields, CopiedContext):
    """struct sk_reuseport_md: a packet, from its transport header on, for one of several sockets on a port."""

    data_at, data_end_at, data_width = 0, 8, 8
    load_helper = Helper.SKB_LOAD_BYTES
