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


def new_namespace(*, ip6: bool = False) -> int:
    """A descriptor of a new network namespace; raises MerbridgeError without the privilege.

    IPv6 is off unless it is wanted, and then addresses are there at once: nobody looks for duplicates.
    """

    def create() -> int:
        unshare(CLONE_NEWNET)
        # With it on, the namespace gets link-local addresses, whose duplicate detection takes a second.
        _set_ip6("accept_dad" if ip6 else "disable_ipv6", 0 if ip6 else 1)
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


def _set_ip6(setting: str, value: int) -> None:
    for name in ("all", "default"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{name}/{setting}").write_text(str(value))
