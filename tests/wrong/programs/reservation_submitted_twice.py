"""What was submitted is not submitted again."""

import pybpfasm as bpf
from pybpfasm import RingBuf, SockAddr, Struct, u64


class Event(Struct):
    """What is reported."""

    pid: u64


events = RingBuf(max_entries=4096)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """What was submitted is not submitted again."""
    event = events.reserve(Event)
    if event is None:
        return 1
    events.submit(event)
    events.submit(event)  # error: 5: this may have been given back before: hand it to submit() or discard() once on each path
    return 1
