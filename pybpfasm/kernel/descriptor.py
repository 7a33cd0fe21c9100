"""File descriptors with one owner."""

import os
from typing import Self


class Descriptor:
    """Owns a file descriptor until it is closed, or given away with `release`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The open descriptor; raises ValueError once it is closed or given away."""
        if self._fd < 0:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._fd

    def fileno(self) -> int:
        """The same, by the name that select and os functions look for."""
        return self.fd

    def release(self) -> int:
        """Give the descriptor away: the caller closes it."""
        fd, self._fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close it; closing twice does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
