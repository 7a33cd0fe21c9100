"""Network namespaces without a name in the file system: they end with the descriptors and processes that hold them."""

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from merbridge.errors import MerbridgeError
from pybpfasm.kernel.sys import CLONE_NEWNET, setns, unshare

T = TypeVar("T")


def new_namespace() -> int:
    """A descriptor of a new network namespace, with IPv6 off; raises MerbridgeError without the privilege."""

    def create() -> int:
        unshare(CLONE_NEWNET)
        _disable_ipv6()
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    try:
        return _in_thread(create)
    except OSError as error:
        raise MerbridgeError(f"cannot make a pod's network: {error}") from None


def in_namespace(namespace_fd: int, function: Callable[[], T]) -> T:
    """Run a function inside a network namespace, in a short-lived thread, since a thread is what enters one."""

    def enter() -> T:
        setns(namespace_fd, CLONE_NEWNET)
        return function()

    return _in_thread(enter)


def _in_thread(function: Callable[[], T]) -> T:
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return outcome.result()
    finally:  # also when Ctrl-C interrupts the wait
        thread.join()


def _disable_ipv6() -> None:
    """Spare the namespace its link-local addresses, whose duplicate detection takes a second."""
    for name in ("all", "default"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
