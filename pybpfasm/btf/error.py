"""What goes wrong with BTF."""

from pybpfasm.errors import BpfError


class BtfError(BpfError, ValueError):
    """Data that is no BTF, or types that make no sense.

    `offset` is the byte of the blob where that was seen, None where no single place is to blame; the text names it.
    """

    def __init__(self, message: str, offset: int | None = None, *, section: str = "BTF") -> None:
        super().__init__(f"{section}: {message}" if offset is None else f"{section}, byte {offset}: {message}")
        self.offset = offset


class NotFoundError(BtfError, LookupError):
    """There is no type or field of that name: what a caller asks to learn whether a kernel has it."""
