"""cgroup/getsockopt: ztunnel asks an accepted socket for SO_ORIGINAL_DST and learns where the app wanted to go."""

import pybpfasm as bpf
from programs.maps import ACCEPTING, socket_state
from pybpfasm import Sockopt, Struct, be16, be32, u16, u64

PAGE_SIZE = 4096

SOL_IP = 0
SO_ORIGINAL_DST = 80
AF_INET = 2


class SockaddrIn(Struct):
    """struct sockaddr_in."""

    sin_family: u16
    sin_port: be16
    sin_addr: be32
    sin_zero: u64


@bpf.getsockopt
def getsockopt(ctx: Sockopt) -> int:
    """Answer SO_ORIGINAL_DST at its own level, for accepted sockets of redirected connections; leave all else alone."""
    if ctx.optlen > PAGE_SIZE:
        # A program sees one page; 0 tells the kernel to keep its own, longer answer (bpf/prog_cgroup_sockopt.rst).
        ctx.optlen = 0
        return 1
    if ctx.level != SOL_IP or ctx.optname != SO_ORIGINAL_DST:
        return 1
    state = socket_state.get(ctx.sk)
    if state is None:
        return 1
    if state.side != ACCEPTING:
        return 1
    answer = ctx.optval(SockaddrIn)
    if answer is None:
        return 1
    answer.sin_family = AF_INET
    answer.sin_port = state.original.port
    answer.sin_addr = state.original.ip4
    answer.sin_zero = 0
    ctx.optlen = 16
    ctx.retval = 0
    return 1
