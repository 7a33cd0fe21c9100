"""cgroup/getpeername4 and getpeername6: an app sees the address that it has dialled, not ztunnel's."""

import pybpfasm as bpf
from programs.dns import show6
from programs.maps import CLIENT, DnsState, SocketState, dns_state, socket_state
from pybpfasm import SockAddr, htons

DNS_PORT = 15053
CAPTURE_DNS = True
IPPROTO_UDP = 17
NO_PORT = htons(0)


@bpf.inline
def redirected(ctx: SockAddr) -> SocketState | None:
    """What is known of the socket, if it is the client's side of a redirected connection."""
    state = socket_state.get(ctx.sk)
    if state is None:
        return None
    if state.id.client == 0 or state.side != CLIENT:
        return None
    return state


@bpf.inline
def is_asking(ctx: SockAddr, state: DnsState) -> bool:
    """Whether a socket of UDP is connected to ztunnel instead of a DNS server."""
    return state.connected.port != NO_PORT and ctx.user_port == htons(DNS_PORT)


@bpf.getpeername4
def getpeername4(ctx: SockAddr) -> int:
    """An AF_INET socket's peer."""
    if CAPTURE_DNS and ctx.protocol == IPPROTO_UDP:
        question = dns_state.get(ctx.sk)
        if question is None or not is_asking(ctx, question):
            return 1
        peer = question.connected
    else:
        state = redirected(ctx)
        if state is None:
            return 1
        peer = state.original
    ctx.user_ip4 = peer.ip.w3
    ctx.user_port = peer.port
    return 1


@bpf.getpeername6
def getpeername6(ctx: SockAddr) -> int:
    """An AF_INET6 socket's peer, which may have a v4-mapped address."""
    if CAPTURE_DNS and ctx.protocol == IPPROTO_UDP:
        question = dns_state.get(ctx.sk)
        if question is None or not is_asking(ctx, question):
            return 1
        peer = question.connected
    else:
        state = redirected(ctx)
        if state is None:
            return 1
        peer = state.original
    show6(ctx, peer)
    return 1
