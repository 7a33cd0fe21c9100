"""Sockets that a program looks up by addresses and ports."""

from typing import Annotated, TypeVar

from pybpfasm.lang.contexts import Context, Sock, SockCommon, TcpSock
from pybpfasm.lang.kernel_structs import KernelStruct
from pybpfasm.lang.layout import Length
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Struct, be16, be32

S = TypeVar("S", bound=KernelStruct)

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


def sk_lookup_tcp(ctx: Context, peers: Tuple4 | Tuple6, netns: int = CURRENT_NETNS, flags: int = 0) -> Sock | None:
    """The TCP socket, connected or listening, that such a packet goes to; it has to be handed to `sk_release`."""
    del ctx, peers, netns, flags
    only_in_program("sk_lookup_tcp")


def skc_lookup_tcp(
    ctx: Context, peers: Tuple4 | Tuple6, netns: int = CURRENT_NETNS, flags: int = 0
) -> SockCommon | None:
    """The same, also of sockets that are not yet, or no longer, connected: less of them can be read."""
    del ctx, peers, netns, flags
    only_in_program("skc_lookup_tcp")


def sk_lookup_udp(ctx: Context, peers: Tuple4 | Tuple6, netns: int = CURRENT_NETNS, flags: int = 0) -> Sock | None:
    """The UDP socket that such a packet goes to; it has to be handed to `sk_release`."""
    del ctx, peers, netns, flags
    only_in_program("sk_lookup_udp")


def sk_release(sock: SockCommon) -> None:
    """Give back a socket that was looked up; it cannot be used afterwards."""
    del sock
    only_in_program("sk_release")


def sk_fullsock(sock: SockCommon) -> Sock | None:
    """The socket with all its fields; None if it is not one yet."""
    del sock
    only_in_program("sk_fullsock")


def tcp_sock(sock: SockCommon) -> TcpSock | None:
    """What TCP knows of the socket; None if it is no TCP socket."""
    del sock
    only_in_program("tcp_sock")


def get_listener_sock(sock: SockCommon) -> Sock | None:
    """The listening socket that a socket belongs to; None if there is none."""
    del sock
    only_in_program("get_listener_sock")


def skc_to_tcp_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct tcp_sock, if this is a TCP socket; None if not."""
    del sock, as_type
    only_in_program("skc_to_tcp_sock")


def skc_to_tcp6_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct tcp6_sock, if this is a TCP socket over IPv6; None if not."""
    del sock, as_type
    only_in_program("skc_to_tcp6_sock")


def skc_to_tcp_timewait_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct tcp_timewait_sock, if this is a TCP socket that waits in TIME_WAIT; None if not."""
    del sock, as_type
    only_in_program("skc_to_tcp_timewait_sock")


def skc_to_tcp_request_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct tcp_request_sock, if this is a TCP connection that is being set up; None if not."""
    del sock, as_type
    only_in_program("skc_to_tcp_request_sock")


def skc_to_udp6_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct udp6_sock, if this is a UDP socket over IPv6; None if not."""
    del sock, as_type
    only_in_program("skc_to_udp6_sock")


def skc_to_unix_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct unix_sock, if this is a Unix socket; None if not."""
    del sock, as_type
    only_in_program("skc_to_unix_sock")


def skc_to_mptcp_sock(sock: SockCommon | KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's own struct mptcp_sock, if this is an MPTCP socket; None if not."""
    del sock, as_type
    only_in_program("skc_to_mptcp_sock")


def sock_from_file(file: KernelStruct, as_type: type[S]) -> S | None:
    """The kernel's struct socket behind a file, `sock_from_file(f, socket)` (Linux 5.11); None if it is no socket."""
    del file, as_type
    only_in_program("sock_from_file")
