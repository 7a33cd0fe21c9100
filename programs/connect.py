"""cgroup/connect4: an enrolled pod's TCP connection goes to ztunnel instead; where it was meant to go is kept."""

import pybpfasm as bpf
from programs.count import count
from programs.maps import (
    IN_MESH,
    ZTUNNEL,
    Count,
    PodInfo,
    cgroup_info_map,
    netns_info_map,
    settings,
    socket_state,
)
from pybpfasm import SockAddr, htonl, htons, ntohl
from pybpfasm import helpers as h

OUT_PORT = 15001

PASS = 1
REFUSE = 0

IPPROTO_TCP = 6
LOOPBACK_NET = 127
ANY = htonl(0)


@bpf.inline
def caller(ctx: SockAddr) -> PodInfo | None:
    """Who is connecting: by network namespace, which is known as soon as a pod's sandbox is, else by cgroup."""
    pod = netns_info_map.lookup(h.get_netns_cookie(ctx))
    if pod is not None:
        return pod
    return cgroup_info_map.lookup(h.get_current_cgroup_id())


@bpf.inline
def stays_in_pod(ctx: SockAddr, pod: PodInfo) -> bool:
    """Whether the destination is the pod itself; to connect to 0.0.0.0 is to connect to 127.0.0.1."""
    to = ctx.user_ip4
    return ntohl(to) >> 24 == LOOPBACK_NET or to == pod.ip4 or to == ANY


@bpf.connect4
def connect4(ctx: SockAddr) -> int:
    """Redirect, or refuse where redirecting is not possible: to let the bytes out in the clear is the worst failure."""
    if ctx.protocol != IPPROTO_TCP:
        return PASS
    pod = caller(ctx)
    if pod is None:
        return PASS
    if pod.flags & IN_MESH == 0 or stays_in_pod(ctx, pod):
        return PASS
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        count(Count.REFUSED_NO_ZTUNNEL)
        return REFUSE
    state = socket_state.get_or_create(ctx.sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    state.original.ip4 = ctx.user_ip4
    state.original.port = ctx.user_port
    state.ztunnel_netns = ztunnel.netns_cookie
    state.ztunnel_ip4 = ztunnel.ip4
    ctx.user_ip4 = ztunnel.ip4
    ctx.user_port = htons(OUT_PORT)
    count(Count.REDIRECTED)
    return PASS
