"""A network namespace as the datapath knows it: its cookie, and the addresses it has."""

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from threading import Thread
from typing import TypeVar

import attrs

from merbridge.errors import MerbridgeError
from merbridge.watchers.processes import FORGET_SECONDS, YOUNG_SECONDS, NetnsId, netns_path
from pybpfasm.kernel import sys as kernel

T = TypeVar("T")

_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h; Linux 5.14
_COOKIE_SIZE = 8

_LOCAL_HOST_ENTRY = re.compile(r"\|-- (?P<address>[0-9.]+)\n(?:\s+/\d+ .*\n)*?\s+/32 host LOCAL\b")

ADDRESS_SECONDS, NO_ADDRESS_SECONDS = 20.0, 2.0

# What is behind these fields is a device's name, in which a pod may have any bytes but white space.
_IF_INET6_LINE = re.compile(r"^(?P<address>[0-9a-f]{32}) [0-9a-f]+ [0-9a-f]+ (?P<scope>[0-9a-f]{2}) ", re.MULTILINE)

# IPV6_ADDR_SCOPE_GLOBAL of include/net/ipv6.h, as if_inet6 prints it.
_GLOBAL_SCOPE = "00"


class NetnsGoneError(Exception):
    """The process, and perhaps its namespace, ended before it could be read; another process may still hold it."""


@attrs.frozen
class Netns:
    """A network namespace. `cookie` is unique for the kernel's lifetime; `inode` only while the namespace lives.

    `addresses` are its own outside 127/8, and those of IPv6 that are valid beyond a link. `pid` is a process that was
    in it when it was read.
    """

    inode: int
    cookie: int
    addresses: frozenset[IPv4Address | IPv6Address]
    pid: int = attrs.field(default=0, eq=False)


def read_netns(pid: int, proc: Path) -> Netns:
    """Read the network namespace of process `pid`.

    Raises `NetnsGoneError` when the process ends meanwhile, `MerbridgeError` without the privilege or on a kernel
    older than 5.14.
    """
    with held_netns(pid, proc) as descriptor:
        held = os.fstat(descriptor)
        cookie = in_netns(descriptor, _cookie_of_this_thread)
        addresses = _own_addresses(pid, proc)
        # The PID may have gone to a process elsewhere; while the descriptor is open, this pair means this namespace.
        now = _id_of(netns_path(pid, proc))
    if now != NetnsId(held.st_dev, held.st_ino):
        raise NetnsGoneError(f"process {pid} left its network namespace")
    return Netns(held.st_ino, cookie, addresses, pid)


class NetnsTable:
    """Network namespaces from one look to the next.

    A namespace is read anew after `FORGET_SECONDS`, and when the process is another by which it was read; before that
    only its addresses are, as long as it is young, then every `ADDRESS_SECONDS`, every `NO_ADDRESS_SECONDS` if it has
    none.
    """

    def __init__(self, proc: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read yet."""
        self._proc = proc
        self._clock = clock
        self._known: dict[NetnsId, _Known] = {}
        self._seen: set[NetnsId] = set()

    def read(self, identity: NetnsId, pid: int, is_it: Callable[[], bool] = lambda: True) -> Netns:
        """The namespace that process `pid` is in, which is `identity` as far as is known.

        Raises as `read_netns` does; `NetnsGoneError`, too, if the process is in another, or not the one that it was
        taken for: that is what `is_it` tells, after it was read.
        """
        now = self._clock()
        known = self._known.get(identity)
        if known is None or known.netns.pid != pid or now - known.read >= FORGET_SECONDS:
            netns = read_netns(pid, self._proc)
            if netns.inode != identity.inode or not is_it():
                raise NetnsGoneError(f"process {pid} is not what it was")
            known = _Known(netns, now if known is None else known.first, now, now)
        elif now - known.first < YOUNG_SECONDS or now - known.addresses >= _pause(known.netns):
            netns = attrs.evolve(known.netns, addresses=_own_addresses(pid, self._proc))
            if _id_of(netns_path(pid, self._proc)) != identity:
                del self._known[identity]
                raise NetnsGoneError(f"process {pid} left its network namespace")
            known = attrs.evolve(known, netns=netns, addresses=now)
        self._known[identity] = known
        self._seen.add(identity)
        return known.netns

    def knows(self, identity: NetnsId) -> bool:
        """Whether it was read before."""
        return identity in self._known

    def forget_unseen(self) -> None:
        """Keep what was read since the last time alone."""
        self._known = {identity: known for identity, known in self._known.items() if identity in self._seen}
        self._seen = set()


def _pause(netns: Netns) -> float:
    return ADDRESS_SECONDS if netns.addresses else NO_ADDRESS_SECONDS


@attrs.frozen
class _Known:
    """A namespace, when it was seen first, read, and its addresses read (time.monotonic)."""

    netns: Netns
    first: float
    read: float
    addresses: float


@contextmanager
def held_netns(pid: int, proc: Path) -> Iterator[int]:
    """A descriptor of a process's namespace, for the block; raises `NetnsGoneError` and `MerbridgeError`."""
    path = netns_path(pid, proc)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise NetnsGoneError(f"process {pid} has ended") from None
    except OSError as err:
        raise MerbridgeError(f"{path}: cannot open: {err.strerror}: run as root with CAP_SYS_PTRACE") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _id_of(path: Path) -> NetnsId | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return NetnsId(status.st_dev, status.st_ino)


def in_netns(descriptor: int, work: Callable[[], T]) -> T:
    """Run `work` in a network namespace; raises `MerbridgeError` without the privilege, and what `work` raises.

    It runs in a thread of its own: setns moves the calling thread, which must never serve anything else.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            _enter(descriptor)
            outcome.set_result(work())
        except BaseException as err:  # noqa: BLE001  # carried to the waiting thread, which raises it
            outcome.set_exception(err)

    thread = Thread(target=run, name="netns", daemon=True)
    try:
        thread.start()
    except RuntimeError as err:
        raise MerbridgeError(f"{err}: raise the limit of processes (ulimit -u, pids.max)") from None
    thread.join()
    return outcome.result()


def in_netns_of(netns: Netns, proc: Path, work: Callable[[], T]) -> T:
    """Run `work` in a namespace that was read before.

    Raises `NetnsGoneError` when its process has ended or is elsewhere by now, else as `in_netns` does.
    """

    def checked() -> T:
        if _cookie_of_this_thread() != netns.cookie:
            raise NetnsGoneError(f"process {netns.pid} left its network namespace")
        return work()

    with held_netns(netns.pid, proc) as descriptor:
        return in_netns(descriptor, checked)


def _enter(descriptor: int) -> None:
    try:
        kernel.setns(descriptor, kernel.CLONE_NEWNET)
    except OSError as err:
        raise MerbridgeError(f"network namespace of a pod: {err}") from None


def _cookie_of_this_thread() -> int:
    # A unix socket belongs to a namespace as any other does, and no cgroup's socket programs see it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            value = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE_SIZE)
        except OSError as err:
            if err.errno != errno.ENOPROTOOPT:
                raise
            raise MerbridgeError("this kernel has no SO_NETNS_COOKIE: Linux 5.14 or newer is needed") from None
    return int.from_bytes(value, sys.byteorder)


def _own_addresses(pid: int, proc: Path) -> frozenset[IPv4Address | IPv6Address]:
    folder = proc / str(pid) / "net"
    ip4 = addresses_in_fib_trie(_read(folder / "fib_trie", pid))
    # It is not there where IPv6 is off.
    ip6 = addresses_in_if_inet6(_read(folder / "if_inet6", pid)) if (folder / "if_inet6").exists() else frozenset()
    return ip4 | ip6


def _read(path: Path, pid: int) -> str:
    try:
        return path.read_bytes().decode("latin-1")  # a device's name may be no text
    except (FileNotFoundError, ProcessLookupError):
        raise NetnsGoneError(f"process {pid} has ended") from None
    except OSError as err:
        # EINVAL is what a process gives that has already lost its namespace.
        if err.errno != errno.EINVAL:
            raise MerbridgeError(f"{err.filename}: cannot read: {err.strerror}") from None
        raise NetnsGoneError(f"process {pid} has ended") from None


def addresses_in_fib_trie(text: str) -> frozenset[IPv4Address]:
    """The IPv4 addresses outside 127/8 that `/proc/PID/net/fib_trie` lists as the namespace's own."""
    found = (IPv4Address(match["address"]) for match in _LOCAL_HOST_ENTRY.finditer(text))
    return frozenset(address for address in found if not address.is_loopback)


def addresses_in_if_inet6(text: str) -> frozenset[IPv6Address]:
    """The IPv6 addresses of `/proc/PID/net/if_inet6` whose scope is global: no ::1, none of a link alone."""
    found = _IF_INET6_LINE.finditer(text)
    return frozenset(IPv6Address(bytes.fromhex(each["address"])) for each in found if each["scope"] == _GLOBAL_SCOPE)
