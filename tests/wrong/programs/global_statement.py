"""A variable of the module is a Global."""

import pybpfasm as bpf
from pybpfasm import SockAddr


calls = 0


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Count in a plain variable."""
    global calls  # error: 5: `global calls` is not supported in a BPF program: state lives in maps and in Global variables
    calls += 1
    return 1
