"""Sockets that a program looks up by addresses and ports."""

from typing import Annotated

from pybpfasm.lang.contexts import Context, Sock, context_field
from pybpfasm.lang.layout import Length
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Struct, be16, be32, u32, u64

# BPF_F_CURRENT_NETNS: that of the program's context.
CURRENT_NETNS = -1


class Tuple4(Struct):
    """Who speaks to whom by IPv4; the first pair is the other side's, as in a packet that comes in."""

    saddr: be32
    daddr: be32
    sport: be16
    dport: be16


class Tuple6(Struct):
    """Who speaks to whom by IPv6."""

    saddr: Annotated[list[be32], Length(4)]
    daddr: Annotated[list[be32], Length(4)]
    sport: be16
    dport: be16


class TcpSock(Context):
    """struct bpf_tcp_sock: what TCP knows of a connection."""

    uapi = "bpf_tcp_sock"

    snd_cwnd: u32 = context_field(0)
    srtt_us: u32 = context_field(4)
    rtt_min: u32 = context_field(8)
    snd_ssthresh: u32 = context_field(12)
    rcv_nxt: u32 = context_field(16)
    snd_nxt: u32 = context_field(20)
    snd_una: u32 = context_field(24)
    mss_cache: u32 = context_field(28)
    ecn_flags: u32 = context_field(32)
    rate_delivered: u32 = context_field(36)
    rate_interval_us: u32 = context_field(40)
    packets_out: u32 = context_field(44)
    retrans_out: u32 = context_field(48)
    total_retrans: u32 = context_field(52)
    segs_in: u32 = context_field(56)
    data_segs_in: u32 = context_field(60)
    segs_out: u32 = context_field(64)
    data_segs_out: u32 = context_field(68)
    lost_out: u32 = context_field(72)
    sacked_out: u32 = context_field(76)
    bytes_received: u64 = context_field(80, width=8)
    bytes_acked: u64 = context_field(88, width=8)
    dsack_dups: u32 = context_field(96)
    delivered: u32 = context_field(100)
    delivered_ce: u32 = context_field(104)
    icsk_retransmits: u32 = context_field(108)


def sk_lookup_tcp(ctx: Context, peers: Tuple4 | Tuple6, netns: int = CURRENT_NETNS, flags: int = 0) -> Sock | None:
    """The TCP socket, connected or listening, that such a packet goes to; it has to be handed to `sk_release`."""
    del ctx, peers, netns, flags
    only_in_program("sk_lookup_tcp")


def skc_lookup_tcp(ctx: Context, peers: Tuple4 | Tuple6, netns: int = CURRENT_NETNS, flags: int = 0) -> Sock | None:
    """The same, also of sockets that are not yet, or no longer, connected: less of them can be read."""
    del ctx, peers, netns, flags
    only_in_program("skc_lookup_tcp")


def sk_lookup_udp(ctx: Context, peers: Tuple4 | Tuple6, netns: int = CURRENT_NETNS, flags: int = 0) -> Sock | None:
    """The UDP socket that such a packet goes to; it has to be handed to `sk_release`."""
    del ctx, peers, netns, flags
    only_in_program("sk_lookup_udp")


def sk_release(sock: Sock) -> None:
    """Give back a socket that was looked up; it cannot be used afterwards."""
    del sock
    only_in_program("sk_release")


def sk_fullsock(sock: Sock) -> Sock | None:
    """The socket with all its fields; None if it is not one yet."""
    del sock
    only_in_program("sk_fullsock")


def tcp_sock(sock: Sock) -> TcpSock | None:
    """What TCP knows of the socket; None if it is no TCP socket."""
    del sock
    only_in_program("tcp_sock")


def get_listener_sock(sock: Sock) -> Sock | None:
    """The listening socket that a socket belongs to; None if there is none."""
    del sock
    only_in_program("get_listener_sock")
