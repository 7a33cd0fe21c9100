"""There are no lambdas."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There are no lambdas."""
    same = lambda x: x  # error: 12: `lambda x: x` is not supported in a BPF program: write a function and mark it @inline
    return 1
