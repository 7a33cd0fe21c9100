"""16 bits of network order are not 32."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, htonl, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """16 bits of network order are not 32."""
    if ctx.user_port == htonl(443):  # error (typed): 8: be16 is compared with be32: convert both, with ntohs(), ntohl() or ntohll()
        return 0
    return 1
