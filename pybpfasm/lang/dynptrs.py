"""Pointers to memory whose size is known only when the program runs (Linux 5.19)."""

from typing import TypeVar

from pybpfasm.lang.buffers import Buffer, Data
from pybpfasm.lang.contexts import Context
from pybpfasm.lang.maps import only_in_program
from pybpfasm.lang.types import Record

T = TypeVar("T", bound=Record)


class Dynptr(Context):
    """struct bpf_dynptr, on the program's stack: what `reserve_dynptr` of a ring buffer gives.

    It has to be handed to `submit` or `discard` on every path, also if there was no room: then nothing can be written.
    """

    uapi = "bpf_dynptr"

    def write(self, offset: int, data: Data) -> int:
        """Copy bytes there: 0, or -E2BIG if they do not fit, -EINVAL if there was no room."""
        only_in_program("write")

    def read(self, into: Record | bytes | Buffer, offset: int = 0) -> int:
        """Copy bytes from there: 0, or a negative errno."""
        only_in_program("read")

    def data(self, as_type: type[T], offset: int = 0) -> T | None:
        """The memory itself from a constant offset on; None if it is too short."""
        only_in_program("data")

    def submit(self, flags: int = 0) -> None:
        """Hand the event over; nothing of it can be used afterwards."""
        only_in_program("submit")

    def discard(self, flags: int = 0) -> None:
        """Give its room back; nothing of it can be used afterwards."""
        only_in_program("discard")
