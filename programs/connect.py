"""cgroup/connect4 and connect6: TCP connections go to ztunnel instead, their original destination is kept.

An enrolled pod's go to ztunnel's port for outbound connections, wherever they were meant to go; those of the host to an
enrolled pod of this node go to its port for inbound ones. To let bytes out in the clear is the worst failure: what
cannot be redirected is refused, unless FAIL_OPEN says otherwise.
"""

import pybpfasm as bpf
from programs.count import count
from programs.maps import (
    EXEMPT,
    IN_MESH,
    IS_HOST,
    ZTUNNEL,
    Count,
    PodInfo,
    cgroup_info_map,
    mesh_pods,
    netns_info_map,
    settings,
    socket_state,
)
from pybpfasm import SockAddr, be16, be32, htonl, htons, ntohl
from pybpfasm import helpers as h

OUT_PORT = 15001
IN_PORT = 15006
HBONE_PORT = 15008

# Whether connections go where they were meant to go while no ztunnel is known.
FAIL_OPEN = False

PASS = 1
REFUSE = 0

IPPROTO_TCP = 6
LOOPBACK_NET = 127
ANY = htonl(0)
V4_MAPPED = htonl(0xFFFF)  # the third word of ::ffff:a.b.c.d


@bpf.inline
def caller_by_tcp(ctx: SockAddr) -> PodInfo | None:
    """Who is connecting by TCP: an enrolled pod, or the host; None if it is somebody else.

    By network namespace, which is known as soon as a pod's sandbox is, else by cgroup.
    """
    if ctx.protocol != IPPROTO_TCP:
        return None
    caller = netns_info_map.lookup(h.get_netns_cookie(ctx))
    if caller is None:
        caller = cgroup_info_map.lookup(h.get_current_cgroup_id())
        if caller is None:
            return None
    if caller.flags & (IN_MESH | IS_HOST) == 0:
        return None
    return caller


@bpf.inline
def stays_in_pod(to: be32, pod: PodInfo) -> bool:
    """Whether the destination is the pod itself; to connect to 0.0.0.0 is to connect to 127.0.0.1."""
    return ntohl(to) >> 24 == LOOPBACK_NET or to == pod.ip4 or to == ANY


@bpf.inline
def is_exempt() -> bool:
    """Whether the caller is in a cgroup whose connections are left alone, such as the kubelet's."""
    group = cgroup_info_map.lookup(h.get_current_cgroup_id())
    if group is None:
        return False
    return group.flags & EXEMPT != 0


@bpf.inline
def is_redirected(to: be32, enrolled: int, caller: PodInfo) -> bool:
    """Whether the connection goes to ztunnel, and not where it was meant to go."""
    if enrolled:
        return not stays_in_pod(to, caller)
    if mesh_pods.lookup(to) is None:
        return False
    return not is_exempt()


@bpf.inline
def port_instead(ctx: SockAddr, enrolled: int) -> be16:
    """ztunnel's port that the connection goes to."""
    if enrolled:
        return htons(OUT_PORT)
    if ctx.user_port == htons(HBONE_PORT):
        return htons(HBONE_PORT)
    return htons(IN_PORT)


@bpf.inline
def address_instead(ctx: SockAddr, to: be32, enrolled: int, caller: PodInfo) -> be32:
    """ztunnel's address; its port is the context's, and what `sockops` has to know is kept on the socket.

    ANY: to be refused; `to` itself: it goes there.
    """
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        if FAIL_OPEN:
            count(Count.PASSED_NO_ZTUNNEL)
            return to
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
    state.pod_ip4 = caller.ip4
    state.ztunnel.ip4 = ztunnel.ip4
    state.ztunnel_netns = ztunnel.netns_cookie
    state.ztunnel.port = ctx.user_port = port_instead(ctx, enrolled)
    count(Count.REDIRECTED if enrolled else Count.REDIRECTED_TO_POD)
    return ztunnel.ip4


@bpf.connect4
def connect4(ctx: SockAddr) -> int:
    """A connection of an AF_INET socket."""
    caller = caller_by_tcp(ctx)
    if caller is None:
        return PASS
    enrolled = caller.flags & IN_MESH
    if not is_redirected(ctx.user_ip4, enrolled, caller):
        return PASS
    instead = address_instead(ctx, ctx.user_ip4, enrolled, caller)
    if instead == ANY:
        return REFUSE
    if FAIL_OPEN and instead == ctx.user_ip4:
        return PASS
    ctx.user_ip4 = instead
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
    caller = caller_by_tcp(ctx)
    if caller is None:
        return PASS
    if stays_local(ctx):
        return PASS
    if not is_v4_mapped(ctx):
        if caller.flags & IN_MESH == 0:
            return PASS
        count(Count.REFUSED_IPV6)
        return REFUSE
    enrolled = caller.flags & IN_MESH
    if not is_redirected(ctx.user_ip6[3], enrolled, caller):
        return PASS
    instead = address_instead(ctx, ctx.user_ip6[3], enrolled, caller)
    if instead == ANY:
        return REFUSE
    if FAIL_OPEN and instead == ctx.user_ip6[3]:
        return PASS
    ctx.user_ip6[3] = instead
    return PASS
