"""Contexts of packets: struct __sk_buff and struct xdp_md."""

import attrs

from pybpfasm.sim.contexts.base import Context
from pybpfasm.sim.contexts.fields import address4, address6, network, number, pointer, port32, words
from pybpfasm.sim.contexts.sockets import NO_IP4, NO_IP6, Sock

_AF_INET = 2
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
_ETH_P_802_3, _ETH_P_802_2 = 0x0001, 0x0004
_ETH_P_802_3_MIN = 0x0600
_PACKET_HOST, _PACKET_MULTICAST, _PACKET_OTHERHOST = 0, 2, 3
_ETHERNET_HEADER_BYTES = 14
_ADDRESS_BYTES = 6

# Of a page for XDP (net/bpf/test_run.c): what lies before the packet, struct xdp_frame in that, the packet's most.
_XDP_HEADROOM_BYTES, _XDP_FRAME_BYTES = 256, 40
_XDP_LINEAR_BYTES = 4096 - _XDP_HEADROOM_BYTES - 320
_FLOW_KEYS_BYTES = 56


@attrs.define(eq=False)
class SkBuff(Context):
    """struct __sk_buff: a packet in the kernel.

    `packet` begins where the program type has it begin: with the Ethernet header for tc, with the IP header for cgroup
    programs. `linear` bytes of it lie before data_end (None: all); helpers reach the others. `meta` are the bytes of
    data_meta before it. `network_offset` is where the IP header begins, for skb_load_bytes_relative. `protocol` and
    `pkt_type` are by default what the kernel's test run makes of the packet (its device's address is all zero).
    """

    uapi = "__sk_buff"
    struct_size = 192
    packet_attribute = "packet"
    meta_attribute = "meta"
    fields = (
        number("len", 0, narrow=True),
        number("pkt_type", 4, narrow=True),
        number("mark", 8, narrow=True, writes=(4,)),
        number("queue_mapping", 12, narrow=True, writes=(4,)),
        network("protocol", 16, narrow=True),
        number("vlan_present", 20, narrow=True),
        number("vlan_tci", 24, narrow=True),
        network("vlan_proto", 28, narrow=True),
        number("priority", 32, narrow=True, writes=(4,)),
        number("ingress_ifindex", 36, narrow=True),
        number("ifindex", 40, narrow=True),
        number("tc_index", 44, narrow=True, writes=(4,)),
        words("cb", 48, 5, reads=(1, 2, 4, 8), writes=(1, 2, 4, 8)),
        number("hash", 68, narrow=True),
        number("tc_classid", 72, narrow=True, writes=(4,)),
        pointer("data", 76, "start", width=4),
        pointer("data_end", 80, "end", width=4),
        number("napi_id", 84, narrow=True),
        number("family", 88, narrow=True),
        address4("remote_ip4", 92),
        address4("local_ip4", 96),
        address6("remote_ip6", 100),
        address6("local_ip6", 116),
        port32("remote_port", 132),
        number("local_port", 136, narrow=True),
        pointer("data_meta", 140, "meta", width=4),
        pointer("flow_keys", 144),
        number("tstamp", 152, 8, writes=(8,)),
        number("wire_len", 160, narrow=True),
        number("gso_segs", 164, narrow=True),
        pointer("sk", 168),
        number("gso_size", 176, narrow=True),
        number("tstamp_type", 180, 1),
        number("hwtstamp", 184, 8),
    )

    packet: bytes = b""
    meta: bytes = b""
    linear: int | None = None
    network_offset: int = _ETHERNET_HEADER_BYTES
    pkt_type: int = attrs.field(default=attrs.Factory(lambda self: self._packet_type(), takes_self=True))
    mark: int = 0
    queue_mapping: int = 0
    protocol: int = attrs.field(default=attrs.Factory(lambda self: self._protocol(), takes_self=True))
    vlan_present: int = 0
    vlan_tci: int = 0
    vlan_proto: int = 0
    priority: int = 0
    ingress_ifindex: int = 0
    ifindex: int = 1
    tc_index: int = 0
    cb: list[int] = attrs.field(factory=lambda: [0, 0, 0, 0, 0])
    hash: int = 0
    tc_classid: int = 0
    napi_id: int = 0
    family: int = _AF_INET
    remote_ip4: str = NO_IP4
    local_ip4: str = NO_IP4
    remote_ip6: str = NO_IP6
    local_ip6: str = NO_IP6
    remote_port: int = 0
    local_port: int = 0
    flow_keys: bytearray = attrs.field(factory=lambda: bytearray(_FLOW_KEYS_BYTES))
    tstamp: int = 0
    gso_segs: int = 0
    gso_size: int = 0
    tstamp_type: int = 0
    hwtstamp: int = 0
    cgroup_id: int = 0
    sk: Sock | None = None
    assigned: Sock | None = None

    @property
    def len(self) -> int:
        """How many bytes the packet has."""
        return len(self.packet)

    @property
    def wire_len(self) -> int:
        """How many bytes it has on the wire: here, as many."""
        return self.len

    def linear_length(self, length: int) -> int:
        """How many of the packet's bytes lie before data_end."""
        return length if self.linear is None else self.linear

    def _protocol(self) -> int:
        """What eth_type_trans (net/ethernet/eth.c) says; of a packet without Ethernet header, the version of its IP."""
        if self.network_offset < _ETHERNET_HEADER_BYTES:
            return ETH_P_IPV6 if self.packet[:1] and self.packet[0] >> 4 == 6 else ETH_P_IP
        if len(self.packet) < _ETHERNET_HEADER_BYTES:
            return ETH_P_IP
        kind = int.from_bytes(self.packet[_ETHERNET_HEADER_BYTES - 2 : _ETHERNET_HEADER_BYTES], "big")
        if kind >= _ETH_P_802_3_MIN:
            return kind
        is_ipx = self.packet[_ETHERNET_HEADER_BYTES:].startswith(b"\xff\xff")
        return _ETH_P_802_3 if is_ipx else _ETH_P_802_2

    def _packet_type(self) -> int:
        """Whose the packet is by the destination in its Ethernet header."""
        if self.network_offset < _ETHERNET_HEADER_BYTES or not any(self.packet[:_ADDRESS_BYTES]):
            return _PACKET_HOST
        return _PACKET_MULTICAST if self.packet[0] & 1 else _PACKET_OTHERHOST


@attrs.define(eq=False)
class Xdp(Context):
    """struct xdp_md: a packet before the kernel has made one of its own of it, from the Ethernet header on.

    `headroom` and `tailroom` say how far xdp_adjust_head and xdp_adjust_tail can grow it, in bytes; by default as
    far as in the kernel's test run, where the packet and both of them share a page of 4 KiB.
    """

    uapi = "xdp_md"
    struct_size = 24
    packet_attribute = "packet"
    meta_attribute = "meta"
    fields = (
        pointer("data", 0, "start", width=4),
        pointer("data_end", 4, "end", width=4),
        pointer("data_meta", 8, "meta", width=4),
        number("ingress_ifindex", 12),
        number("rx_queue_index", 16),
        number("egress_ifindex", 20),
    )

    packet: bytes = b""
    meta: bytes = b""
    headroom: int = _XDP_HEADROOM_BYTES - _XDP_FRAME_BYTES
    tailroom: int = attrs.field(
        default=attrs.Factory(lambda self: max(_XDP_LINEAR_BYTES - len(self.packet), 0), takes_self=True)
    )
    ingress_ifindex: int = 1
    rx_queue_index: int = 0
    egress_ifindex: int = 0
