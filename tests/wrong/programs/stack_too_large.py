"""A program has 512 bytes of stack."""

from typing import Annotated

import pybpfasm as bpf
from pybpfasm import Length, RingBuf, SockAddr, Struct, u64


class Report(Struct):
    """More than fits."""

    words: Annotated[list[u64], Length(80)]


reports = RingBuf(max_entries=4096)


@bpf.connect4
def program(ctx: SockAddr) -> int:  # error: 1: the program needs 640 bytes of stack, 512 are there: keep it in a map
    """Build it on the stack."""
    reports.output(Report(words=[0] * 80))
    return 1
