"""A helper's name is known."""

import pybpfasm as bpf
from pybpfasm import SkBuff
from pybpfasm import helpers as h


@bpf.tc
def program(ctx: SkBuff) -> int:
    """Ask for what nobody has."""
    return 0 if h.ktime_get() else 2  # error (typed): 17: pybpfasm.lang.helpers has no attribute `ktime_get`: did you mean `ktime_get_ns`?
