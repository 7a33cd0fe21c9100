"""Hooks whose context is a struct of uapi linux/bpf.h: their decorators."""

from collections.abc import Callable

from pybpfasm.lang.contexts import CgroupDevice, SkLookup, Sock, SockAddr, SockOps, Sockopt, Sysctl
from pybpfasm.lang.packets import SkBuff, SkMsg, SkReuseport, XdpMd
from pybpfasm.lang.programs import Program, ProgramKind
from pybpfasm.uapi import AttachType, ProgramType

# What the kernel has where a program type has no attach type.
_NO_HOOK = AttachType(0)

# A number of bytes, or a negative errno; BPF_OK to BPF_LWT_REROUTE; to BPF_FLOW_DISSECTOR_CONTINUE (enum bpf_ret_code).
_LENGTH = range(-(1 << 31), 1 << 32)
_ROUTED = range(129)
_DISSECTED = range(130)

_BIND4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_BIND, SockAddr, range(4))
_BIND6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_BIND, SockAddr, range(4))
_CONNECT4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, SockAddr, range(2))
_CONNECT6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, SockAddr, range(2))
_CONNECT_UNIX = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_CONNECT, SockAddr, range(2))
_SENDMSG4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_SENDMSG, SockAddr, range(2))
_SENDMSG6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_SENDMSG, SockAddr, range(2))
_SENDMSG_UNIX = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_SENDMSG, SockAddr, range(2))
_RECVMSG4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_RECVMSG, SockAddr, range(1, 2))
_RECVMSG6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_RECVMSG, SockAddr, range(1, 2))
_RECVMSG_UNIX = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_RECVMSG, SockAddr, range(1, 2))
_GETPEERNAME4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME, SockAddr, range(1, 2))
_GETPEERNAME6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETPEERNAME, SockAddr, range(1, 2))
_GETPEERNAME_UNIX = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_GETPEERNAME, SockAddr, range(1, 2))
_GETSOCKNAME4 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETSOCKNAME, SockAddr, range(1, 2))
_GETSOCKNAME6 = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETSOCKNAME, SockAddr, range(1, 2))
_GETSOCKNAME_UNIX = ProgramKind(ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_GETSOCKNAME, SockAddr, range(1, 2))
_SOCK_CREATE = ProgramKind(ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET_SOCK_CREATE, Sock, range(2))
_SOCK_RELEASE = ProgramKind(ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET_SOCK_RELEASE, Sock, range(2))
_POST_BIND4 = ProgramKind(ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET4_POST_BIND, Sock, range(2))
_POST_BIND6 = ProgramKind(ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET6_POST_BIND, Sock, range(2))
_GETSOCKOPT = ProgramKind(ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, Sockopt, range(2))
_SETSOCKOPT = ProgramKind(ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_SETSOCKOPT, Sockopt, range(2))
_CGROUP_SKB_INGRESS = ProgramKind(ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS, SkBuff, range(2))
_CGROUP_SKB_EGRESS = ProgramKind(ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS, SkBuff, range(4))
_CGROUP_DEVICE = ProgramKind(ProgramType.CGROUP_DEVICE, AttachType.CGROUP_DEVICE, CgroupDevice, range(2))
_SYSCTL = ProgramKind(ProgramType.CGROUP_SYSCTL, AttachType.CGROUP_SYSCTL, Sysctl, range(2))
_SOCK_OPS = ProgramKind(ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, SockOps, range(2))
_SK_MSG = ProgramKind(ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT, SkMsg, range(2))
_STREAM_PARSER = ProgramKind(ProgramType.SK_SKB, AttachType.SK_SKB_STREAM_PARSER, SkBuff, _LENGTH)
_STREAM_VERDICT = ProgramKind(ProgramType.SK_SKB, AttachType.SK_SKB_STREAM_VERDICT, SkBuff, range(2))
_SKB_VERDICT = ProgramKind(ProgramType.SK_SKB, AttachType.SK_SKB_VERDICT, SkBuff, range(2))
_XDP = ProgramKind(ProgramType.XDP, AttachType.XDP, XdpMd, range(5))
_XDP_DEVMAP = ProgramKind(ProgramType.XDP, AttachType.XDP_DEVMAP, XdpMd, range(5))
_XDP_CPUMAP = ProgramKind(ProgramType.XDP, AttachType.XDP_CPUMAP, XdpMd, range(5))
_TC = ProgramKind(ProgramType.SCHED_CLS, AttachType.TCX_INGRESS, SkBuff, range(-1, 9))
_SOCKET_FILTER = ProgramKind(ProgramType.SOCKET_FILTER, _NO_HOOK, SkBuff, _LENGTH)
_LWT_IN = ProgramKind(ProgramType.LWT_IN, _NO_HOOK, SkBuff, _ROUTED)
_LWT_OUT = ProgramKind(ProgramType.LWT_OUT, _NO_HOOK, SkBuff, _ROUTED)
_LWT_XMIT = ProgramKind(ProgramType.LWT_XMIT, _NO_HOOK, SkBuff, _ROUTED)
_LWT_SEG6LOCAL = ProgramKind(ProgramType.LWT_SEG6LOCAL, _NO_HOOK, SkBuff, _ROUTED)
_FLOW_DISSECTOR = ProgramKind(ProgramType.FLOW_DISSECTOR, AttachType.FLOW_DISSECTOR, SkBuff, _DISSECTED)
_SK_LOOKUP = ProgramKind(ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP, SkLookup, range(2))
_SK_REUSEPORT = ProgramKind(ProgramType.SK_REUSEPORT, AttachType.SK_REUSEPORT_SELECT, SkReuseport, range(2))
_SK_REUSEPORT_MIGRATE = ProgramKind(
    ProgramType.SK_REUSEPORT, AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE, SkReuseport, range(2)
)


def bind4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/bind4: bind(2) of an IPv4 socket. Return 1 to go on, 0 to refuse with EPERM.

    From Linux 5.12 on 3 lets the socket have a port below 1024 without CAP_NET_BIND_SERVICE.
    """
    return Program(_BIND4, function)


def bind6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/bind6: the same for IPv6."""
    return Program(_BIND6, function)


def connect4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/connect4: runs when a socket connects to an IPv4 address. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_CONNECT4, function)


def connect6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/connect6: the same for AF_INET6 sockets, also to v4-mapped addresses. Return 1 to go on, 0 to refuse."""
    return Program(_CONNECT6, function)


def connect_unix(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/connect_unix: a Unix socket connects (Linux 6.7). Return 1 to go on, 0 to refuse."""
    return Program(_CONNECT_UNIX, function)


def sendmsg4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/sendmsg4: an unconnected UDP socket sends to an IPv4 address. Return 1 to go on, 0 to refuse."""
    return Program(_SENDMSG4, function)


def sendmsg6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/sendmsg6: the same for AF_INET6 sockets, but not to v4-mapped addresses: those come by sendmsg4."""
    return Program(_SENDMSG6, function)


def sendmsg_unix(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/sendmsg_unix: an unconnected Unix socket sends (Linux 6.7). Return 1 to go on, 0 to refuse."""
    return Program(_SENDMSG_UNIX, function)


def recvmsg4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/recvmsg4: an unconnected UDP socket is told where a datagram came from, by IPv4. Return 1."""
    return Program(_RECVMSG4, function)


def recvmsg6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/recvmsg6: the same for AF_INET6 sockets. Return 1."""
    return Program(_RECVMSG6, function)


def recvmsg_unix(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/recvmsg_unix: an unconnected Unix socket is told where a datagram came from (Linux 6.7). Return 1."""
    return Program(_RECVMSG_UNIX, function)


def getpeername4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/getpeername4: getpeername(2) of an IPv4 socket, after the kernel's answer. Return 1."""
    return Program(_GETPEERNAME4, function)


def getpeername6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/getpeername6: the same for AF_INET6 sockets. Return 1."""
    return Program(_GETPEERNAME6, function)


def getpeername_unix(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/getpeername_unix: the same for Unix sockets (Linux 6.7). Return 1."""
    return Program(_GETPEERNAME_UNIX, function)


def getsockname4(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/getsockname4: getsockname(2) of an IPv4 socket, after the kernel's answer. Return 1."""
    return Program(_GETSOCKNAME4, function)


def getsockname6(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/getsockname6: the same for AF_INET6 sockets. Return 1."""
    return Program(_GETSOCKNAME6, function)


def getsockname_unix(function: Callable[[SockAddr], int]) -> Program[SockAddr]:
    """cgroup/getsockname_unix: the same for Unix sockets (Linux 6.7). Return 1."""
    return Program(_GETSOCKNAME_UNIX, function)


def sock_create(function: Callable[[Sock], int]) -> Program[Sock]:
    """cgroup/sock_create: an IPv4 or IPv6 socket is made. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_SOCK_CREATE, function)


def sock_release(function: Callable[[Sock], int]) -> Program[Sock]:
    """cgroup/sock_release: such a socket is closed (Linux 5.9). Return 1."""
    return Program(_SOCK_RELEASE, function)


def post_bind4(function: Callable[[Sock], int]) -> Program[Sock]:
    """cgroup/post_bind4: an IPv4 socket has got its port. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_POST_BIND4, function)


def post_bind6(function: Callable[[Sock], int]) -> Program[Sock]:
    """cgroup/post_bind6: the same for IPv6."""
    return Program(_POST_BIND6, function)


def getsockopt(function: Callable[[Sockopt], int]) -> Program[Sockopt]:
    """cgroup/getsockopt: runs after the kernel's own answer. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_GETSOCKOPT, function)


def setsockopt(function: Callable[[Sockopt], int]) -> Program[Sockopt]:
    """cgroup/setsockopt: runs before the kernel sets the option. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_SETSOCKOPT, function)


def cgroup_skb_ingress(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """cgroup_skb/ingress: a packet, from its IP header on, reaches a socket. Return 1 to let it pass, 0 to drop it."""
    return Program(_CGROUP_SKB_INGRESS, function)


def cgroup_skb_egress(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """cgroup_skb/egress: a packet, from its IP header on, leaves a socket. Return 1 to let it pass, 0 to drop it.

    2 and 3 are 0 and 1 with word to TCP that the path is congested.
    """
    return Program(_CGROUP_SKB_EGRESS, function)


def cgroup_device(function: Callable[[CgroupDevice], int]) -> Program[CgroupDevice]:
    """cgroup/dev: a device file is opened or made. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_CGROUP_DEVICE, function)


def sysctl(function: Callable[[Sysctl], int]) -> Program[Sysctl]:
    """cgroup/sysctl: a file below /proc/sys is read or written. Return 1 to go on, 0 to refuse with EPERM."""
    return Program(_SYSCTL, function)


def sock_ops(function: Callable[[SockOps], int]) -> Program[SockOps]:
    """cgroup sock_ops: runs on events of TCP sockets. Return 1."""
    return Program(_SOCK_OPS, function)


def sk_msg(function: Callable[[SkMsg], int]) -> Program[SkMsg]:
    """sk_msg verdict: runs when a socket of a SOCKHASH sends. Return SK_PASS (1) or SK_DROP (0)."""
    return Program(_SK_MSG, function)


def stream_parser(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """sk_skb/stream_parser: how long the message is that the bytes of a socket of a SOCKMAP begin with.

    0 if not known yet.
    """
    return Program(_STREAM_PARSER, function)


def stream_verdict(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """sk_skb/stream_verdict: runs on such a message. Return SK_PASS (1) or SK_DROP (0)."""
    return Program(_STREAM_VERDICT, function)


def skb_verdict(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """sk_skb/verdict: runs on what a socket of a SOCKMAP receives, of any protocol (Linux 5.13).

    Return SK_PASS or SK_DROP.
    """
    return Program(_SKB_VERDICT, function)


def xdp(function: Callable[[XdpMd], int]) -> Program[XdpMd]:
    """xdp: runs on each packet that a device receives. Return XDP_PASS (2), XDP_DROP (1), XDP_TX (3)…"""
    return Program(_XDP, function)


def xdp_devmap(function: Callable[[XdpMd], int]) -> Program[XdpMd]:
    """xdp/devmap: runs on packets that a DEVMAP redirects, before they are sent (Linux 5.8). Return as for xdp."""
    return Program(_XDP_DEVMAP, function)


def xdp_cpumap(function: Callable[[XdpMd], int]) -> Program[XdpMd]:
    """xdp/cpumap: runs on packets that a CPUMAP redirects, on the CPU they went to (Linux 5.9). Return as for xdp."""
    return Program(_XDP_CPUMAP, function)


def tc(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """tc: runs on packets that come in or go out at a device. Return TC_ACT_OK (0), TC_ACT_SHOT (2)…, or -1."""
    return Program(_TC, function)


def socket_filter(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """socket: runs on what a socket receives (SO_ATTACH_BPF). Return how many bytes of it are kept; 0 drops it."""
    return Program(_SOCKET_FILTER, function)


def lwt_in(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """lwt_in: runs on packets that a route takes in. Return BPF_OK (0), BPF_DROP (2)."""
    return Program(_LWT_IN, function)


def lwt_out(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """lwt_out: runs on packets that a route sends out. Return BPF_OK (0), BPF_DROP (2)."""
    return Program(_LWT_OUT, function)


def lwt_xmit(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """lwt_xmit: runs before such packets are transmitted.

    Return BPF_OK (0), BPF_DROP (2), BPF_REDIRECT (7), BPF_LWT_REROUTE (128).
    """
    return Program(_LWT_XMIT, function)


def lwt_seg6local(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """lwt_seg6local: runs on packets for an SRv6 segment. Return BPF_OK (0), BPF_DROP (2), BPF_REDIRECT (7)."""
    return Program(_LWT_SEG6LOCAL, function)


def flow_dissector(function: Callable[[SkBuff], int]) -> Program[SkBuff]:
    """flow_dissector: says in `flow_keys` what flow a packet belongs to.

    Return BPF_OK (0), BPF_DROP (2), or 129 to let the kernel do it.
    """
    return Program(_FLOW_DISSECTOR, function)


def sk_lookup(function: Callable[[SkLookup], int]) -> Program[SkLookup]:
    """sk_lookup: chooses the socket of a packet for which there is no connected one (`helpers.sk_assign`).

    Return SK_PASS (1) or SK_DROP (0).
    """
    return Program(_SK_LOOKUP, function)


def sk_reuseport(function: Callable[[SkReuseport], int]) -> Program[SkReuseport]:
    """sk_reuseport: chooses among the sockets that listen on one port (`ReuseportSockArray.select`).

    Return SK_PASS (1) or SK_DROP (0).
    """
    return Program(_SK_REUSEPORT, function)


def sk_reuseport_migrate(function: Callable[[SkReuseport], int]) -> Program[SkReuseport]:
    """sk_reuseport/migrate: also when such a socket is closed, for what it had not accepted (Linux 5.14)."""
    return Program(_SK_REUSEPORT_MIGRATE, function)
