"""sk_msg: bytes between the two sockets of a redirected connection go from one to the other without the TCP stack."""

import pybpfasm as bpf
from programs.maps import SocketKey, socket_state, sockets
from pybpfasm import SkMsg
from pybpfasm import helpers as h

SK_PASS = 1

# How many bytes a direction may send past TCP before TCP takes over for good. TCP's flow control does not count them:
# a sender is never stopped, however little the other side reads, and its bytes fill the kernel's memory (seen on 6.18:
# 256 MiB accepted at once). So no more of them than TCP itself would buffer (the default of net.ipv4.tcp_rmem is 6 MiB).
REDIRECT_LIMIT = 4 << 20

# To the other socket's receive queue, as if the bytes had arrived.
BPF_F_INGRESS = 1


@bpf.sk_msg
def redirect(ctx: SkMsg) -> int:
    """Redirect, unless TCP has this direction already, or gets it now: nobody is there yet, or the limit is reached."""
    state = socket_state.get(ctx.sk)
    if state is None:
        return SK_PASS
    if state.by_tcp:
        return SK_PASS
    state.redirected += ctx.size
    if state.redirected > REDIRECT_LIMIT:
        state.by_tcp = 1
        return SK_PASS
    peer = SocketKey(connection=state.connection, side=state.side ^ 1)
    if h.msg_redirect_hash(ctx, sockets, peer, BPF_F_INGRESS) != SK_PASS:
        state.by_tcp = 1
    return SK_PASS
