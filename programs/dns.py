"""UDP of pods whose DNS is captured: questions go to ztunnel, answers seem to come from the server that was asked.

sendmsg4 and 6 turn what an unconnected socket sends, `connect` what a connected one does; recvmsg4 and 6 put the
server's address in place of ztunnel's. They do not see what is asked: of several questions that wait on one socket, the
first answer is taken for the first question's. ztunnel's two addresses tell IPv4's from IPv6's. A question is given up
when the next one comes a second later, so that one lost answer does not make all that follow wrong.
"""

import pybpfasm as bpf
from programs.callers import (
    ANY,
    PASS,
    REFUSE,
    V4_MAPPED,
    caller_of,
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
    Questions,
    dns_state,
    settings,
)
from pybpfasm import SockAddr, htons
from pybpfasm import helpers as h

DNS_PORT = 15053
NAMES_PORT = 53
NO_PORT = htons(0)

# Who asks again after so long has his answers, or has given up: by default resolvers ask again after 2 s or more.
PATIENCE_NS = 1_000_000_000

TCP_ESTABLISHED = 1  # what a connected socket's state is called, of UDP too


@bpf.inline
def remember(questions: Questions, to: Address) -> None:
    """A server is asked by an unconnected socket."""
    now = h.ktime_get_ns()
    if now - questions.at > PATIENCE_NS:
        questions.first = questions.next
    questions.at = now
    questions.servers[questions.next & (QUESTIONS - 1)] = to
    questions.next += 1
    if questions.next - questions.first > QUESTIONS:
        questions.first = questions.next - QUESTIONS


@bpf.inline
def keep(state: DnsState, questions: Questions, to: Address, ztunnel: Address, *, connected: bool) -> None:
    """Keep what a question's answer has to show."""
    if connected:
        state.connected.ip = to
        state.connected.port = htons(NAMES_PORT)
    else:
        questions.ztunnel = ztunnel
        remember(questions, to)
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
    keep(state, state.ip4, to, place, connected=connected)
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
    keep(state, state.ip6, to, ztunnel.ip6, connected=connected)
    ctx.user_ip6[0] = ztunnel.ip6.w0
    ctx.user_ip6[1] = ztunnel.ip6.w1
    ctx.user_ip6[2] = ztunnel.ip6.w2
    ctx.user_ip6[3] = ztunnel.ip6.w3
    ctx.user_port = htons(DNS_PORT)
    return PASS


@bpf.inline
def left_alone(ctx: SockAddr, *, connected: bool) -> int:
    """Let pass what is to another port. A socket that dials ztunnel's port itself is connected where it has dialled."""
    if connected and ctx.user_port == htons(DNS_PORT):
        state = dns_state.get(ctx.sk)
        if state is not None:
            state.connected.port = NO_PORT
    return PASS


@bpf.inline
def asks4(ctx: SockAddr, *, connected: bool) -> int:
    """A datagram, or a connection of UDP, to an IPv4 address, by a hook that has addresses of IPv4."""
    if ctx.user_port != htons(NAMES_PORT):
        return left_alone(ctx, connected=connected)
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
        return left_alone(ctx, connected=connected)
    caller = caller_of(ctx)
    if caller is None:
        return PASS
    if caller.flags & DNS == 0:
        return PASS
    to = Address(w0=ctx.user_ip6[0], w1=ctx.user_ip6[1], w2=ctx.user_ip6[2], w3=ctx.user_ip6[3])
    if connected and is_v4_mapped(to):  # datagrams to such addresses come by sendmsg4
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
def answered(questions: Questions) -> Address:
    """The server that an answer is from: the one that waits longest; if none waits, the last that was asked."""
    behind = questions.first
    if behind != questions.next:
        behind += 1
        questions.first = behind
    return questions.servers[(behind - 1) & (QUESTIONS - 1)]


@bpf.inline
def is_from(ctx: SockAddr, at: Address) -> bool:
    """Whether an address of a hook of IPv6 is this one; addresses differ in their last words mostly."""
    last_equal = ctx.user_ip6[3] == at.w3 and ctx.user_ip6[2] == at.w2
    return last_equal and ctx.user_ip6[1] == at.w1 and ctx.user_ip6[0] == at.w0


@bpf.inline
def show6(ctx: SockAddr, server: Address) -> None:
    """Put a server's address in place, by a hook of IPv6."""
    ctx.user_ip6[0] = server.w0
    ctx.user_ip6[1] = server.w1
    ctx.user_ip6[2] = server.w2
    ctx.user_ip6[3] = server.w3


@bpf.inline
def asking(ctx: SockAddr) -> DnsState | None:
    """What is known of a socket that has received a datagram, if that may be an answer."""
    if ctx.user_port != htons(DNS_PORT):
        return None
    return dns_state.get(ctx.sk)


@bpf.recvmsg4
def recvmsg4(ctx: SockAddr) -> int:
    """An AF_INET socket is told where a datagram came from."""
    state = asking(ctx)
    if state is None:
        return PASS
    if ctx.sk.state == TCP_ESTABLISHED:
        # Only its peer's datagrams come to a connected socket.
        if state.connected.port == NO_PORT:
            return PASS
        server = state.connected.ip
    else:
        if ctx.user_ip4 != state.ip4.ztunnel.w3:
            return PASS
        server = answered(state.ip4)
    ctx.user_ip4 = server.w3
    ctx.user_port = htons(NAMES_PORT)
    return PASS


@bpf.recvmsg6
def recvmsg6(ctx: SockAddr) -> int:
    """An AF_INET6 socket is told where a datagram came from, by IPv4 too."""
    state = asking(ctx)
    if state is None:
        return PASS
    if ctx.sk.state != TCP_ESTABLISHED:
        if is_from(ctx, state.ip4.ztunnel):
            questions = state.ip4
        elif is_from(ctx, state.ip6.ztunnel):
            questions = state.ip6
        else:
            return PASS
        server = answered(questions)
    else:
        if state.connected.port == NO_PORT:
            return PASS
        server = state.connected.ip
    show6(ctx, server)
    ctx.user_port = htons(NAMES_PORT)
    return PASS
