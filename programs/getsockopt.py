"""cgroup/getsockopt: ztunnel asks an accepted socket for SO_ORIGINAL_DST and learns where the app wanted to go."""

import pybpfasm as bpf
from programs.maps import ACCEPTING, Address, Connection, Endpoint, connections, socket_state
from programs.slots import COOKIE, connection_number, is_connection_of, is_still
from pybpfasm import Sock, Sockopt, Struct, be16, be32, htonl, ntohs, u16, u32, u64
from pybpfasm import helpers as h

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
def is_told_ip4(ctx: Sockopt, original: Endpoint) -> bool:
    """Whether there is room for a sockaddr_in, which is the answer then."""
    answer = ctx.optval(SockaddrIn)
    if answer is None:
        return False
    ctx.optlen = 16
    ctx.retval = 0
    answer.sin_family = AF_INET
    answer.sin_port = original.port
    answer.sin_addr = original.ip.w3
    answer.sin_zero = 0
    return True


@bpf.inline
def is_told_ip6(ctx: Sockopt, original: Endpoint) -> bool:
    """The same with a sockaddr_in6."""
    answer = ctx.optval(SockaddrIn6)
    if answer is None:
        return False
    ctx.optlen = 28
    ctx.retval = 0
    answer.sin6_family = AF_INET6
    answer.sin6_port = original.port
    answer.sin6_flowinfo = htonl(0)
    answer.sin6_addr = original.ip
    answer.sin6_scope_id = 0
    return True


@bpf.inline
def is_told(ctx: Sockopt, level: int, original: Endpoint) -> bool:
    """Whether it is told: in the form of the family that was dialled, if it is that family's option."""
    if level == SOL_IPV6:
        return original.family == AF_INET6 and is_told_ip6(ctx, original)
    return original.family == AF_INET and is_told_ip4(ctx, original)


@bpf.inline
def as_accepted(ctx: Sockopt, sk: Sock) -> Connection:
    """The connection of an accepted socket."""
    return Connection(
        netns_cookie=h.get_netns_cookie(ctx),
        client=Address(w0=sk.dst_ip6[0], w1=sk.dst_ip6[1], w2=sk.dst_ip6[2], w3=sk.dst_ip6[3]),
        client_port=ntohs(sk.dst_port),
        server=Address(w0=sk.src_ip6[0], w1=sk.src_ip6[1], w2=sk.src_ip6[2], w3=sk.src_ip6[3]),
        server_port=sk.src_port,
    )


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
    sk = ctx.sk
    # First: the slot may have a later connection by now, whose SYN has the same addresses and ports.
    state = socket_state.get(sk)
    if state is not None and state.side == ACCEPTING:
        is_told(ctx, level, state.original)
        return 1
    key = as_accepted(ctx, sk)
    slot = connections.lookup(connection_number(key.client.w3, key.client_port))
    if slot is None:
        return 1
    owner = slot.owner
    # Before that is accepted, an earlier one's socket may still be here.
    if is_connection_of(slot, owner, key) and slot.accepted == owner & COOKIE:
        original = Endpoint(ip=slot.original.ip, port=slot.original.port, family=slot.original.family)
        if is_still(slot, owner) and is_told(ctx, level, original):
            slot.answered = owner & COOKIE
    return 1
