"""cgroup/connect4 and connect6: TCP connections go to ztunnel instead, their original destination is kept.

Sockets of UDP that are connected to a DNS server are `dns`'s.

An enrolled pod's go to ztunnel's port for outbound connections, wherever they were meant to go; those of the host to an
enrolled pod of this node go to its port for inbound ones. To let bytes out in the clear is the worst failure: what
cannot be redirected is refused, unless FAIL_OPEN says otherwise.

A connection stays in its family: ztunnel is dialled by its IPv6 address, or by its IPv4 one, which an AF_INET6 socket
that dials ::ffff:a.b.c.d has as well. All that is kept of a connection has addresses of one form, see `Address`.
"""

import pybpfasm as bpf
from programs.callers import (
    AF_INET,
    AF_INET6,
    ANY,
    PASS,
    REFUSE,
    V4_MAPPED,
    caller_of,
    is_same,
    is_v4_mapped,
    set_ip4,
    stays_in_pod,
    stays_in_pod6,
    without_ztunnel,
)
from programs.count import count
from programs.dns import NAMES_PORT, asks4, asks6
from programs.maps import (
    DNS,
    EXEMPT,
    IN_MESH,
    ZTUNNEL,
    Address,
    Call,
    Count,
    PodInfo,
    Ztunnel,
    cgroup_info_map,
    mesh_pods,
    settings,
    socket_state,
)
from programs.slots import call_filled, taken_for_call
from pybpfasm import SockAddr, be16, htons
from pybpfasm import helpers as h

OUT_PORT = 15001
IN_PORT = 15006
HBONE_PORT = 15008
DNS_PORT = 15053

# Whether there are pods whose DNS is captured.
CAPTURE_DNS = True

IPPROTO_TCP = 6
IPPROTO_UDP = 17


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
    if enrolled & DNS != 0 and ctx.user_port == htons(NAMES_PORT):
        return htons(DNS_PORT)
    if enrolled:
        return htons(OUT_PORT)
    if ctx.user_port == htons(HBONE_PORT):
        return htons(HBONE_PORT)
    return htons(IN_PORT)


@bpf.inline
def call_of(ctx: SockAddr) -> Call | None:
    """Where to keep what `sockops` has to know of the call."""
    call = taken_for_call(h.get_socket_cookie(ctx))
    if call is not None:
        earlier = socket_state.get(ctx.sk)
        if earlier is not None:
            earlier.call.ztunnel.port = htons(0)  # the SYN to come is not of that call
            earlier.client = 0
        return call
    state = socket_state.get_or_create(ctx.sk)
    if state is None:
        return None
    return state.call


@bpf.inline
def keep(ctx: SockAddr, call: Call, to: Address, enrolled: int, ztunnel: Ztunnel) -> None:
    """Keep where it was meant to go, and give it ztunnel's port.

    The addresses of ztunnel and of the pod are for the caller to add.
    """
    call.original.ip = to
    call.original.port = ctx.user_port
    call.enrolled = enrolled
    call.ztunnel_netns = ztunnel.netns_cookie
    call.ztunnel.port = ctx.user_port = port_instead(ctx, enrolled)
    call.ztunnel.family = 0
    call_filled(h.get_socket_cookie(ctx))
    count(Count.REDIRECTED if enrolled else Count.REDIRECTED_TO_POD)


@bpf.inline
def redirected4(ctx: SockAddr, to: Address, enrolled: int, caller: PodInfo, *, v4_mapped: bool) -> int:
    """Send an IPv4 connection to ztunnel's address, or say what becomes of it; `v4_mapped` is the socket's form."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        return without_ztunnel()
    if ztunnel.ip4 == ANY:
        count(Count.REFUSED_NO_ADDRESS)
        return REFUSE
    if to.w3 == ztunnel.ip4 and ctx.user_port in (htons(OUT_PORT), htons(DNS_PORT)):
        return PASS  # redirected already, by a datapath whose program runs before this one
    call = call_of(ctx)
    if call is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    call.original.family = AF_INET
    set_ip4(call.ztunnel.ip, ztunnel.ip4)
    set_ip4(call.pod, caller.ip4)
    if v4_mapped:
        ctx.user_ip6[3] = ztunnel.ip4
    else:
        ctx.user_ip4 = ztunnel.ip4
    keep(ctx, call, to, enrolled, ztunnel)
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
    if ctx.user_port in (htons(OUT_PORT), htons(DNS_PORT)) and is_same(to, ztunnel.ip6):
        return PASS  # as in IPv4
    call = call_of(ctx)
    if call is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    call.original.family = AF_INET6
    call.ztunnel.ip = ztunnel.ip6
    call.pod = caller.ip6
    ctx.user_ip6[0] = ztunnel.ip6.w0
    ctx.user_ip6[1] = ztunnel.ip6.w1
    ctx.user_ip6[2] = ztunnel.ip6.w2
    ctx.user_ip6[3] = ztunnel.ip6.w3
    keep(ctx, call, to, enrolled, ztunnel)
    return PASS


@bpf.connect4
def connect4(ctx: SockAddr) -> int:
    """A connection of an AF_INET socket."""
    if ctx.protocol != IPPROTO_TCP:
        if CAPTURE_DNS and ctx.protocol == IPPROTO_UDP:
            return asks4(ctx, connected=True)
        return PASS
    caller = caller_of(ctx)
    if caller is None:
        return PASS
    enrolled = caller.flags & (IN_MESH | DNS)
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
    if ctx.protocol != IPPROTO_TCP:
        if CAPTURE_DNS and ctx.protocol == IPPROTO_UDP:
            return asks6(ctx, connected=True)
        return PASS
    caller = caller_of(ctx)
    if caller is None:
        return PASS
    enrolled = caller.flags & (IN_MESH | DNS)
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
