"""Networks of the tests' own: namespaces without a name, joined by veth pairs, gone with the last descriptor."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pybpfasm.kernel import sys as kernel

T = TypeVar("T")
Pair = tuple[socket.socket, socket.socket]

LEFT_IP, RIGHT_IP = "10.77.0.1", "10.77.0.2"
_LEFT_MAC, _RIGHT_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"

# Older releases of ip(8) do not know netkit and its options: the kernel names the peer, and the pair has no link layer.
_MADE = {
    "veth": ("link add wire0 type veth peer name peer0",),
    "netkit": ("link add wire0 type netkit", "link set nk0 name peer0"),
}

# How long a packet that should not arrive is waited for; on the way it takes microseconds.
NOTHING_SECONDS = 0.2
SOMETHING_SECONDS = 10


class Namespace:
    """A network namespace, held by a descriptor, with its loopback up. Elsewhere it has no IPv6, which would wait."""

    def __init__(self) -> None:
        self.fd = _in_thread(self._create)
        self.ip("link set lo up")

    @property
    def path(self) -> Path:
        """A name for it, for other processes, while this one lives."""
        return Path(f"/proc/{os.getpid()}/fd/{self.fd}")

    def run(self, function: Callable[[], T]) -> T:
        """What `function` returns when it is run inside."""

        def inside() -> T:
            kernel.setns(self.fd, kernel.CLONE_NEWNET)
            return function()

        return _in_thread(inside)

    def ip(self, *commands: str) -> None:
        """Run lines of ip(8) inside."""
        self.run(lambda: subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True))

    def index(self, interface: str) -> int:
        """The index of one of its interfaces."""
        return self.run(lambda: socket.if_nametoindex(interface))

    def receiver(self, address: str, port: int = 0) -> socket.socket:
        """A UDP socket inside, bound to an address."""
        made = self.socket(socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    def socket(self, kind: int, family: int = socket.AF_INET) -> socket.socket:
        """A socket that belongs to this namespace."""
        made = self.run(lambda: socket.socket(family, kind))
        made.settimeout(SOMETHING_SECONDS)
        return made

    def close(self) -> None:
        """Let go of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @staticmethod
    def _create() -> int:
        kernel.unshare(kernel.CLONE_NEWNET)
        for name, value in (("all", "1"), ("default", "1"), ("lo", "0")):
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text(value)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


class Wire:
    """Two namespaces, `left` with the interface `wire0` and `right` with `wire1`, the two ends of one wire.

    They know each other, so that no ARP is sent: what goes over the wire is what a test sends.
    """

    def __init__(self, kind: str = "veth") -> None:
        self.left, self.right = Namespace(), Namespace()
        self.left.ip(*_MADE[kind], f"link set peer0 netns {self.right.path} name wire1")
        ends = ((self.left, "wire0", LEFT_IP, _LEFT_MAC), (self.right, "wire1", RIGHT_IP, _RIGHT_MAC))
        for namespace, name, address, mac in ends:
            if kind == "veth":
                namespace.ip(f"link set {name} address {mac}")
            namespace.ip(f"addr add {address}/24 dev {name}", f"link set {name} up")
        if kind == "veth":
            self.left.ip(f"neigh replace {RIGHT_IP} lladdr {_RIGHT_MAC} dev wire0 nud permanent")
            self.right.ip(f"neigh replace {LEFT_IP} lladdr {_LEFT_MAC} dev wire1 nud permanent")
        self._sender = self.left.receiver(LEFT_IP)
        self._receiver = self.right.receiver(RIGHT_IP)
        while self.drops():  # until the kernel has noticed that both ends are up
            pass

    def passes(self) -> bool:
        """Whether a packet from left reaches a socket on the right, which may take a busy machine its time."""
        return delivered(self._sender, self._receiver, SOMETHING_SECONDS)

    def drops(self) -> bool:
        """Whether it does not."""
        return not delivered(self._sender, self._receiver, NOTHING_SECONDS)

    def close(self) -> None:
        """Take all of it down."""
        self._sender.close()
        self._receiver.close()
        self.left.close()
        self.right.close()


def delivered(sender: socket.socket, receiver: socket.socket, seconds: float) -> bool:
    """Send a datagram from one socket to the other: whether it gets there in time. A refusal to send counts as no."""
    number = os.urandom(8)
    try:
        sender.sendto(number, receiver.getsockname())
    except PermissionError:
        return False
    receiver.settimeout(seconds)
    try:
        while receiver.recv(64) != number:  # one that was given up on
            pass
    except TimeoutError:
        return False
    return True


def connection(namespace: Namespace) -> Pair:
    """A TCP connection: who connected, who accepted."""
    with namespace.socket(socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = namespace.socket(socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
    accepted.settimeout(SOMETHING_SECONDS)
    return client, accepted


def _in_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()
