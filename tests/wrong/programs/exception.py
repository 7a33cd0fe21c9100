"""There are no exceptions."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """There are no exceptions."""
    try:  # error: 5: `try:` is not supported in a BPF program: a BPF program has no exceptions
        return 0
    except ValueError:
        return 1
