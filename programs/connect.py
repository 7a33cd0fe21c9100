"""cgroup/connect4 and connect6: TCP connections go to ztunnel instead, their original destination is kept.

An enrolled pod's go to ztunnel's port for outbound connections, wherever they were meant to go; those of the host to an
enrolled pod of this node go to its port for inbound ones. To let bytes out in the clear is the worst failure: what
cannot be redirected is refused, unless FAIL_OPEN says otherwise.

A connection stays in its family: ztunnel is dialled by its IPv6 address, or by its IPv4 one, which an AF_INET6 socket
that dials ::ffff:a.b.c.d has as well. All that is kept of a connection has addresses of one form, see `Address`.
"""

import pybpfasm as bpf
from programs.count import count
from programs.maps import (
    EXEMPT,
    IN_MESH,
    IS_HOST,
    ZTUNNEL,
    Address,
    Count,
    PodInfo,
    SocketState,
    Ztunnel,
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

AF_INET = 2
AF_INET6 = 10
IPPROTO_TCP = 6
LOOPBACK_NET = 127
ANY = htonl(0)
V4_MAPPED = htonl(0xFFFF)  # the third word of ::ffff:a.b.c.d, behind two of zero


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
    """Whether an IPv4 destination is the pod itself; to connect to 0.0.0.0 is to connect to 127.0.0.1."""
    return ntohl(to) >> 24 == LOOPBACK_NET or to == pod.ip4 or to == ANY


@bpf.inline
def is_same(one: Address, other: Address) -> bool:
    """Whether two addresses are equal; they differ in their last words mostly."""
    return one.w3 == other.w3 and one.w2 == other.w2 and one.w1 == other.w1 and one.w0 == other.w0


@bpf.inline
def is_v4_mapped(address: Address) -> bool:
    """Whether it is ::ffff:a.b.c.d."""
    return address.w0 == ANY and address.w1 == ANY and address.w2 == V4_MAPPED


@bpf.inline
def stays_in_pod6(to: Address, pod: PodInfo) -> bool:
    """Whether an IPv6 destination is the pod itself; to connect to :: is to connect to ::1."""
    if to.w0 == ANY and to.w1 == ANY:
        return to.w2 == ANY and ntohl(to.w3) <= 1
    return is_same(to, pod.ip6)


@bpf.inline
def is_exempt() -> bool:
    """Whether the caller is in a cgroup whose connections are left alone, such as the kubelet's."""
    group = cgroup_info_map.lookup(h.get_current_cgroup_id())
    if group is None:
        return False
    return group.flags & EXEMPT != 0


@bpf.inline
def is_for_pod(to: Address) -> bool:
    """Whether the host's connection is to an enrolled pod, and its caller not exempt."""
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
def without_ztunnel() -> int:
    """What becomes of a connection while no ztunnel is known."""
    if FAIL_OPEN:
        count(Count.PASSED_NO_ZTUNNEL)
        return PASS
    count(Count.REFUSED_NO_ZTUNNEL)
    return REFUSE


@bpf.inline
def keep(ctx: SockAddr, state: SocketState, to: Address, enrolled: int, ztunnel: Ztunnel) -> None:
    """Keep on the socket what `sockops` has to know of the connection, and give it ztunnel's port.

    The addresses of ztunnel and of the pod are for the caller to add.
    """
    state.original.ip = to
    state.original.port = ctx.user_port
    state.enrolled = enrolled
    state.ztunnel_netns = ztunnel.netns_cookie
    state.ztunnel.port = ctx.user_port = port_instead(ctx, enrolled)
    count(Count.REDIRECTED if enrolled else Count.REDIRECTED_TO_POD)


@bpf.inline
def set_ip4(address: Address, ip4: be32) -> None:
    """Make it ::ffff:a.b.c.d."""
    address.w0 = ANY
    address.w1 = ANY
    address.w2 = V4_MAPPED
    address.w3 = ip4


@bpf.inline
def redirected4(ctx: SockAddr, to: Address, enrolled: int, caller: PodInfo, *, v4_mapped: bool) -> int:
    """Send an IPv4 connection to ztunnel's address, or say what becomes of it; `v4_mapped` is the socket's form."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        return without_ztunnel()
    if ztunnel.ip4 == ANY:
        count(Count.REFUSED_NO_ADDRESS)
        return REFUSE
    if to.w3 == ztunnel.ip4 and ctx.user_port == htons(OUT_PORT):
        return PASS  # redirected already, by a datapath whose program runs before this one
    state = socket_state.get_or_create(ctx.sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    state.original.family = AF_INET
    set_ip4(state.ztunnel.ip, ztunnel.ip4)
    set_ip4(state.pod, caller.ip4)
    if v4_mapped:
        ctx.user_ip6[3] = ztunnel.ip4
    else:
        ctx.user_ip4 = ztunnel.ip4
    keep(ctx, state, to, enrolled, ztunnel)
    return PASS


@bpf.inline
def redirected6(ctx: SockAddr, to: Address, enrolled: int, caller: PodInfo) -> int:
    """Send an IPv6 connection to ztunnel's address, or say what becomes of it."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        return without_ztunnel()
    if ztunnel.ip6.w0 == ANY:  # no host has an address that begins with four zeros
        count(Count.REFUSED_NO_ADDRESS)
        return REFUSE
    if ctx.user_port == htons(OUT_PORT) and is_same(to, ztunnel.ip6):
        return PASS  # as in IPv4
    state = socket_state.get_or_create(ctx.sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    state.original.family = AF_INET6
    state.ztunnel.ip = ztunnel.ip6
    state.pod = caller.ip6
    ctx.user_ip6[0] = ztunnel.ip6.w0
    ctx.user_ip6[1] = ztunnel.ip6.w1
    ctx.user_ip6[2] = ztunnel.ip6.w2
    ctx.user_ip6[3] = ztunnel.ip6.w3
    keep(ctx, state, to, enrolled, ztunnel)
    return PASS


@bpf.connect4
def connect4(ctx: SockAddr) -> int:
    """A connection of an AF_INET socket."""
    caller = caller_by_tcp(ctx)
    if caller is None:
        return PASS
    enrolled = caller.flags & IN_MESH
    to = Address(w0=ANY, w1=ANY, w2=V4_MAPPED, w3=ctx.user_ip4)
    if enrolled:
        if stays_in_pod(to.w3, caller):
            return PASS
    elif not is_for_pod(to):
        return PASS
    return redirected4(ctx, to, enrolled, caller, v4_mapped=False)


@bpf.connect6
def connect6(ctx: SockAddr) -> int:
    """A connection of an AF_INET6 socket."""
    caller = caller_by_tcp(ctx)
    if caller is None:
        return PASS
    enrolled = caller.flags & IN_MESH
    to = Address(w0=ctx.user_ip6[0], w1=ctx.user_ip6[1], w2=ctx.user_ip6[2], w3=ctx.user_ip6[3])
    mapped = is_v4_mapped(to)
    if enrolled:
        if mapped:
            if stays_in_pod(to.w3, caller):
                return PASS
        elif stays_in_pod6(to, caller):
            return PASS
    elif not is_for_pod(to):
        return PASS
    if mapped:
        return redirected4(ctx, to, enrolled, caller, v4_mapped=True)
    return redirected6(ctx, to, enrolled, caller)
