"""Arrays are read by element."""

from typing import Annotated

import pybpfasm as bpf
from pybpfasm import HashMap, Length, SockAddr, Struct, u32


class Row(Struct):
    """Counters."""

    cells: Annotated[list[u32], Length(8)]


rows = HashMap[u32, Row](max_entries=8)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """Arrays are read by element."""
    row = rows.lookup(1)
    if row is None:
        return 1
    part = row.cells[0:2]  # error: 22: there are no slices in a BPF program: take the elements one by one
    return 1
