"""tc: TCP that arrives for an enrolled pod goes to ztunnel instead, with source and destination as they are.

client ── … ──> the pod's device on the host ── to_pod ──> ztunnel's device ── at_ztunnel ──> ztunnel's listener
client <── … ── the pod's device on the host <── from_ztunnel ── ztunnel's device <── ztunnel's accepted socket

Ztunnel's own connections may bear the addresses of those for whom it makes them: to the pod the client's, to others the
pod's. The first go to the pod's device at once, and `from_pod` brings the answers back; the second leave by the pod's
device, as answers to clients do.

What a pod sends to ztunnel itself, and ztunnel to a pod, goes from device to device: nobody else on a bridge can make
it his own, and whose packets bear ztunnel's address without having come that way, they are not ztunnel's.

Nothing is translated and nothing is kept: whose a packet is, the sockets tell that there are. Of a packet only the
Ethernet header is written. So two connections are never taken for one, whatever their ports, and the host's own rules,
connection tracking and policies see all packets between clients and pods, at the devices where they would without this.

A pod that is enrolled while connections are open keeps these: their sockets are the pod's. One that is no longer
enrolled loses none: their sockets are ztunnel's.

Ztunnel's listener has to be transparent (IP_TRANSPARENT), as ztunnel makes it: its answers bear the pod's address.
"""

from typing import Annotated

import pybpfasm as bpf
from programs.callers import ANY, set_ip4
from programs.count import count
from programs.maps import (
    BEFORE,
    EXEMPT,
    IN_MESH,
    IS_HOST,
    IS_ZTUNNEL,
    KEEP_GATEWAY,
    MAY_CALL,
    SERVING,
    Address,
    Count,
    Place,
    cgroup_info_map,
    places,
    ztunnels,
)
from pybpfasm import (
    CURRENT_NETNS,
    Length,
    SkBuff,
    SockCommon,
    Struct,
    Tuple4,
    Tuple6,
    be16,
    be32,
    cast,
    htons,
    i32,
    ntohs,
    sk_release,
    skc_lookup_tcp,
    u8,
    u32,
)
from pybpfasm import helpers as h

OUT_PORT = 15001
IN_PORT = 15006
HBONE_PORT = 15008

# Whether new connections reach the pod itself while no ztunnel is known.
FAIL_OPEN = False

# TC_ACT_…, the same as tcx' and as a tc filter's.
NEXT = -1
DROP = 2

BPF_F_INGRESS = 1

# What is for ztunnel in its namespace, though its address is another's, has this mark: the routes there go by it.
ROUTE_MARK = 0x6D620000

# What ztunnel has sent has this one on its way from ztunnel's device to a pod's, and nowhere else.
SENT_MARK = 0x6D620001

ETHERNET_BYTES = 14
SOURCE_MAC_AT = 6
ETHERTYPE_IP4 = 0x0800
ETHERTYPE_IP6 = 0x86DD
ETHERTYPE_VLAN, ETHERTYPE_PROVIDER_VLAN = 0x8100, 0x88A8

TCP, ICMP, ICMP6 = 6, 1, 58
TCP_LISTEN = 10
SYN, ACK = 0x02, 0x10
FRAGMENT_OFFSET, FRAGMENT6_OFFSET = 0x1FFF, 0xFFF8
ICMP_UNREACHABLE, ICMP6_UNREACHABLE, ICMP6_TOO_BIG = 3, 1, 2
ICMP_BYTES = 8

# What a packet shows: not TCP; a later fragment of TCP; TCP that is cut off before its flags; a segment; a message
# about a segment.
OTHER, FRAGMENTED, CUT, SEGMENT, MESSAGE = 0, 1, 2, 3, 4

NO_PORT = htons(0)
NO_ADDRESS = Address(w0=ANY, w1=ANY, w2=ANY, w3=ANY)

# Headers of IPv6 before TCP's. A packet that has more of them than this is no one's.
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
MOST_HEADERS = 4
IP6_BYTES = 40


class Ip4(Struct, packed=True):
    """An IPv4 header without options."""

    version_and_words: u8
    tos: u8
    length: be16
    id: be16
    fragment: be16
    ttl: u8
    protocol: u8
    checksum: be16
    source: be32
    destination: be32


class Ip6(Struct):
    """An IPv6 header."""

    version: be32
    length: be16
    next_header: u8
    hops: u8
    source: Address
    destination: Address


class Message4(Struct, packed=True):
    """An ICMP message, with the header of the packet that it is about."""

    type: u8
    code: u8
    rest: Annotated[bytes, Length(6)]
    ip: Ip4


class Message6(Struct, packed=True):
    """An ICMPv6 message, with the header of the packet that it is about."""

    type: u8
    code: u8
    rest: Annotated[bytes, Length(6)]
    ip: Ip6


class Extension(Struct):
    """How IPv6's further headers begin; `fragment` is a fragment header's."""

    next_header: u8
    length: u8
    fragment: be16


class Tcp(Struct, packed=True):
    """A TCP header, up to its flags."""

    source: be16
    destination: be16
    numbers: Annotated[bytes, Length(8)]
    words: u8
    flags: u8


class Ports(Struct):
    """How a TCP header begins."""

    source: be16
    destination: be16


class Segment(Struct):
    """What is read of a packet: its addresses, and if it is a `SEGMENT` its ports and flags.

    Of a `MESSAGE` about a segment, these are as they would be in an answer to the segment.
    """

    source: Address = NO_ADDRESS
    destination: Address = NO_ADDRESS
    source_port: be16 = NO_PORT
    destination_port: be16 = NO_PORT
    flags: u32 = 0


@bpf.inline
def read_tcp(ctx: SkBuff, segment: Segment, at: int) -> int:
    """Read ports and flags of a TCP header."""
    tcp = ctx.load(Tcp, at)
    if tcp is None:
        return CUT
    segment.source_port = tcp.source
    segment.destination_port = tcp.destination
    segment.flags = tcp.flags
    return SEGMENT


@bpf.inline
def read_returned(ctx: SkBuff, segment: Segment, at: int) -> int:
    """Read ports of a TCP header that has come back in a message: its sender is who the message is for."""
    ports = ctx.load(Ports, at)
    if ports is None:
        return OTHER
    segment.source_port = ports.destination
    segment.destination_port = ports.source
    return MESSAGE


@bpf.inline
def header_bytes(ip: Ip4) -> int:
    """How long an IPv4 header is, with its options."""
    return (ip.version_and_words & 15) * 4


@bpf.inline
def read4(ctx: SkBuff, segment: Segment) -> int:
    """Read an IPv4 packet."""
    ip = ctx.load(Ip4, ETHERNET_BYTES)
    if ip is None:
        return OTHER
    set_ip4(segment.source, ip.source)
    set_ip4(segment.destination, ip.destination)
    at = ETHERNET_BYTES + header_bytes(ip)
    if ip.protocol == TCP:
        if ntohs(ip.fragment) & FRAGMENT_OFFSET != 0:
            return FRAGMENTED
        return read_tcp(ctx, segment, at)
    if ip.protocol != ICMP:
        return OTHER
    message = ctx.load(Message4, at)
    if message is None:
        return OTHER
    if message.type != ICMP_UNREACHABLE or message.ip.protocol != TCP:
        return OTHER
    seen = read_returned(ctx, segment, at + ICMP_BYTES + header_bytes(message.ip))
    if seen == MESSAGE:
        set_ip4(segment.source, message.ip.destination)
    return seen


@bpf.inline
def read6(ctx: SkBuff, segment: Segment) -> int:
    """Read an IPv6 packet."""
    ip = ctx.load(Ip6, ETHERNET_BYTES)
    if ip is None:
        return OTHER
    segment.source = ip.source
    segment.destination = ip.destination
    at = ETHERNET_BYTES + IP6_BYTES
    header = ip.next_header
    for _ in bpf.unroll(range(MOST_HEADERS)):
        if header not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
            break
        extension = ctx.load(Extension, at)
        if extension is None:
            return CUT
        if header == FRAGMENT:
            if ntohs(extension.fragment) & FRAGMENT6_OFFSET != 0:
                # What begins in the middle shows only what began it: of TCP's, or of a header's before TCP's.
                return FRAGMENTED if extension.next_header in (TCP, HOP_BY_HOP, ROUTING, DESTINATION) else OTHER
            at += 8
        else:
            at += (extension.length + 1) * 8
        header = extension.next_header
    if header == TCP:
        return read_tcp(ctx, segment, at)
    if header in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION):
        return CUT
    if header != ICMP6:
        return OTHER
    message = ctx.load(Message6, at)
    if message is None:
        return OTHER
    if message.type not in (ICMP6_UNREACHABLE, ICMP6_TOO_BIG) or message.ip.next_header != TCP:
        return OTHER
    seen = read_returned(ctx, segment, at + ICMP_BYTES + IP6_BYTES)
    if seen == MESSAGE:
        segment.source = message.ip.destination
    return seen


@bpf.inline
def read(ctx: SkBuff, segment: Segment) -> int:
    """Read a packet."""
    if ctx.protocol == htons(ETHERTYPE_IP4):
        return read4(ctx, segment)
    if ctx.protocol == htons(ETHERTYPE_IP6):
        return read6(ctx, segment)
    return OTHER


@bpf.inline
def is_tagged(ctx: SkBuff) -> bool:
    """Whether a packet has two VLAN tags: of one the kernel has taken note. Pods take both off, and what is behind."""
    if ctx.protocol not in (htons(ETHERTYPE_VLAN), htons(ETHERTYPE_PROVIDER_VLAN)):
        return False
    count(Count.DROPPED_TAGGED)
    return True


@bpf.inline
def find(ctx: SkBuff, segment: Segment, netns_id: int) -> SockCommon | None:
    """The socket that a segment goes to in a namespace; it has to be released."""
    source, destination = segment.source, segment.destination
    if ctx.protocol == htons(ETHERTYPE_IP6):
        return skc_lookup_tcp(
            ctx,
            Tuple6(
                saddr=[source.w0, source.w1, source.w2, source.w3],
                daddr=[destination.w0, destination.w1, destination.w2, destination.w3],
                sport=segment.source_port,
                dport=segment.destination_port,
            ),
            netns_id,
        )
    return skc_lookup_tcp(
        ctx,
        Tuple4(saddr=source.w3, daddr=destination.w3, sport=segment.source_port, dport=segment.destination_port),
        netns_id,
    )


@bpf.inline
def is_open(ctx: SkBuff, segment: Segment, netns_id: int) -> bool:
    """Whether a namespace has a socket for a segment's connection; one that listens is for none in particular."""
    found = find(ctx, segment, netns_id)
    if found is None:
        return False
    state = found.state
    sk_release(found)
    return state != TCP_LISTEN


@bpf.inline
def is_request(segment: Segment) -> bool:
    """Whether a segment asks for a new connection."""
    return segment.flags & (SYN | ACK) == SYN


@bpf.inline
def is_exempt(ctx: SkBuff) -> bool:
    """Whether a packet comes from a process of the host that is left alone, such as the kubelet."""
    group = cgroup_info_map.lookup(h.skb_cgroup_id(ctx))
    if group is None:
        return False
    return group.flags & EXEMPT != 0


@bpf.inline
def is_of(address: Address, flag: int) -> bool:
    """Whether an address is of this kind."""
    place = places.lookup(address)
    if place is None:
        return False
    return place.flags & flag != 0


@bpf.inline
def pod_at(address: Address) -> Place | None:
    """The pod that has an address and is enrolled, or was; its device is known."""
    place = places.lookup(address)
    if place is None:
        return None
    if place.flags & (IS_ZTUNNEL | IS_HOST) != 0 or place.ifindex == 0:
        return None
    return place


@bpf.inline
def hand_over(ctx: SkBuff, to: Place) -> i32:
    """Send a packet to a device on the host, for who is behind it."""
    if ctx.store(0, to.mac) != 0:
        return DROP
    return cast(i32, h.redirect(to.ifindex, 0))


@bpf.inline
def to_serving(ctx: SkBuff) -> i32:
    """Send a packet to the ztunnel that serves."""
    ztunnel = ztunnels.lookup(SERVING)
    if ztunnel is None:
        if FAIL_OPEN:
            return NEXT
        count(Count.DROPPED_NO_ZTUNNEL)
        return DROP
    return hand_over(ctx, ztunnel)


@bpf.inline
def as_new(ctx: SkBuff, pod: Place) -> i32:
    """What becomes of a packet that belongs to no connection that is known."""
    if pod.flags & IN_MESH == 0:
        return NEXT
    return to_serving(ctx)


@bpf.inline
def request(ctx: SkBuff, pod: Place) -> i32:
    """What becomes of a request for a connection."""
    if pod.flags & IN_MESH == 0 or is_exempt(ctx):
        return NEXT
    count(Count.STEERED)
    return to_serving(ctx)


@bpf.inline
def by_sockets(ctx: SkBuff, segment: Segment, pod: Place, *, message: bool) -> i32:
    """What becomes of a packet of a connection: it goes where its socket is."""
    for which in bpf.unroll((SERVING, BEFORE)):
        ztunnel = ztunnels.lookup(which)
        if ztunnel is not None and is_open(ctx, segment, ztunnel.netns_id):
            return hand_over(ctx, ztunnel)
    if message or is_open(ctx, segment, pod.netns_id):
        return NEXT
    return as_new(ctx, pod)


@bpf.inline
def steered(ctx: SkBuff, segment: Segment, seen: int) -> i32:
    """What becomes of a packet at a pod's device."""
    pod = pod_at(segment.destination)
    if pod is None:
        return NEXT
    if seen == MESSAGE:
        return by_sockets(ctx, segment, pod, message=True)
    if seen in (FRAGMENTED, CUT):
        return as_new(ctx, pod)
    if is_request(segment):
        return request(ctx, pod)
    return by_sockets(ctx, segment, pod, message=False)


@bpf.inline
def was_sent_by_ztunnel(ctx: SkBuff) -> bool:
    """Whether `from_ztunnel` has sent a packet to this device; it loses its mark."""
    if ctx.mark != SENT_MARK:
        return False
    ctx.mark = 0
    return True


@bpf.tc
def to_pod(ctx: SkBuff) -> int:
    """At a pod's device on the host, a packet to the pod."""
    if was_sent_by_ztunnel(ctx):
        return NEXT
    if is_tagged(ctx):
        return DROP
    segment = Segment()
    seen = read(ctx, segment)
    return NEXT if seen == OTHER else steered(ctx, segment, seen)


@bpf.tc
def to_ztunnel(ctx: SkBuff) -> int:
    """At ztunnel's device on the host, a packet to it: some ports are for those whose connections are sent there."""
    if is_tagged(ctx):
        return DROP
    segment = Segment()
    seen = read(ctx, segment)
    if seen not in (CUT, SEGMENT):
        return NEXT
    if not is_of(segment.destination, IS_ZTUNNEL):
        return NEXT
    if seen == SEGMENT:
        if segment.destination_port not in (htons(OUT_PORT), htons(IN_PORT)) or not is_request(segment):
            return NEXT
        if is_of(segment.source, MAY_CALL | IS_HOST):
            return NEXT
    count(Count.DROPPED_DIRECT)
    return DROP


@bpf.tc
def from_pod(ctx: SkBuff) -> int:
    """At a pod's device on the host, a packet from the pod: to ztunnel, or an answer to what that has sent.

    What bears another's address is left to the host's own checks.
    """
    if was_sent_by_ztunnel(ctx):
        return NEXT
    segment = Segment()
    seen = read(ctx, segment)
    pod = places.lookup(segment.source)
    if pod is None:
        return NEXT
    if pod.ifindex != ctx.ifindex:
        return NEXT
    to = places.lookup(segment.destination)
    if to is not None and to.flags & IS_ZTUNNEL != 0:
        return hand_over(ctx, to)
    if seen != SEGMENT:
        return NEXT
    for which in bpf.unroll((SERVING, BEFORE)):
        ztunnel = ztunnels.lookup(which)
        if ztunnel is not None and is_open(ctx, segment, ztunnel.netns_id):
            return hand_over(ctx, ztunnel)
    return NEXT


@bpf.tc
def from_ztunnel(ctx: SkBuff) -> int:
    """At ztunnel's device on the host, a packet from ztunnel, which may bear the source address of another.

    To an enrolled pod it goes at once: the host would not take another's from here. One in a pod's name to anybody else
    comes in as if from the pod.
    """
    segment = Segment()
    seen = read(ctx, segment)
    if seen in (OTHER, MESSAGE) and not is_of(segment.source, IS_ZTUNNEL):
        return NEXT
    pod = pod_at(segment.destination)
    if pod is not None:
        ctx.mark = SENT_MARK
        return hand_over(ctx, pod)
    pod = pod_at(segment.source)
    if pod is None:
        return NEXT
    if ctx.store(SOURCE_MAC_AT, pod.mac) != 0:
        return DROP
    if pod.flags & KEEP_GATEWAY == 0 and ctx.store(0, pod.gateway) != 0:
        return DROP
    ctx.mark = SENT_MARK
    return cast(i32, h.redirect(pod.ifindex, BPF_F_INGRESS))


@bpf.inline
def assigned(ctx: SkBuff, segment: Segment) -> i32:
    """Give a segment of no connection to the socket that listens at ztunnel's port."""
    if is_open(ctx, segment, CURRENT_NETNS):
        return NEXT
    if segment.destination_port != htons(HBONE_PORT):
        segment.destination_port = htons(IN_PORT)
    segment.source_port = NO_PORT  # which no connection has: a listening socket is found
    listener = find(ctx, segment, CURRENT_NETNS)
    if listener is None:
        return DROP
    refused = h.sk_assign(ctx, listener, 0)
    sk_release(listener)
    return NEXT if refused == 0 else DROP


@bpf.tc
def at_ztunnel(ctx: SkBuff) -> int:
    """At ztunnel's own device, a packet for it, though its address be another's.

    One that is for a pod belongs to a connection, or it is for the socket that listens for such. One from a pod answers
    what ztunnel has sent in a client's name.
    """
    segment = Segment()
    seen = read(ctx, segment)
    if seen == OTHER or is_of(segment.destination, IS_ZTUNNEL):
        return NEXT
    for_pod = pod_at(segment.destination) is not None
    if not for_pod and pod_at(segment.source) is None:
        return NEXT
    ctx.mark = ROUTE_MARK
    if seen != SEGMENT or not for_pod:
        return NEXT  # of fragments a whole is made first
    return assigned(ctx, segment)
