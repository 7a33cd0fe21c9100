"""Functions stand beside the program."""

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64


class Stat(Struct):
    """What is counted."""

    packets: u64
    octets: u64


stats = HashMap[u32, Stat](max_entries=64)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Functions stand beside the program."""
    def inner() -> int:  # error: 5: `def inner() -> int:` is not supported in a BPF program: define it outside and mark it @inline
        return 1
    return 1
