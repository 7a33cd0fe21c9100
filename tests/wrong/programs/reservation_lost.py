"""What is reserved is submitted or discarded on every way."""

import pybpfasm as bpf
from pybpfasm import RingBuf, SockAddr, Struct, u64


class Event(Struct):
    """What is reported."""

    pid: u64


events = RingBuf(max_entries=4096)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """What is reserved is submitted or discarded on every way."""
    event = events.reserve(Event)
    if event is None:
        return 1
    if ctx.protocol == 6:
        return 1  # error: 9: `event`, which was reserved in line 19, is not given back on this path: hand it to submit() or discard()
    event.pid = 7
    events.submit(event)
    return 1
