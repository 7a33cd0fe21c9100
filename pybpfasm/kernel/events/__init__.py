"""Events: what programs hand to user space, record by record, and back.

with RingBuffer(collection.maps["events"], Event) as events:
    for event in events:
        print(event)
"""

from typing import TYPE_CHECKING

from pybpfasm.lazy import lazy_attributes

if TYPE_CHECKING:
    from pybpfasm.kernel.events.perf_buffer import PerfBuffer
    from pybpfasm.kernel.events.poller import Poller
    from pybpfasm.kernel.events.reader import EventReader
    from pybpfasm.kernel.events.ring_buffer import RingBuffer
    from pybpfasm.kernel.events.user_ring_buffer import RingFullError, UserRingBuffer

__getattr__ = lazy_attributes(
    __name__,
    {
        "perf_buffer": "PerfBuffer",
        "poller": "Poller",
        "reader": "EventReader",
        "ring_buffer": "RingBuffer",
        "user_ring_buffer": "RingFullError UserRingBuffer",
    },
)

__all__ = ["EventReader", "PerfBuffer", "Poller", "RingBuffer", "RingFullError", "UserRingBuffer"]
