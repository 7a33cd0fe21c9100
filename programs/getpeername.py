"""cgroup/getpeername4 and getpeername6: an app sees the address that it has dialled, not ztunnel's."""

import pybpfasm as bpf
from programs.maps import CLIENT, SocketState, socket_state
from pybpfasm import SockAddr


@bpf.inline
def redirected(ctx: SockAddr) -> SocketState | None:
    """What is known of the socket, if it is the client's side of a redirected connection."""
    state = socket_state.get(ctx.sk)
    if state is None:
        return None
    if state.id.client == 0 or state.side != CLIENT:
        return None
    return state


@bpf.getpeername4
def getpeername4(ctx: SockAddr) -> int:
    """An AF_INET socket's peer."""
    state = redirected(ctx)
    if state is not None:
        ctx.user_ip4 = state.original.ip.w3
        ctx.user_port = state.original.port
    return 1


@bpf.getpeername6
def getpeername6(ctx: SockAddr) -> int:
    """An AF_INET6 socket's peer, which may have a v4-mapped address."""
    state = redirected(ctx)
    if state is not None:
        ctx.user_ip6[0] = state.original.ip.w0
        ctx.user_ip6[1] = state.original.ip.w1
        ctx.user_ip6[2] = state.original.ip.w2
        ctx.user_ip6[3] = state.original.ip.w3
        ctx.user_port = state.original.port
    return 1
