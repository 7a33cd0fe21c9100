"""Rings in this process's memory, as mmap(2) gives them."""

import errno
import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys

PAGE_BYTES = mmap.PAGESIZE


class SharedMemory:
    """A part of what a descriptor offers to be mapped: `length` bytes from `offset`, both whole pages.

    Owns the mapping, and a descriptor that Python's mmap keeps with it. Raises `KernelError`.
    """

    def __init__(self, fd: int, offset: int, length: int, what: str, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            self._mapping = mmap.mmap(fd, length, mmap.MAP_SHARED, protection, offset=offset)
        except OSError as error:
            raise _failure(error.errno or 0, what, length) from None
        self.bytes = memoryview(self._mapping)
        self._views = [self.bytes]

    def numbers(self, code: str, start: int = 0, length: int | None = None) -> memoryview:
        """The bytes from `start` on as aligned integers, `code` as the struct module calls them; each is read whole."""
        part = self.bytes[start : None if length is None else start + length]
        view: memoryview = part.cast(code)  # type: ignore[call-overload]  # typeshed lists the codes as literals
        self._views += [view, part]
        return view

    def close(self) -> None:
        """Unmap it, and end all views; closing twice does nothing."""
        while self._views:
            self._views.pop().release()
        self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def opening(what: str) -> Iterator[ExitStack]:
    """What is opened on the way is closed again if something fails; an errno becomes a `KernelError` with its cause."""
    with ExitStack() as opened:
        try:
            yield opened
        except KernelError:
            raise
        except OSError as error:
            raise sys.failure(error.errno or 0, f"open {what}") from None


def _failure(number: int, what: str, length: int) -> KernelError:
    causes = {
        errno.ENOMEM: f"there is no memory for {length} bytes, or as many mappings as there may be",
        errno.EINVAL: "the map's size is another than its description says",
        errno.EPERM: "it takes more locked memory than this user may have (ulimit -l, kernel.perf_event_mlock_kb)",
    }
    return sys.failure(number, f"map {what} into memory", causes.get(number))
