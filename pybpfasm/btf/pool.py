"""Records decoded once, and a measure of the work that is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybpfasm.btf.error import BtfError
from pybpfasm.btf.kinds import Record
from pybpfasm.btf.sizes import alignment_of, size_of

if TYPE_CHECKING:
    from pybpfasm.btf.blob import Btf

# Steps allowed for each byte of the blobs, and for the smallest of them. A kernel's types take 0.2 steps a byte.
_STEPS_PER_BYTE = 2
_STEPS = 20_000


class Pool:
    """The records of a dump.

    Anonymous types are written out wherever they are used, so a small blob made for it asks for a text without an end:
    steps are counted, and their number is in proportion to the blob.
    """

    def __init__(self, btf: Btf) -> None:
        self.pointer_size = btf.pointer_size
        self._btf = btf
        self._alignments: dict[int, int] = {}
        self._records: dict[int, Record] = {}
        self._left = _STEPS
        at: Btf | None = btf
        while at is not None:
            self._left += _STEPS_PER_BYTE * len(at.encode())
            at = at.base

    def type(self, type_id: int) -> Record:
        """The record of an id."""
        self.spend(1)
        record = self._records.get(type_id)
        if record is None:
            record = self._records[type_id] = self._btf.type(type_id)
        return record

    def size_of(self, type_id: int) -> int:
        """The size of a type in bytes."""
        return size_of(self, type_id)

    def alignment_of(self, type_id: int) -> int:
        """The alignment of a type in bytes."""
        return alignment_of(self, type_id, self._alignments)

    def spend(self, steps: int) -> None:
        """Count steps. Raises `BtfError` when there are too many."""
        self._left -= steps
        if self._left < 0:
            raise BtfError("the types refer to each other in so many ways that their text has no reasonable size")
