"""What was submitted is not used any more."""

import pybpfasm as bpf
from pybpfasm import RingBuf, SockAddr, Struct, u64


class Event(Struct):
    """What is reported."""

    pid: u64


events = RingBuf(max_entries=4096)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """What was submitted is not used any more."""
    event = events.reserve(Event)
    if event is None:
        return 1
    events.submit(event)
    event.pid = 7  # error: 5: this was reserved in line 19 and has been given back: it cannot be used
    return 1
