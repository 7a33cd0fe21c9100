"""cgroup/getpeername4 and getpeername6: an app sees the address that it has dialled, not ztunnel's."""

import pybpfasm as bpf
from programs.dns import NO_PORT, show6
from programs.maps import CLIENT, Endpoint, connections, dns_state, socket_state
from programs.slots import connection_number
from pybpfasm import SockAddr, htons
from pybpfasm import helpers as h

DNS_PORT = 15053
CAPTURE_DNS = True
IPPROTO_UDP = 17


@bpf.inline
def server(ctx: SockAddr) -> Endpoint | None:
    """The DNS server that a socket of UDP was connected to, if it is connected to ztunnel instead."""
    if ctx.user_port != htons(DNS_PORT):
        return None
    state = dns_state.get(ctx.sk)
    if state is None or state.connected.port == NO_PORT:
        return None
    return state.connected


@bpf.inline
def dialled(ctx: SockAddr) -> Endpoint | None:
    """Where a socket was meant to be connected, if it is the client's side of a redirected connection."""
    if CAPTURE_DNS and ctx.protocol == IPPROTO_UDP:
        return server(ctx)
    slot = connections.lookup(connection_number(ctx.sk.src_ip6[3], ctx.sk.src_port))
    if slot is not None and slot.owner == h.get_socket_cookie(ctx):
        return slot.original
    state = socket_state.get(ctx.sk)
    if state is None or state.client == 0 or state.side != CLIENT:
        return None
    return state.original


@bpf.getpeername4
def getpeername4(ctx: SockAddr) -> int:
    """An AF_INET socket's peer."""
    peer = dialled(ctx)
    if peer is not None:
        ctx.user_ip4 = peer.ip.w3
        ctx.user_port = peer.port
    return 1


@bpf.getpeername6
def getpeername6(ctx: SockAddr) -> int:
    """An AF_INET6 socket's peer, which may have a v4-mapped address."""
    peer = dialled(ctx)
    if peer is not None:
        show6(ctx, peer.ip)
        ctx.user_port = peer.port
    return 1
