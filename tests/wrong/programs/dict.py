"""There are no dicts; maps hold what is looked up."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There are no dicts; maps hold what is looked up."""
    names = {6: 1}  # error: 13: `{6: 1}` is not supported in a BPF program: use a map
    return 1
