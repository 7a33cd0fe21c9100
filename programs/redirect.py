"""sk_msg: bytes between the two sockets of a redirected connection go from one to the other without the TCP stack.

By default only those to ztunnel do. An app that receives past TCP sees a difference: splice(2) from the socket finds
nothing, a recv that began before the connection stood never wakes, MSG_WAITALL returns early (all seen on 6.18).
"""

import pybpfasm as bpf
from programs.maps import ACCEPTING, CLIENT, Address, Direction, Slot, connections, sockets
from programs.slots import connection_number, has_connection
from pybpfasm import SkMsg, ntohl
from pybpfasm import helpers as h

REDIRECT_TO_APP = False

SK_PASS = 1

# How much a direction may send past TCP before TCP takes over for good. TCP's flow control does not count these bytes:
# a sender is never stopped, however little the other side reads, and they fill the kernel's memory (seen on 6.18:
# 256 MiB accepted at once). So no more of it than TCP itself would buffer (the default of net.ipv4.tcp_rmem is 6 MiB),
# and each message counts with what the kernel keeps beside its bytes (about 1 KiB, seen on 6.18).
MEMORY_LIMIT = 4 << 20
MESSAGE_OVERHEAD = 1024

# To the other socket's receive queue, as if the bytes had arrived.
BPF_F_INGRESS = 1


@bpf.inline
def has_addresses(ctx: SkMsg, local: Address, remote: Address) -> bool:
    """Whether the socket that sends has these addresses."""
    last_equal = ctx.local_ip6[3] == local.w3 and ctx.remote_ip6[3] == remote.w3
    return (
        last_equal
        and ctx.local_ip6[2] == local.w2
        and ctx.local_ip6[1] == local.w1
        and ctx.local_ip6[0] == local.w0
        and ctx.remote_ip6[2] == remote.w2
        and ctx.remote_ip6[1] == remote.w1
        and ctx.remote_ip6[0] == remote.w0
    )


@bpf.inline
def is_clients(ctx: SkMsg, slot: Slot) -> bool:
    """Whether a slot's connection is the one whose client's socket sends; those of two pods may look alike."""
    one = slot.connection
    return (
        one.client_port == ctx.local_port
        and one.server_port == ntohl(ctx.remote_port)
        and has_addresses(ctx, one.client, one.server)
        and slot.netns_cookie == h.get_netns_cookie(ctx)
    )


@bpf.inline
def is_accepted(ctx: SkMsg, slot: Slot) -> bool:
    """Whether a slot's connection is the one whose accepted socket sends."""
    one = slot.connection
    return (
        one.client_port == ntohl(ctx.remote_port)
        and one.server_port == ctx.local_port
        and has_addresses(ctx, one.server, one.client)
        and one.netns_cookie == h.get_netns_cookie(ctx)
    )


@bpf.inline
def send(ctx: SkMsg, direction: Direction, to: int, *, is_spliced: bool) -> None:
    """Redirect to the socket at `to`, unless this direction is TCP's, or is so from now on."""
    if direction.by_tcp:
        return
    direction.redirected += ctx.size + MESSAGE_OVERHEAD
    is_possible = is_spliced and direction.redirected <= MEMORY_LIMIT
    if not is_possible or sockets.redirect(ctx, to, BPF_F_INGRESS) != SK_PASS:
        direction.by_tcp = 1


@bpf.sk_msg
def redirect(ctx: SkMsg) -> int:
    """Redirect, unless TCP has this direction already, or gets it now: nobody is there yet, or the limit is reached.

    A socket's slot stays its connection's while the socket sends: see `is_over` in `programs.slots`.
    """
    number = connection_number(ctx.local_ip6[3], ctx.local_port)
    slot = connections.lookup(number)
    if slot is not None:
        owner = slot.owner
        if has_connection(owner) and is_clients(ctx, slot):
            send(ctx, slot.requests, number * 2 + ACCEPTING, is_spliced=slot.spliced == owner)
            return SK_PASS
    if REDIRECT_TO_APP:
        number = connection_number(ctx.remote_ip6[3], ntohl(ctx.remote_port))
        slot = connections.lookup(number)
        if slot is not None:
            owner = slot.owner
            if has_connection(owner) and is_accepted(ctx, slot):
                send(ctx, slot.answers, number * 2 + CLIENT, is_spliced=slot.spliced == owner)
    return SK_PASS
