"""An assertion is decided when the program is compiled."""

import pybpfasm as bpf
from pybpfasm import SockAddr


LIMIT = 5000


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Check a setting."""
    assert LIMIT < 4096, "LIMIT is too high"  # error: 5: this assertion does not hold: LIMIT is too high
    return 1
