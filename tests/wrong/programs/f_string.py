"""Text is formatted by printk."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Text is formatted by printk."""
    text = f"{ctx.protocol}"  # error: 12: `f'{ctx.protocol}'` is not supported in a BPF program: strings exist only as constants
    return 1
