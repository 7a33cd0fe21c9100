"""sk_msg: bytes between the two sockets of a redirected connection go from one to the other without the TCP stack."""

import pybpfasm as bpf
from programs.maps import SocketKey, socket_state, sockets
from pybpfasm import SkMsg
from pybpfasm import helpers as h

SK_PASS = 1

# To the other socket's receive queue, as if the bytes had arrived.
BPF_F_INGRESS = 1


@bpf.sk_msg
def redirect(ctx: SkMsg) -> int:
    """Redirect, unless this direction has begun with TCP; TCP it is too where the other socket is not there yet."""
    state = socket_state.get(ctx.sk)
    if state is None:
        return SK_PASS
    if state.by_tcp:
        return SK_PASS
    peer = SocketKey(connection=state.connection, side=state.side ^ 1)
    if h.msg_redirect_hash(ctx, sockets, peer, BPF_F_INGRESS) != SK_PASS:
        state.by_tcp = 1
    return SK_PASS
