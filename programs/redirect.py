"""sk_msg: bytes between the two sockets of a redirected connection go from one to the other without the TCP stack.

By default only those to ztunnel do. An app that receives past TCP sees a difference: splice(2) from the socket finds
nothing, a recv that began before the connection stood never wakes, MSG_WAITALL returns early (all seen on 6.18).
"""

import pybpfasm as bpf
from programs.maps import ACCEPTING, SocketKey, socket_state, sockets
from pybpfasm import SkMsg
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


@bpf.sk_msg
def redirect(ctx: SkMsg) -> int:
    """Redirect, unless TCP has this direction already, or gets it now: nobody is there yet, or the limit is reached."""
    state = socket_state.get(ctx.sk)
    if state is None:
        return SK_PASS
    if state.by_tcp or (state.side == ACCEPTING and not REDIRECT_TO_APP):
        return SK_PASS
    state.redirected += ctx.size + MESSAGE_OVERHEAD
    if state.redirected > MEMORY_LIMIT:
        state.by_tcp = 1
        return SK_PASS
    peer = SocketKey(id=state.id, side=state.side ^ 1)
    if h.msg_redirect_hash(ctx, sockets, peer, BPF_F_INGRESS) != SK_PASS:
        state.by_tcp = 1
    return SK_PASS
