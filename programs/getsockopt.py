"""cgroup/getsockopt: ztunnel asks an accepted socket for SO_ORIGINAL_DST and learns where the app wanted to go."""

import pybpfasm as bpf
from programs.maps import ACCEPTING, Address, Endpoint, socket_state
from pybpfasm import Sockopt, Struct, be16, be32, htonl, u16, u32, u64

PAGE_SIZE = 4096

SOL_IP = 0
SOL_IPV6 = 41
SO_ORIGINAL_DST = 80  # IP6T_SO_ORIGINAL_DST has the same number
AF_INET = 2
AF_INET6 = 10


class SockaddrIn(Struct):
    """struct sockaddr_in."""

    sin_family: u16
    sin_port: be16
    sin_addr: be32
    sin_zero: u64


class SockaddrIn6(Struct):
    """struct sockaddr_in6."""

    sin6_family: u16
    sin6_port: be16
    sin6_flowinfo: be32
    sin6_addr: Address
    sin6_scope_id: u32


@bpf.inline
def answer_ip4(ctx: Sockopt, original: Endpoint) -> None:
    """A sockaddr_in."""
    answer = ctx.optval(SockaddrIn)
    if answer is None:
        return
    ctx.optlen = 16
    ctx.retval = 0
    answer.sin_family = AF_INET
    answer.sin_port = original.port
    answer.sin_addr = original.ip.w3
    answer.sin_zero = 0


@bpf.inline
def answer_ip6(ctx: Sockopt, original: Endpoint) -> None:
    """A sockaddr_in6."""
    answer = ctx.optval(SockaddrIn6)
    if answer is None:
        return
    ctx.optlen = 28
    ctx.retval = 0
    answer.sin6_family = AF_INET6
    answer.sin6_port = original.port
    answer.sin6_flowinfo = htonl(0)
    answer.sin6_addr = original.ip
    answer.sin6_scope_id = 0


@bpf.getsockopt
def getsockopt(ctx: Sockopt) -> int:
    """Answer SO_ORIGINAL_DST at its own level, for accepted sockets of redirected connections; leave all else alone."""
    if ctx.optlen > PAGE_SIZE:
        # A program sees one page; 0 tells the kernel to keep its own, longer answer (bpf/prog_cgroup_sockopt.rst).
        ctx.optlen = 0
        return 1
    if ctx.optname != SO_ORIGINAL_DST:
        return 1
    level = ctx.level
    if level not in (SOL_IP, SOL_IPV6):
        return 1
    state = socket_state.get(ctx.sk)
    if state is None:
        return 1
    if state.side != ACCEPTING:
        return 1
    if level == SOL_IPV6:
        if state.original.family == AF_INET6:
            answer_ip6(ctx, state.original)
    elif state.original.family == AF_INET:
        answer_ip4(ctx, state.original)
    return 1
