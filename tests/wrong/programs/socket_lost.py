"""A socket that was looked up is released."""

import pybpfasm as bpf
from pybpfasm import SkBuff, Tuple4, htonl, htons, sk_lookup_tcp


@bpf.tc
def program(ctx: SkBuff) -> int:
    """Look a socket up, and keep it."""
    peers = Tuple4(saddr=htonl(1), daddr=htonl(2), sport=htons(3), dport=htons(4))
    found = sk_lookup_tcp(ctx, peers)
    if found is None:
        return 0
    return 2  # error: 5: `found`, which was found in line 11, is not given back on this path: hand it to sk_release()
