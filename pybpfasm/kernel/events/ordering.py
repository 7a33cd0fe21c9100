"""The order in which this process's accesses to memory that it shares with the kernel are seen.

x86-64 keeps loads in program order, keeps stores in program order, and never moves a store before a load. That leaves
loads that overtake earlier stores, which the readers' lock prevents: its instructions are full barriers there. arm64
promises none of it: there a full barrier is asked for. docs/events.md has the argument.
"""

import platform
from collections.abc import Callable

from pybpfasm.kernel import sys


def _in_order_already() -> None:
    """Nothing: the machine keeps the order."""


def barrier_for(machine: str) -> Callable[[], None]:
    """The barrier that a reader or writer of rings needs on machines of that type, as uname(2) names it."""
    return _in_order_already if machine == "x86_64" else sys.memory_barrier


# Accesses before the call are seen before those after it. One is enough for a whole batch of records.
order_memory: Callable[[], None] = barrier_for(platform.machine())
