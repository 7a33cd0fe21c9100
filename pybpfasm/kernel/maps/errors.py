"""What goes wrong with maps, each error a line that names the map, what was attempted and the cause."""

import errno

from pybpfasm.errors import BpfError, KernelError

# Linux's own errno for "not supported", which no libc has a name for (include/linux/errno.h).
ENOTSUPP = 524

_NAMES = {**errno.errorcode, ENOTSUPP: "ENOTSUPP", errno.EOPNOTSUPP: "EOPNOTSUPP"}


class ShapeError(BpfError):
    """A map is not of the shape that is wanted; the text says in what they differ."""


class MapFullError(KernelError):
    """An entry could not be added because the map has as many as it may have.

    `done` counts the entries of a batch that were written before it.
    """

    done = 0


class MapOperationError(KernelError):
    """Maps of this type do not have the operation, or it is not for user space."""


def errno_name(number: int) -> str:
    """The name of an errno, as the kernel has it."""
    return _NAMES.get(number, str(number))
