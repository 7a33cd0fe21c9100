"""A reservation may fail."""

import pybpfasm as bpf
from pybpfasm import RingBuf, SockAddr, Struct, u64


class Event(Struct):
    """What is reported."""

    pid: u64


events = RingBuf(max_entries=4096)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A reservation may fail."""
    event = events.reserve(Event)
    events.submit(event)  # error (typed): 19: this may be None: test it first
    return 1
