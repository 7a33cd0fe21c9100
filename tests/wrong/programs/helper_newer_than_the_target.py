"""A helper is there in the kernel that is compiled for."""

import pybpfasm as bpf
from pybpfasm import SkBuff
from pybpfasm import helpers as h


@bpf.tc
def program(ctx: SkBuff) -> int:
    """Wait for a version that has it."""
    return 0 if h.ktime_get_tai_ns() else 2  # error: 17: Linux 5.10, for which this is compiled, has no helper ktime_get_tai_ns: 6.1 has, give a target
