"""What is attached to, as a user names it: directories and namespaces by path or descriptor, interfaces by name."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pybpfasm.errors import KernelError
from pybpfasm.kernel import sys


@contextmanager
def opened(target: int | Path) -> Iterator[int]:
    """A descriptor of a cgroup's directory or a namespace's file: the given one, or one for the time of the block.

    Raises `KernelError`: ENOENT if there is nothing of that name.
    """
    if isinstance(target, int):
        yield target
        return
    try:
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise sys.failure(error.errno or 0, f"open {target}") from None
    try:
        yield fd
    finally:
        os.close(fd)


def interface_index(interface: int | str) -> int:
    """The index of an interface in the calling thread's network namespace.

    Raises `KernelError`: ENODEV if it has no such interface.
    """
    try:
        if isinstance(interface, int):
            socket.if_indextoname(interface)
            return interface
        return socket.if_nametoindex(interface)
    except (OSError, OverflowError):
        raise missing_interface(interface) from None


def missing_interface(interface: int | str) -> KernelError:
    """The error for an interface that is not there."""
    name = f"with index {interface}" if isinstance(interface, int) else interface
    return sys.failure(errno.ENODEV, f"find interface {name}", "this network namespace has none of that name or index")
