"""sock_ops: the accepting side learns the original destination before the SYN leaves; both sockets enter the SOCKHASH.

Bytes of one direction go one way. A direction in which TCP has been given a byte is never redirected: the redirected
bytes would overtake it. TCP asks for the segment size before it takes the first byte (tcp_send_mss), whoever sends and
however: also a send that began before the connection was established, which `redirect` never sees. That is the moment
at which a direction is marked.
"""

import pybpfasm as bpf
from programs.count import count
from programs.maps import (
    ACCEPTING,
    CLIENT,
    Address,
    Connection,
    Count,
    Origin,
    Share,
    SocketKey,
    SocketState,
    original_dst,
    shares,
    socket_state,
    sockets,
)
from pybpfasm import BPF_ANY, BPF_NOEXIST, SockOps, atomic_add, ntohl, ntohs
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
def is_recorded(ctx: SockOps, state: SocketState) -> bool:
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
    key = as_client(ctx, state.ztunnel_netns)
    origin = Origin(original=state.original, id=state.id, netns_cookie=netns_cookie)
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
def connecting(ctx: SockOps) -> None:
    """The client's SYN is about to leave: tell the accepting side where the connection was meant to go."""
    state = state_of(ctx)
    if state is None:
        return
    if not is_remote(ctx, state.ztunnel.ip) or ntohl(ctx.remote_port) != ntohs(state.ztunnel.port):
        # Redirected once, without success; now it connects to somewhere else.
        state.id.client = 0
        return
    if state.enrolled and not is_local(ctx, state.pod):
        # Under another pod's address it could put its own destination in place of that pod's; a pod whose own is not
        # known could, too. The host's connections come from any of its addresses.
        state.id.client = 0
        count(Count.FOREIGN_SOURCE)
        return
    if REDIRECT_TO_APP and state.id.generation != 0:
        # Its last connection is over (connect with AF_UNSPEC): whoever still sends on that must not reach this one.
        sockets.delete(SocketKey(id=state.id, side=CLIENT))
    state.id.client = h.get_socket_cookie(ctx)
    state.id.generation += 1
    state.side = CLIENT
    state.by_tcp = 0
    state.redirected = 0
    if not is_recorded(ctx, state):
        return
    if REDIRECT_TO_ZTUNNEL:
        report(ctx, STATE_CB_FLAG | WRITE_HDR_OPT_CB_FLAG)
    else:
        report(ctx, STATE_CB_FLAG)


@bpf.inline
def client_established(ctx: SockOps) -> None:
    """The client's side stands."""
    state = state_of(ctx)
    if state is None:
        return
    if state.id.client == 0:
        return
    if ctx.data_segs_out != 0:
        state.by_tcp = 1  # TCP fast open: the SYN carried data
    h.sock_hash_update(ctx, sockets, SocketKey(id=state.id, side=CLIENT), BPF_ANY)


@bpf.inline
def accepting_established(ctx: SockOps) -> None:
    """ztunnel's side stands: it takes over what the client left for it."""
    key = Connection(
        netns_cookie=h.get_netns_cookie(ctx),
        client=Address(w0=ctx.remote_ip6[0], w1=ctx.remote_ip6[1], w2=ctx.remote_ip6[2], w3=ctx.remote_ip6[3]),
        client_port=ntohl(ctx.remote_port),
        server=Address(w0=ctx.local_ip6[0], w1=ctx.local_ip6[1], w2=ctx.local_ip6[2], w3=ctx.local_ip6[3]),
        server_port=ctx.local_port,
    )
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
    state.id = origin.id
    state.side = ACCEPTING
    netns_cookie = origin.netns_cookie
    if original_dst.delete(key) == 0:
        give_back(netns_cookie)
    if REDIRECT_TO_APP:
        report(ctx, WRITE_HDR_OPT_CB_FLAG)
    key_of_socket = SocketKey(id=state.id, side=ACCEPTING)
    if REDIRECT_TO_ZTUNNEL and h.sock_hash_update(ctx, sockets, key_of_socket, BPF_ANY) == 0:
        count(Count.SPLICED)


@bpf.inline
def sending_by_tcp(ctx: SockOps) -> None:
    """TCP is about to take bytes: from now on this direction stays with it."""
    state = state_of(ctx)
    if state is None:
        return
    state.by_tcp = 1
    h.sock_ops_cb_flags_set(ctx, ctx.bpf_sock_ops_cb_flags & ~WRITE_HDR_OPT_CB_FLAG)


@bpf.inline
def client_closed(ctx: SockOps) -> None:
    """The client is gone: if ztunnel's side never stood, what was left for it goes too."""
    state = state_of(ctx)
    if state is None:
        return
    key = as_client(ctx, state.ztunnel_netns)
    origin = original_dst.lookup(key)
    if origin is None:
        return
    if origin.id.client != state.id.client or origin.id.generation != state.id.generation:
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
            client_closed(ctx)
    elif op == HDR_OPT_LEN_CB and ctx.args[0] == WRITE_HDR_TCP_CURRENT_MSS:
        sending_by_tcp(ctx)
    return 1
