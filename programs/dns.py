"""UDP of pods whose DNS is captured: questions go to ztunnel, answers seem to come from the server that was asked.

sendmsg4 and 6 turn what an unconnected socket sends, `connect` what a connected one does; recvmsg4 and 6 put the
server's address in place of ztunnel's. They do not see what is asked: of several questions that wait on one socket, the
first answer is taken for the first question's. A question without an answer is given up when later ones are there.
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
    stays_in_pod,
    stays_in_pod6,
    without_ztunnel,
)
from programs.count import count
from programs.maps import (
    DNS,
    QUESTIONS,
    ZTUNNEL,
    Address,
    Count,
    DnsState,
    Endpoint,
    dns_state,
    settings,
)
from pybpfasm import SockAddr, htons
from pybpfasm import helpers as h

DNS_PORT = 15053
NAMES_PORT = 53
NO_PORT = htons(0)
NO_ADDRESS = Address(w0=ANY, w1=ANY, w2=ANY, w3=ANY)

# How long an answer is waited for when another one comes: resolvers ask again after 5 s.
PATIENCE_NS = 5_000_000_000


@bpf.inline
def remember(state: DnsState, to: Address, family: int) -> None:
    """A server is asked by an unconnected socket."""
    asked = state.asked[state.next & (QUESTIONS - 1)]
    asked.server.ip = to
    asked.server.port = htons(NAMES_PORT)
    asked.server.family = family
    asked.at = h.ktime_get_ns()
    state.next += 1
    if state.next - state.first > QUESTIONS:
        state.first = state.next - QUESTIONS


@bpf.inline
def keep(state: DnsState, to: Address, ztunnel: Address, family: int, *, connected: bool) -> None:
    """Keep what a question's answer has to show."""
    state.ztunnel = ztunnel
    if connected:
        state.connected.ip = to
        state.connected.port = htons(NAMES_PORT)
        state.connected.family = family
    else:
        remember(state, to, family)
    count(Count.DNS_REDIRECTED)


@bpf.inline
def redirected4(ctx: SockAddr, to: Address, *, v4_mapped: bool, connected: bool) -> int:
    """Send a question by IPv4 to ztunnel; `v4_mapped` is the form that the hook has addresses in."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        return without_ztunnel()
    if ztunnel.ip4 == ANY:
        count(Count.REFUSED_NO_ADDRESS)
        return REFUSE
    state = dns_state.get_or_create(ctx.sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    place = Address(w0=ANY, w1=ANY, w2=V4_MAPPED, w3=ztunnel.ip4)
    keep(state, to, place, AF_INET, connected=connected)
    if v4_mapped:
        ctx.user_ip6[3] = ztunnel.ip4
    else:
        ctx.user_ip4 = ztunnel.ip4
    ctx.user_port = htons(DNS_PORT)
    return PASS


@bpf.inline
def redirected6(ctx: SockAddr, to: Address, *, connected: bool) -> int:
    """Send a question by IPv6 to ztunnel."""
    ztunnel = settings.lookup(ZTUNNEL)
    if ztunnel is None:
        return without_ztunnel()
    if ztunnel.ip6.w0 == ANY:
        count(Count.REFUSED_NO_ADDRESS)
        return REFUSE
    state = dns_state.get_or_create(ctx.sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return REFUSE
    keep(state, to, ztunnel.ip6, AF_INET6, connected=connected)
    ctx.user_ip6[0] = ztunnel.ip6.w0
    ctx.user_ip6[1] = ztunnel.ip6.w1
    ctx.user_ip6[2] = ztunnel.ip6.w2
    ctx.user_ip6[3] = ztunnel.ip6.w3
    ctx.user_port = htons(DNS_PORT)
    return PASS


@bpf.inline
def forget_connection(ctx: SockAddr) -> None:
    """The socket is connected to something else now."""
    state = dns_state.get(ctx.sk)
    if state is not None:
        state.connected.port = NO_PORT


@bpf.inline
def asks4(ctx: SockAddr, *, connected: bool) -> int:
    """A datagram, or a connection of UDP, to an IPv4 address, by a hook that has addresses of IPv4."""
    if ctx.user_port != htons(NAMES_PORT):
        if connected:
            forget_connection(ctx)
        return PASS
    caller = caller_of(ctx)
    if caller is None:
        return PASS
    if caller.flags & DNS == 0 or stays_in_pod(ctx.user_ip4, caller):
        return PASS
    to = Address(w0=ANY, w1=ANY, w2=V4_MAPPED, w3=ctx.user_ip4)
    return redirected4(ctx, to, v4_mapped=False, connected=connected)


@bpf.inline
def asks6(ctx: SockAddr, *, connected: bool) -> int:
    """The same by a hook that has addresses of IPv6."""
    if ctx.user_port != htons(NAMES_PORT):
        if connected:
            forget_connection(ctx)
        return PASS
    caller = caller_of(ctx)
    if caller is None:
        return PASS
    if caller.flags & DNS == 0:
        return PASS
    to = Address(w0=ctx.user_ip6[0], w1=ctx.user_ip6[1], w2=ctx.user_ip6[2], w3=ctx.user_ip6[3])
    if is_v4_mapped(to):
        if stays_in_pod(to.w3, caller):
            return PASS
        return redirected4(ctx, to, v4_mapped=True, connected=connected)
    if stays_in_pod6(to, caller):
        return PASS
    return redirected6(ctx, to, connected=connected)


@bpf.sendmsg4
def sendmsg4(ctx: SockAddr) -> int:
    """A datagram of an unconnected socket to an IPv4 address, v4-mapped or not."""
    return asks4(ctx, connected=False)


@bpf.sendmsg6
def sendmsg6(ctx: SockAddr) -> int:
    """A datagram of an unconnected socket to an IPv6 address."""
    return asks6(ctx, connected=False)


@bpf.inline
def oldest(state: DnsState) -> int:
    """Which of the questions an answer is for: the oldest that is not given up; the last, if none waits."""
    if state.first == state.next:
        return state.next - 1
    now = h.ktime_get_ns()
    for _ in bpf.unroll(range(QUESTIONS - 1)):
        if state.next - state.first < 2 or now - state.asked[state.first & (QUESTIONS - 1)].at < PATIENCE_NS:
            break
        state.first += 1
    state.first += 1
    return state.first - 1


@bpf.inline
def set_answered(server: Endpoint, state: DnsState) -> None:
    """Make it the server that an answer is from. To a connected socket only its peer's answers come."""
    if state.connected.port != NO_PORT:
        server.ip = state.connected.ip
        server.port = state.connected.port
    else:
        asked = state.asked[oldest(state) & (QUESTIONS - 1)]
        server.ip = asked.server.ip
        server.port = asked.server.port


@bpf.inline
def is_from_ztunnel(ctx: SockAddr, state: DnsState) -> bool:
    """Whether an address of a hook of IPv6 is where the questions went."""
    at = Address(w0=ctx.user_ip6[0], w1=ctx.user_ip6[1], w2=ctx.user_ip6[2], w3=ctx.user_ip6[3])
    return is_same(at, state.ztunnel)


@bpf.inline
def show6(ctx: SockAddr, server: Endpoint) -> None:
    """Put a server's address in place, by a hook of IPv6."""
    ctx.user_ip6[0] = server.ip.w0
    ctx.user_ip6[1] = server.ip.w1
    ctx.user_ip6[2] = server.ip.w2
    ctx.user_ip6[3] = server.ip.w3
    ctx.user_port = server.port


@bpf.recvmsg4
def recvmsg4(ctx: SockAddr) -> int:
    """An AF_INET socket is told where a datagram came from."""
    if ctx.user_port != htons(DNS_PORT):
        return PASS
    state = dns_state.get(ctx.sk)
    if state is None:
        return PASS
    if ctx.user_ip4 != state.ztunnel.w3:
        return PASS
    server = Endpoint(ip=NO_ADDRESS, port=NO_PORT)
    set_answered(server, state)
    ctx.user_ip4 = server.ip.w3
    ctx.user_port = server.port
    return PASS


@bpf.recvmsg6
def recvmsg6(ctx: SockAddr) -> int:
    """An AF_INET6 socket is told where a datagram came from, by IPv4 too."""
    if ctx.user_port != htons(DNS_PORT):
        return PASS
    state = dns_state.get(ctx.sk)
    if state is None:
        return PASS
    if not is_from_ztunnel(ctx, state):
        return PASS
    server = Endpoint(ip=NO_ADDRESS, port=NO_PORT)
    set_answered(server, state)
    show6(ctx, server)
    return PASS
