"""There is no power."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There is no power."""
    return 1 if ctx.protocol ** 2 == 36 else 0  # error: 17: `**` is not supported in a BPF program: use <<
