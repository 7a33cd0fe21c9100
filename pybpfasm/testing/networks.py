"""Two network namespaces that are joined by a veth pair.

    left: wire0 10.77.0.1/24, fd77::1/64  ────────  right: wire0 10.77.0.2/24, fd77::2/64

Interfaces are made by pyroute2, which is imported here and nowhere earlier. The namespaces have no names: they are gone
with their last descriptor, and the interfaces with them.
"""

import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pybpfasm.kernel import sys

T = TypeVar("T")

INTERFACE = "wire0"

# rtnetlink(7): an address that is not tested for doubles, and so is there at once.
_IFA_F_NODAD = 0x02


class Namespace:
    """A network namespace, with `lo` up and the interface `wire0`, that has the addresses `ip4` and `ip6`."""

    interface = INTERFACE

    def __init__(self, ip4: str, ip6: str) -> None:
        self.ip4, self.ip6 = ip4, ip6
        self.fd = _in_thread(_new_namespace)

    @property
    def path(self) -> Path:
        """A name for it, for other processes, too, as long as this one lives and has it open."""
        return Path(f"/proc/{os.getpid()}/fd/{self.fd}")

    @property
    def index(self) -> int:
        """The index of its interface."""
        return self.run(lambda: socket.if_nametoindex(INTERFACE))

    def run(self, function: Callable[[], T]) -> T:
        """What `function` returns in a thread of its own that is in the namespace; what it raises is raised here.

        Sockets and links that are made there belong to the namespace, also afterwards.
        """

        def inside() -> T:
            sys.setns(self.fd, sys.CLONE_NEWNET)
            return function()

        return _in_thread(inside)

    def socket(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
        """A socket that belongs to the namespace."""
        return self.run(lambda: socket.socket(family, kind))

    def close(self) -> None:
        """Let go of it; a second time changes nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


class Network:
    """Two namespaces, `left` and `right`, that reach each other."""

    def __init__(self) -> None:
        self.left = Namespace("10.77.0.1", "fd77::1")
        try:
            self.right = Namespace("10.77.0.2", "fd77::2")
        except BaseException:
            self.left.close()
            raise
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take both down."""
        self.left.close()
        self.right.close()

    def _join(self) -> None:
        peer = {"ifname": INTERFACE, "net_ns_fd": self.right.fd}
        _with_netlink(self.left, lambda link: link.link("add", ifname=INTERFACE, kind="veth", peer=peer))
        for end in (self.left, self.right):
            _with_netlink(end, partial(_set_up, end))


def _set_up(end: Namespace, link: Any) -> None:
    loopback, wire = (link.link_lookup(ifname=name)[0] for name in ("lo", INTERFACE))
    link.link("set", index=loopback, state="up")
    link.link("set", index=wire, state="up")
    addresses: Mapping[str, int] = {end.ip4: 24, end.ip6: 64}
    for address, length in addresses.items():
        if ":" not in address:
            link.addr("add", index=wire, address=address, prefixlen=length)
        elif Path("/proc/sys/net/ipv6").exists():  # a kernel may be without IPv6
            link.addr("add", index=wire, address=address, prefixlen=length, flags=_IFA_F_NODAD)


def _with_netlink(namespace: Namespace, do: Callable[[Any], object]) -> None:
    def inside() -> None:
        from pyroute2 import IPRoute

        with IPRoute() as link:
            do(link)

    namespace.run(inside)


def _new_namespace() -> int:
    sys.unshare(sys.CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _in_thread(function: Callable[[], T]) -> T:
    """In a thread that ends with the call, and takes its namespace with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()
