"""A field that only other hooks can read."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A field that only other hooks can read."""
    if ctx.user_ip6[0] == ctx.user_ip6[1]:  # error: 8: SockAddr.user_ip6 cannot be read by cgroup_inet4_connect programs: cgroup_inet6_bind, cgroup_inet6_connect, cgroup_udp6_sendmsg, cgroup_udp6_recvmsg, cgroup_inet6_getpeername, cgroup_inet6_getsockname programs can
        return 0
    return 1
