"""A constant index is within the array."""

from typing import Annotated

import pybpfasm as bpf
from pybpfasm import HashMap, Length, SockAddr, Struct, u32


class Row(Struct):
    """Counters."""

    cells: Annotated[list[u32], Length(8)]


rows = HashMap[u32, Row](max_entries=8)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """A constant index is within the array."""
    row = rows.lookup(1)
    if row is None:
        return 1
    row.cells[8] = 1  # error: 15: index 8 is outside the array's 8 elements
    return 1
