"""Contexts of sockets: struct bpf_sock, bpf_tcp_sock, bpf_sock_addr, bpf_sock_ops, sk_msg_md, bpf_sockopt, …

Ports are numbers, addresses are text; which bytes a program finds for them follows from the table of each class.
"""

import attrs

from pybpfasm.sim.contexts.base import Context
from pybpfasm.sim.contexts.fields import (
    address4,
    address6,
    network,
    number,
    padded_port,
    pointer,
    port16,
    port32,
    signed,
    words,
)

_AF_INET = 2
_SOCK_STREAM = 1
_IPPROTO_TCP = 6

NO_IP4 = "0.0.0.0"  # noqa: S104 - a field that is not set
NO_IP6 = "::"


def _tcp_fields(base: int, names: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, base + 4 * index) for index, name in enumerate(names.split()))


@attrs.define(eq=False)
class TcpSock(Context):
    """struct bpf_tcp_sock: a TCP socket's counters."""

    uapi = "bpf_tcp_sock"
    struct_size = 112
    fields = (
        *(
            number(name, offset)
            for name, offset in _tcp_fields(
                0,
                """snd_cwnd srtt_us rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache ecn_flags rate_delivered
                rate_interval_us packets_out retrans_out total_retrans segs_in data_segs_in segs_out data_segs_out
                lost_out sacked_out""",
            )
        ),
        number("bytes_received", 80, 8),
        number("bytes_acked", 88, 8),
        *(
            number(name, offset)
            for name, offset in _tcp_fields(96, "dsack_dups delivered delivered_ce icsk_retransmits")
        ),
    )

    snd_cwnd: int = 10
    srtt_us: int = 0
    rtt_min: int = 0
    snd_ssthresh: int = 0
    rcv_nxt: int = 0
    snd_nxt: int = 0
    snd_una: int = 0
    mss_cache: int = 1460
    ecn_flags: int = 0
    rate_delivered: int = 0
    rate_interval_us: int = 0
    packets_out: int = 0
    retrans_out: int = 0
    total_retrans: int = 0
    segs_in: int = 0
    data_segs_in: int = 0
    segs_out: int = 0
    data_segs_out: int = 0
    lost_out: int = 0
    sacked_out: int = 0
    bytes_received: int = 0
    bytes_acked: int = 0
    dsack_dups: int = 0
    delivered: int = 0
    delivered_ce: int = 0
    icsk_retransmits: int = 0


@attrs.define(eq=False)
class Sock(Context):
    """struct bpf_sock: a socket. `src_port` is in host order for the program, `dst_port` in network order.

    The rest is what helpers look at: `cookie` and `netns_cookie` (0: the world's), `uid`, `options` by level and
    number, `callback_flags` of sock_ops, `tcp` for a full TCP socket, `listener`. Sockets are told apart by identity.
    """

    uapi = "bpf_sock"
    struct_size = 80
    fields = (
        number("bound_dev_if", 0, writes=(4,)),
        number("family", 4, narrow=True),
        number("type", 8, narrow=True),
        number("protocol", 12, narrow=True),
        number("mark", 16, writes=(4,)),
        number("priority", 20, writes=(4,)),
        address4("src_ip4", 24, narrow=True),
        address6("src_ip6", 28, reads=(1, 2, 4)),
        number("src_port", 44, narrow=True),
        padded_port("dst_port", 48),
        address4("dst_ip4", 52, narrow=True),
        address6("dst_ip6", 56, reads=(1, 2, 4)),
        number("state", 72, narrow=True),
        signed("rx_queue_mapping", 76),
    )

    bound_dev_if: int = 0
    family: int = _AF_INET
    type: int = _SOCK_STREAM
    protocol: int = _IPPROTO_TCP
    mark: int = 0
    priority: int = 0
    src_ip4: str = NO_IP4
    src_ip6: str = NO_IP6
    src_port: int = 0
    dst_port: int = 0
    dst_ip4: str = NO_IP4
    dst_ip6: str = NO_IP6
    state: int = 1
    rx_queue_mapping: int = -1
    cookie: int = 0
    netns_cookie: int = 0
    uid: int | None = None
    options: dict[tuple[int, int], bytes] = attrs.field(factory=dict)
    callback_flags: int = 0
    tcp: TcpSock | None = attrs.field(factory=TcpSock)
    listener: "Sock | None" = None


@attrs.define(eq=False)
class SockAddr(Context):
    """struct bpf_sock_addr: an address that is about to be used (connect, bind, sendmsg, getpeername, …)."""

    uapi = "bpf_sock_addr"
    struct_size = 72
    fields = (
        number("user_family", 0),
        address4("user_ip4", 4, narrow=True, writes=(4,)),
        address6("user_ip6", 8, reads=(1, 2, 4, 8), writes=(4, 8)),
        port16("user_port", 24, reads=(1, 2, 4), writes=(4,)),
        number("family", 28),
        number("type", 32),
        number("protocol", 36),
        address4("msg_src_ip4", 40, narrow=True, writes=(4,)),
        address6("msg_src_ip6", 44, reads=(1, 2, 4, 8), writes=(4, 8)),
        pointer("sk", 64),
    )

    user_family: int = _AF_INET
    user_ip4: str = NO_IP4
    user_ip6: str = NO_IP6
    user_port: int = 0
    family: int = _AF_INET
    type: int = _SOCK_STREAM
    protocol: int = _IPPROTO_TCP
    msg_src_ip4: str = NO_IP4
    msg_src_ip6: str = NO_IP6
    sk: Sock | None = attrs.field(factory=Sock)


@attrs.define(eq=False)
class SockOps(Context):
    """struct bpf_sock_ops: something happened to a TCP socket; `op` says what.

    `args` are the event's arguments; `reply` is what the program answers (-1: nothing yet). `sk` is None where the
    kernel has no full socket. `skb_data` are the bytes of the TCP header and its options. `written` is what
    store_hdr_opt wrote, `reserved` what reserve_hdr_opt asked for, in bytes.
    """

    uapi = "bpf_sock_ops"
    struct_size = 224
    packet_attribute = "skb_data"
    fields = (
        number("op", 0),
        # Of the arguments' union only `reply` can be written, the first word.
        attrs.evolve(words("args", 4, 4, writes=(4,)), writable_bytes=4),
        number("family", 20),
        address4("remote_ip4", 24),
        address4("local_ip4", 28),
        address6("remote_ip6", 32),
        address6("local_ip6", 48),
        port32("remote_port", 64),
        number("local_port", 68),
        number("is_fullsock", 72),
        *(
            number(name, offset)
            for name, offset in _tcp_fields(
                76,
                """snd_cwnd srtt_us bpf_sock_ops_cb_flags state rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache
                ecn_flags rate_delivered rate_interval_us packets_out retrans_out total_retrans segs_in data_segs_in
                segs_out data_segs_out lost_out sacked_out""",
            )
        ),
        number("sk_txhash", 164, writes=(4,)),
        number("bytes_received", 168, 8),
        number("bytes_acked", 176, 8),
        pointer("sk", 184),
        pointer("skb_data", 192, "start"),
        pointer("skb_data_end", 200, "end"),
        number("skb_len", 208),
        number("skb_tcp_flags", 212, narrow=True),
        number("skb_hwtstamp", 216, 8),
    )

    op: int = 0
    args: list[int] = attrs.field(factory=lambda: [0, 0, 0, 0])
    family: int = _AF_INET
    remote_ip4: str = NO_IP4
    local_ip4: str = NO_IP4
    remote_ip6: str = NO_IP6
    local_ip6: str = NO_IP6
    remote_port: int = 0
    local_port: int = 0
    is_fullsock: int = 1
    snd_cwnd: int = 10
    srtt_us: int = 0
    state: int = 1
    rtt_min: int = 0
    snd_ssthresh: int = 0
    rcv_nxt: int = 0
    snd_nxt: int = 0
    snd_una: int = 0
    mss_cache: int = 1460
    ecn_flags: int = 0
    rate_delivered: int = 0
    rate_interval_us: int = 0
    packets_out: int = 0
    retrans_out: int = 0
    total_retrans: int = 0
    segs_in: int = 0
    data_segs_in: int = 0
    segs_out: int = 0
    data_segs_out: int = 0
    lost_out: int = 0
    sacked_out: int = 0
    sk_txhash: int = 0
    bytes_received: int = 0
    bytes_acked: int = 0
    sk: Sock | None = attrs.field(factory=Sock)
    skb_data: bytes = b""
    skb_len: int = 0
    skb_tcp_flags: int = 0
    skb_hwtstamp: int = 0
    reserved: int = 0
    written: bytes = b""

    @property
    def reply(self) -> int:
        """What the program answers, signed: the first of `args`, in the same place."""
        return (self.args[0] & 0xFFFFFFFF ^ 0x80000000) - 0x80000000

    @property
    def bpf_sock_ops_cb_flags(self) -> int:
        """Which events the socket asked for; they are kept on the socket."""
        return self.sk.callback_flags if self.sk is not None else 0


@attrs.define(eq=False)
class SkMsg(Context):
    """struct sk_msg_md: bytes that a socket is about to send."""

    uapi = "sk_msg_md"
    struct_size = 80
    packet_attribute = "data"
    fields = (
        pointer("data", 0, "start"),
        pointer("data_end", 8, "end"),
        number("family", 16),
        address4("remote_ip4", 20),
        address4("local_ip4", 24),
        address6("remote_ip6", 28),
        address6("local_ip6", 44),
        port32("remote_port", 60),
        number("local_port", 64),
        number("size", 68),
        pointer("sk", 72),
    )

    data: bytes = b""
    family: int = _AF_INET
    remote_ip4: str = NO_IP4
    local_ip4: str = NO_IP4
    remote_ip6: str = NO_IP6
    local_ip6: str = NO_IP6
    remote_port: int = 0
    local_port: int = 0
    sk: Sock | None = attrs.field(factory=Sock)

    @property
    def size(self) -> int:
        """How many bytes the message has."""
        return len(self.data)


@attrs.define(eq=False)
class Sockopt(Context):
    """struct bpf_sockopt: a getsockopt(2) that the kernel has answered, or a setsockopt(2) that is about to be.

    `optval` is the caller's buffer; `optlen` is its length unless another is given.
    """

    uapi = "bpf_sockopt"
    struct_size = 40
    packet_attribute = "optval"
    fields = (
        pointer("sk", 0),
        pointer("optval", 8, "start"),
        pointer("optval_end", 16, "end"),
        signed("level", 24, writes=(4,)),
        signed("optname", 28, writes=(4,)),
        signed("optlen", 32, writes=(4,)),
        signed("retval", 36, writes=(4,)),
    )

    level: int = 0
    optname: int = 0
    optval: bytes = b""
    optlen: int = attrs.field(default=attrs.Factory(lambda self: len(self.optval), takes_self=True))
    retval: int = 0
    sk: Sock | None = attrs.field(factory=Sock)


@attrs.define(eq=False)
class SkLookup(Context):
    """struct bpf_sk_lookup: which socket is to get a packet. `sk` is the choice, from sk_assign."""

    uapi = "bpf_sk_lookup"
    struct_size = 72
    fields = (
        pointer("sk", 0),
        number("family", 8, narrow=True),
        number("protocol", 12, narrow=True),
        address4("remote_ip4", 16, narrow=True),
        address6("remote_ip6", 20, reads=(1, 2, 4)),
        padded_port("remote_port", 36),
        address4("local_ip4", 40, narrow=True),
        address6("local_ip6", 44, reads=(1, 2, 4)),
        number("local_port", 60, narrow=True),
        number("ingress_ifindex", 64, narrow=True),
    )

    sk: Sock | None = None
    family: int = _AF_INET
    protocol: int = _IPPROTO_TCP
    remote_ip4: str = NO_IP4
    remote_ip6: str = NO_IP6
    remote_port: int = 0
    local_ip4: str = NO_IP4
    local_ip6: str = NO_IP6
    local_port: int = 0
    ingress_ifindex: int = 0


@attrs.define(eq=False)
class SkReuseport(Context):
    """struct sk_reuseport_md: which socket of a group is to get a packet; `data` begins with the TCP or UDP header.

    `selected` is the choice, from sk_select_reuseport.
    """

    uapi = "sk_reuseport_md"
    struct_size = 56
    packet_attribute = "data"
    fields = (
        pointer("data", 0, "start"),
        pointer("data_end", 8, "end"),
        number("len", 16, narrow=True),
        network("eth_protocol", 20),
        number("ip_protocol", 24, narrow=True),
        number("bind_inany", 28, narrow=True),
        number("hash", 32),
        pointer("sk", 40),
        pointer("migrating_sk", 48),
    )

    data: bytes = b""
    eth_protocol: int = 0x0800
    ip_protocol: int = _IPPROTO_TCP
    bind_inany: int = 0
    hash: int = 0
    sk: Sock | None = attrs.field(factory=Sock)
    migrating_sk: Sock | None = None
    selected: Sock | None = None

    @property
    def len(self) -> int:
        """How many bytes the packet has from the TCP or UDP header on."""
        return len(self.data)
