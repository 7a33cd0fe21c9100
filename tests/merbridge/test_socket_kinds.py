"""Ways to connect that are not a plain connect() on a plain socket: each goes to ztunnel, with its destination."""

import errno
import select
import socket
import subprocess
import sys
from typing import Final

import pytest
from cluster import SLOWNESS, Cluster
from pod_sockets import PodSockets
from test_original_dst import accept, original_destination

OUT_PORT = 15001

# Connects by io_uring alone: a ring of one, IORING_OP_CONNECT, and the result of its completion. uapi linux/io_uring.h.
_IO_URING: Final = """
import ctypes, mmap, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
params = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 1, params)
if ring < 0:
    sys.exit(f"io_uring_setup: {os.strerror(ctypes.get_errno())}")
entries, completions = struct.unpack_from("II", params, 0)
_, tail, _, _, _, _, array = struct.unpack_from("7I", params, 40)
cqes = struct.unpack_from("I", params, 100)[0]
requests = mmap.mmap(ring, array + 4 * entries, offset=0)
answers = mmap.mmap(ring, cqes + 16 * completions, offset=0x8000000)
entry = mmap.mmap(ring, 64 * entries, offset=0x10000000)
client = socket.socket()
address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", int(sys.argv[2]), socket.inet_aton(sys.argv[1]))
there = ctypes.create_string_buffer(address)
entry[:40] = struct.pack("=BBHiQQIIQ", 16, 0, 0, client.fileno(), 16, ctypes.addressof(there), 0, 0, 7)
requests[array : array + 4] = struct.pack("I", 0)
requests[tail : tail + 4] = struct.pack("I", 1)
if libc.syscall(426, ring, 1, 1, 1, None, 0) != 1:
    sys.exit(f"io_uring_enter: {os.strerror(ctypes.get_errno())}")
mine, result, _ = struct.unpack_from("=QiI", answers, cqes)
print(mine, result, *client.getpeername(), flush=True)
"""


@pytest.fixture
def listener(ztunnel: PodSockets) -> socket.socket:
    """What listens at ztunnel's port."""
    ztunnel.close_all()
    return ztunnel.listen(OUT_PORT)


def test_io_uring(cluster: Cluster, listener: socket.socket) -> None:
    """connect() by io_uring."""
    command = [sys.executable, "-ISc", _IO_URING, cluster.server.ip, "7777"]
    client = cluster.app.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complaint = client.communicate(timeout=10 * SLOWNESS)
    assert said.split() == ["7", "0", cluster.server.ip, "7777"], complaint
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.server.ip, 7777)


@pytest.mark.parametrize("option", ["SO_BINDTODEVICE", "SO_PRIORITY", "TCP_NODELAY", "SO_KEEPALIVE", "SO_RCVBUF"])
def test_options_of_sockets(cluster: Cluster, app: PodSockets, listener: socket.socket, option: str) -> None:
    """Options change nothing, that which names a device among them."""
    options: dict[str, tuple[int, int, int | bytes]] = {
        "SO_BINDTODEVICE": (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0"),
        "SO_PRIORITY": (socket.SOL_SOCKET, socket.SO_PRIORITY, 6),
        "TCP_NODELAY": (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        "SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        "SO_RCVBUF": (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),
    }
    client = app.make()
    client.setsockopt(*options[option])
    client.connect((cluster.server.ip, 7777))
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.server.ip, 7777)


def test_bound_to_loopback(cluster: Cluster, app: PodSockets, listener: socket.socket) -> None:
    """A socket that may use lo alone reaches nothing else: not ztunnel, and not what it has dialled."""
    client = app.make()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    client.settimeout(0.5 * SLOWNESS)
    with pytest.raises(OSError, match=r"timed out|unreachable|Invalid"):
        client.connect((cluster.server.ip, cluster.server_port))
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_bound_before(cluster: Cluster, app: PodSockets, listener: socket.socket) -> None:
    """To an address and a port: ztunnel sees them."""
    client = app.make()
    client.bind((cluster.app.ip, 23456))
    client.connect((cluster.server.ip, 7777))
    with accept(listener) as accepted:
        assert accepted.getpeername() == (cluster.app.ip, 23456)
        assert original_destination(accepted) == (cluster.server.ip, 7777)


def test_without_waiting(cluster: Cluster, app: PodSockets, listener: socket.socket) -> None:
    """A non-blocking connect: EINPROGRESS, writable, no error; where nobody listens the error comes the same way."""
    client = app.make()
    client.setblocking(False)
    assert client.connect_ex((cluster.server.ip, 7777)) == errno.EINPROGRESS
    assert select.select([], [client], [], 5 * SLOWNESS)[1]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    with accept(listener) as accepted:
        assert original_destination(accepted) == (cluster.server.ip, 7777)
    listener.close()
    second = app.make()
    second.setblocking(False)
    assert second.connect_ex((cluster.server.ip, 7778)) == errno.EINPROGRESS
    assert select.select([], [second], [], 5 * SLOWNESS)[1]
    assert second.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
