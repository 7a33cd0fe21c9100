"""cgroup/connect4 and connect6: an enrolled pod's TCP connection goes to ztunnel, its original destination is kept.

To let bytes out in the clear is the worst failure: what cannot be redirected is refused.
"""

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
from pybpfasm import SockAddr, be32, htonl, htons, ntohl
from pybpfasm import helpers as h

OUT_PORT = 15001

PASS = 1
REFUSE = 0

IPPROTO_TCP = 6
LOOPBACK_NET = 127
ANY = htonl(0)
V4_MAPPED = htonl(0xFFFF)  # the third word of ::ffff:a.b.c.d


@bpf.inline
def caller_in_mesh(ctx: SockAddr) -> PodInfo | None:
    """The enrolled pod that is connecting by TCP, if it is one.

    By network namespace, which is known as soon as a pod's sandbox is, else by cgroup.
    """
    if ctx.protocol != IPPROTO_TCP:
        return None
    pod = netns_info_map.lookup(h.get_netns_cookie(ctx))
    if pod is None:
        pod = cgroup_info_map.lookup(h.get_current_cgroup_id())
        if pod is None:
            return None
    if pod.flags & IN_MESH == 0:
        return None
    return pod


@bpf.inline
def stays_in_pod(to: be32, pod: PodInfo) -> bool:
    """Whether the destination is the pod itself; to connect to 0.0.0.0 is to connect to 127.0.0.1."""
    return ntohl(to) >> 24 == LOOPBACK_NET or to == pod.ip4 or to == ANY


@bpf.inline
def address_instead(ctx: SockAddr, to: be32, pod: PodInfo) -> be32:
    """ztunnel's address; what `sockops` has to know of the connection is kept on the socket. ANY: to be refused."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        count(Count.REFUSED_NO_ZTUNNEL)
        return ANY
    if to == ztunnel.ip4 and ctx.user_port == htons(OUT_PORT):
        return to  # redirected already, by a datapath whose program runs before this one
    state = socket_state.get_or_create(ctx.sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return ANY
    state.original.ip4 = to
    state.original.port = ctx.user_port
    state.pod_ip4 = pod.ip4
    state.ztunnel_ip4 = ztunnel.ip4
    state.ztunnel_netns = ztunnel.netns_cookie
    count(Count.REDIRECTED)
    return ztunnel.ip4


@bpf.connect4
def connect4(ctx: SockAddr) -> int:
    """A connection of an AF_INET socket."""
    pod = caller_in_mesh(ctx)
    if pod is None:
        return PASS
    if stays_in_pod(ctx.user_ip4, pod):
        return PASS
    instead = address_instead(ctx, ctx.user_ip4, pod)
    if instead == ANY:
        return REFUSE
    ctx.user_ip4 = instead
    ctx.user_port = htons(OUT_PORT)
    return PASS


@bpf.inline
def stays_local(ctx: SockAddr) -> bool:
    """Whether an IPv6 destination is ::1 or ::, which is the same."""
    upper_is_zero = ctx.user_ip6[0] == ANY and ctx.user_ip6[1] == ANY and ctx.user_ip6[2] == ANY
    return upper_is_zero and ntohl(ctx.user_ip6[3]) <= 1


@bpf.inline
def is_v4_mapped(ctx: SockAddr) -> bool:
    """Whether the destination is ::ffff:a.b.c.d; its last word is the IPv4 address."""
    return ctx.user_ip6[0] == ANY and ctx.user_ip6[1] == ANY and ctx.user_ip6[2] == V4_MAPPED


@bpf.connect6
def connect6(ctx: SockAddr) -> int:
    """A connection of an AF_INET6 socket: to a v4-mapped address as by connect4; IPv6 itself is not redirected yet."""
    pod = caller_in_mesh(ctx)
    if pod is None:
        return PASS
    if stays_local(ctx):
        return PASS
    if not is_v4_mapped(ctx):
        count(Count.REFUSED_IPV6)
        return REFUSE
    if stays_in_pod(ctx.user_ip6[3], pod):
        return PASS
    instead = address_instead(ctx, ctx.user_ip6[3], pod)
    if instead == ANY:
        return REFUSE
    ctx.user_ip6[3] = instead
    ctx.user_port = htons(OUT_PORT)
    return PASS
