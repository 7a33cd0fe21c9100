"""Counting, per CPU."""

import pybpfasm as bpf
from programs.maps import counters


@bpf.inline
def count(what: int) -> None:
    """One more of `what`, a `Count`."""
    counter = counters.lookup(what)
    if counter is not None:
        counter.count += 1
