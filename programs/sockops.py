"""sock_ops: the accepting side learns the original destination before the SYN leaves; both sockets enter the SOCKMAP.

A connection has a slot, for as long as its client's socket has the connection; `getsockopt` and `redirect` look there.
Where the slot is another's, it is kept on the client's socket, in `original_dst` until the accepting side stands, then
on the accepted socket; and its bytes go by TCP.

Bytes of one direction go one way. A direction in which TCP has been given a byte is never redirected: the redirected
bytes would overtake it. TCP asks for the segment size before it takes the first byte (tcp_send_mss), whoever sends and
however: also a send that began before the connection was established, which `redirect` never sees. That is the moment
at which a direction is marked.

Both sockets of a slot are put into the SOCKMAP only where nobody is: a socket of a connection that had the slot before
may still be there, with bytes that nobody has read yet. Bytes are redirected only between two sockets that were put
there for the slot's owner.
"""

import pybpfasm as bpf
from programs.count import count
from programs.maps import (
    ACCEPTING,
    CLIENT,
    Address,
    Call,
    Connection,
    Count,
    Direction,
    Origin,
    Share,
    Slot,
    SocketState,
    connections,
    original_dst,
    shares,
    socket_state,
    sockets,
)
from programs.slots import (
    COOKIE,
    ORPHANED,
    call_slot,
    connection_number,
    drop,
    filled,
    give_call_back,
    has_call,
    is_connection_of,
    is_taken_for_connection,
    leave,
)
from pybpfasm import BPF_NOEXIST, SockOps, atomic_add, ntohl, ntohs
from pybpfasm import helpers as h

OUT_PORT = 15001
IN_PORT = 15006
HBONE_PORT = 15008
DNS_PORT = 15053

# Which directions skip TCP; see `redirect`.
REDIRECT_TO_ZTUNNEL = True
REDIRECT_TO_APP = False

# Events: enum in uapi linux/bpf.h, BPF_SOCK_OPS_…
TCP_CONNECT_CB = 3
ACTIVE_ESTABLISHED_CB = 4
PASSIVE_ESTABLISHED_CB = 5
STATE_CB = 10
HDR_OPT_LEN_CB = 14

# Which events a socket reports: BPF_SOCK_OPS_…_FLAG.
STATE_CB_FLAG = 1 << 2
WRITE_HDR_OPT_CB_FLAG = 1 << 6

# Why the length of header options is asked for: the segment size is wanted, for bytes to come.
WRITE_HDR_TCP_CURRENT_MSS = 1

TCP_FIN_WAIT1 = 4
TCP_FIN_WAIT2 = 5
TCP_CLOSE = 7

# How many connections of one network namespace may be in set-up.
MOST_PER_NETNS = 16384

EEXIST = -17


@bpf.inline
def state_of(ctx: SockOps) -> SocketState | None:
    """What is known of the socket."""
    sk = ctx.sk
    if sk is None:
        return None
    return socket_state.get(sk)


@bpf.inline
def report(ctx: SockOps, flags: int) -> None:
    """Ask for more events of this socket, beside those that others asked for."""
    h.sock_ops_cb_flags_set(ctx, ctx.bpf_sock_ops_cb_flags | flags)


@bpf.inline
def is_remote(ctx: SockOps, at: Address) -> bool:
    """Whether the peer has this address; addresses differ in their last words mostly."""
    last_equal = ctx.remote_ip6[3] == at.w3 and ctx.remote_ip6[2] == at.w2
    return last_equal and ctx.remote_ip6[1] == at.w1 and ctx.remote_ip6[0] == at.w0


@bpf.inline
def is_local(ctx: SockOps, at: Address) -> bool:
    """Whether the socket itself has this address."""
    last_equal = ctx.local_ip6[3] == at.w3 and ctx.local_ip6[2] == at.w2
    return last_equal and ctx.local_ip6[1] == at.w1 and ctx.local_ip6[0] == at.w0


@bpf.inline
def as_client(ctx: SockOps, ztunnel_netns: int) -> Connection:
    """The connection of a client's socket. Sockets of IPv4 have addresses of this form, too (sk_rcv_saddr_set)."""
    return Connection(
        netns_cookie=ztunnel_netns,
        client=Address(w0=ctx.local_ip6[0], w1=ctx.local_ip6[1], w2=ctx.local_ip6[2], w3=ctx.local_ip6[3]),
        client_port=ctx.local_port,
        server=Address(w0=ctx.remote_ip6[0], w1=ctx.remote_ip6[1], w2=ctx.remote_ip6[2], w3=ctx.remote_ip6[3]),
        server_port=ntohl(ctx.remote_port),
    )


@bpf.inline
def give_back(netns_cookie: int) -> None:
    """An entry of a namespace's share is gone."""
    share = shares.lookup(netns_cookie)
    if share is not None:
        atomic_add(share.used, -1)


@bpf.inline
def is_recorded(ctx: SockOps, call: Call, cookie: int) -> bool:
    """Record where a connection was meant to go, if there is room in its namespace's share, and in the map."""
    netns_cookie = h.get_netns_cookie(ctx)
    share = shares.lookup(netns_cookie)
    if share is None:
        shares.update(netns_cookie, Share(used=0), BPF_NOEXIST)
        share = shares.lookup(netns_cookie)
        if share is None:
            count(Count.SHARE_USED_UP)
            return False
    if share.used >= MOST_PER_NETNS:
        count(Count.SHARE_USED_UP)
        return False
    key = as_client(ctx, call.ztunnel_netns)
    origin = Origin(original=call.original, client=cookie, netns_cookie=netns_cookie)
    failed = original_dst.update(key, origin, BPF_NOEXIST)
    if failed == EEXIST:
        # What an earlier connection of the same address and port has left.
        if original_dst.delete(key) == 0:
            atomic_add(share.used, -1)
        failed = original_dst.update(key, origin, BPF_NOEXIST)
    if failed != 0:
        count(Count.ORIGINAL_DST_FULL)
        return False
    atomic_add(share.used, 1)
    return True


@bpf.inline
def is_as_called(ctx: SockOps, call: Call) -> bool:
    """Whether the SYN that is about to leave is the call's, under an address that its caller may have."""
    if not is_remote(ctx, call.ztunnel.ip) or ntohl(ctx.remote_port) != ntohs(call.ztunnel.port):
        return False  # that call led to nothing; now it connects to somewhere else
    if call.enrolled and not is_local(ctx, call.pod):
        # Under another pod's address it could put its own destination in place of that pod's; a pod whose own is not
        # known could, too. The host's connections come from any of its addresses.
        count(Count.FOREIGN_SOURCE)
        return False
    return True


@bpf.inline
def has_slot(ctx: SockOps, call: Call, cookie: int) -> bool:
    """Put the connection into its slot, if it can have that."""
    slot = connections.lookup(connection_number(ctx.local_ip6[3], ctx.local_port))
    if slot is None:
        return False
    key = as_client(ctx, call.ztunnel_netns)
    if not is_taken_for_connection(slot, key, cookie):
        return False
    slot.connection = key
    slot.netns_cookie = h.get_netns_cookie(ctx)
    slot.original = call.original
    slot.joined = 0
    slot.spliced = 0
    slot.accepted = 0
    slot.answered = 0
    slot.released = 0
    slot.requests = Direction(by_tcp=0, redirected=0)
    slot.answers = Direction(by_tcp=0, redirected=0)
    filled(slot, cookie)
    return True


@bpf.inline
def is_kept(ctx: SockOps, call: Call, cookie: int) -> bool:
    """Keep a connection that has no slot, if that is possible."""
    count(Count.CROWDED)
    sk = ctx.sk
    if sk is None:
        return False
    state = socket_state.get_or_create(sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return False
    state.call = call
    state.original = call.original
    state.side = CLIENT
    state.client = cookie
    return is_recorded(ctx, call, cookie)


@bpf.inline
def call_of(ctx: SockOps, cookie: int) -> Call | None:
    """The call of the socket whose SYN is about to leave, if connect() has left one."""
    slot = call_slot(cookie)
    if slot is not None and has_call(slot, cookie):
        return slot.call
    state = state_of(ctx)
    if state is None:
        return None
    state.client = 0
    return state.call


@bpf.inline
def connecting(ctx: SockOps) -> None:
    """A SYN is about to leave: tell the accepting side where the connection was meant to go."""
    cookie = h.get_socket_cookie(ctx)
    call = call_of(ctx, cookie)
    if call is None:
        return
    if is_as_called(ctx, call):
        if has_slot(ctx, call, cookie):
            report(ctx, STATE_CB_FLAG | WRITE_HDR_OPT_CB_FLAG if REDIRECT_TO_ZTUNNEL else STATE_CB_FLAG)
        elif is_kept(ctx, call, cookie):
            report(ctx, STATE_CB_FLAG)
    give_call_back(cookie)


@bpf.inline
def own_slot(ctx: SockOps, number: int) -> Slot | None:
    """The slot of the connection whose client's socket this is."""
    slot = connections.lookup(number)
    if slot is None or slot.owner != h.get_socket_cookie(ctx):
        return None
    return slot


@bpf.inline
def client_established(ctx: SockOps) -> None:
    """The client's side stands."""
    number = connection_number(ctx.local_ip6[3], ctx.local_port)
    slot = own_slot(ctx, number)
    if slot is None:
        return
    if ctx.data_segs_out != 0:
        slot.requests.by_tcp = 1  # TCP fast open: the SYN carried data
    if sockets.update(ctx, number * 2 + CLIENT, BPF_NOEXIST) == 0:
        slot.joined = slot.owner


@bpf.inline
def as_accepting(ctx: SockOps) -> Connection:
    """The connection of an accepted socket."""
    return Connection(
        netns_cookie=h.get_netns_cookie(ctx),
        client=Address(w0=ctx.remote_ip6[0], w1=ctx.remote_ip6[1], w2=ctx.remote_ip6[2], w3=ctx.remote_ip6[3]),
        client_port=ntohl(ctx.remote_port),
        server=Address(w0=ctx.local_ip6[0], w1=ctx.local_ip6[1], w2=ctx.local_ip6[2], w3=ctx.local_ip6[3]),
        server_port=ctx.local_port,
    )


@bpf.inline
def is_accepted(ctx: SockOps, slot: Slot, owner: int, number: int) -> bool:
    """Whether the connection that ztunnel accepts is the slot's, and not a later one of the same addresses and ports.

    Nothing is known of where that was meant to go: it came straight here.
    """
    if slot.accepted == owner or owner & ORPHANED != 0:
        drop(slot, owner)
        return False
    slot.accepted = owner
    if REDIRECT_TO_ZTUNNEL and slot.joined == owner:
        if REDIRECT_TO_APP:
            report(ctx, STATE_CB_FLAG | WRITE_HDR_OPT_CB_FLAG)
        if sockets.update(ctx, number * 2 + ACCEPTING, BPF_NOEXIST) == 0:
            slot.spliced = owner
            count(Count.SPLICED)
    return True


@bpf.inline
def accepting_established(ctx: SockOps) -> None:
    """ztunnel's side stands: without a slot, it takes over what the client left for it."""
    key = as_accepting(ctx)
    number = connection_number(key.client.w3, key.client_port)
    slot = connections.lookup(number)
    if slot is not None:
        owner = slot.owner
        if is_connection_of(slot, owner, key) and is_accepted(ctx, slot, owner, number):
            return
    origin = original_dst.lookup(key)
    if origin is None:
        return
    sk = ctx.sk
    if sk is None:
        return
    state = socket_state.get_or_create(sk)
    if state is None:
        count(Count.REFUSED_NO_MEMORY)
        return
    state.original = origin.original
    netns_cookie = origin.netns_cookie
    # Who takes the entry away has read what was in it: the kernel gives its memory to another at once.
    if original_dst.delete(key) == 0:
        state.side = ACCEPTING
        give_back(netns_cookie)


@bpf.inline
def accepted_slot(ctx: SockOps) -> Slot | None:
    """The slot of the connection whose accepted socket this is."""
    key = as_accepting(ctx)
    slot = connections.lookup(connection_number(key.client.w3, key.client_port))
    if slot is None or not is_connection_of(slot, slot.owner, key):
        return None
    return slot


@bpf.inline
def sending_by_tcp(ctx: SockOps) -> None:
    """TCP is about to take bytes: from now on this direction stays with it."""
    slot = own_slot(ctx, connection_number(ctx.local_ip6[3], ctx.local_port))
    if slot is not None:
        slot.requests.by_tcp = 1
    elif REDIRECT_TO_APP:
        slot = accepted_slot(ctx)
        if slot is not None:
            slot.answers.by_tcp = 1
    h.sock_ops_cb_flags_set(ctx, ctx.bpf_sock_ops_cb_flags & ~WRITE_HDR_OPT_CB_FLAG)


@bpf.inline
def closed(ctx: SockOps) -> None:
    """The client is gone: what was left for ztunnel goes too, once it is of no use any more. Or ztunnel's side is."""
    slot = own_slot(ctx, connection_number(ctx.local_ip6[3], ctx.local_port))
    if slot is not None:
        # A connection that its client was first to close may still wait to be accepted, with all its bytes; one that
        # was reset is of no use to anybody. Nobody asks about DNS.
        is_asked_about = ctx.args[0] in (TCP_FIN_WAIT1, TCP_FIN_WAIT2) and ntohl(ctx.remote_port) != DNS_PORT
        leave(slot, slot.owner, is_asked_about=is_asked_about)
        return
    if REDIRECT_TO_APP:
        slot = accepted_slot(ctx)
        if slot is not None:
            slot.released = slot.owner & COOKIE
            return
    state = state_of(ctx)
    if state is None:
        return
    key = as_client(ctx, state.call.ztunnel_netns)
    origin = original_dst.lookup(key)
    if origin is None or origin.client != state.client:
        return
    netns_cookie = origin.netns_cookie
    if original_dst.delete(key) == 0:
        give_back(netns_cookie)


@bpf.sock_ops
def sockops(ctx: SockOps) -> int:
    """One event of a TCP socket."""
    op = ctx.op
    if op == TCP_CONNECT_CB:
        connecting(ctx)
    elif op == ACTIVE_ESTABLISHED_CB:
        if REDIRECT_TO_ZTUNNEL:
            client_established(ctx)
    elif op == PASSIVE_ESTABLISHED_CB:
        if ctx.local_port in (OUT_PORT, IN_PORT, HBONE_PORT, DNS_PORT):
            accepting_established(ctx)
    elif op == STATE_CB:
        if ctx.args[1] == TCP_CLOSE:
            closed(ctx)
    elif op == HDR_OPT_LEN_CB and ctx.args[0] == WRITE_HDR_TCP_CURRENT_MSS:
        sending_by_tcp(ctx)
    return 1
