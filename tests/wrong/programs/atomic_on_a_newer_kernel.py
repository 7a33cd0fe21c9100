"""Atomics that fetch came with Linux 5.12."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, fetch_add, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Atomics that fetch came with Linux 5.12."""
    stat = stats.lookup(1)
    if stat is None:
        return 1
    before = fetch_add(stat.packets, 1)  # error: 14: fetch_add() needs Linux 5.12, this is compiled for 5.10
    return 1 if before else 0
