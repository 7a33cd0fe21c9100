"""An index is known to be within the array."""

from typing import Annotated

import pybpfasm as bpf
from pybpfasm import HashMap, Length, SockAddr, Struct, u32


class Row(Struct):
    """Counters."""

    cells: Annotated[list[u32], Length(8)]


rows = HashMap[u32, Row](max_entries=8)


@bpf.connect4
def program(ctx: SockAddr) -> int:
    """An index is known to be within the array."""
    row = rows.lookup(1)
    if row is None:
        return 1
    row.cells[ctx.protocol] = 1  # error: 15: the array has 8 elements, this index can be 4294967295: bound it by `& 7`, `min(…, 7)`, or test it, `if ctx.protocol < 8`
    return 1
