"""A program prints by printk."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A program prints by printk."""
    print(ctx.protocol)  # error: 5: print cannot be called in a BPF program: use printk(…)
    return 1
