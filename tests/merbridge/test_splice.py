"""Bytes between an app and its ztunnel: that they skip TCP, and that no application can tell by what it receives.

The sockets are the pods' own, but this process holds both ends and plays app and ztunnel: it says who does what when.
"""

import contextlib
import hashlib
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import BinaryIO

import pytest
from cluster import SLOWNESS, Cluster, wait_until
from fionread import counted_in_sockmap, fionread
from pod_sockets import PodSockets
from pyroute2 import IPRoute

from merbridge.demo.workloads import Pod

OUT_PORT = 15001
DEFER_ACCEPT = ((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5),)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
TCP_FASTOPEN_CONNECT, MSG_FASTOPEN = 30, 0x20000000
# Offsets in struct tcp_info.
DATA_SEGMENTS_IN, DATA_SEGMENTS_OUT = 152, 156

# How long to wait for what is known never to come; a SYN is sent again after a second, and after two more.
RECEIVE_SECONDS = 4 if SLOWNESS == 1 else 12

Pair = tuple[socket.socket, socket.socket]

ANY_SPLICE = ("to-ztunnel", "both")
# In emulated machines without "off": that plain TCP does what the tests expect is seen on the running kernel.
SETTINGS = ("off", *ANY_SPLICE) if SLOWNESS == 1 else ANY_SPLICE


# What a socket in a SOCKMAP does differently, which BPF programs cannot mend, by the settings of --splice under which
# an app or ztunnel meets it. docs/splice.md lists them for users.
LIMITS = {
    "test_receive_that_began_before_the_connection_stood_gets_its_bytes": (
        ("both",),
        "a reader that sleeps in tcp_recvmsg when its socket enters the SOCKMAP is never woken by spliced bytes",
    ),
    "test_close_with_unread_bytes_resets": (
        ANY_SPLICE,
        "spliced bytes are not in TCP's receive queue: close() sends FIN where it should reset",
    ),
    "test_splice_reads_what_was_sent": (
        ("both",),
        "splice(2) reads TCP's own queue only: it never sees spliced bytes and waits for ever",
    ),
    "test_waitall_waits_for_all": (("both",), "a socket in a SOCKMAP ignores MSG_WAITALL (tcp_bpf_recvmsg)"),
    "test_zerocopy_is_reported_as_complete": (
        ANY_SPLICE,
        "spliced MSG_ZEROCOPY sends are never reported as complete on the error queue",
    ),
    "test_urgent_data_stays_urgent": (ANY_SPLICE, "urgent data is spliced as ordinary bytes"),
}


@cache
def fionread_limits() -> dict[str, tuple[tuple[str, ...], str]]:
    """What of FIONREAD fails on this kernel: every other one counts something else."""
    counted = counted_in_sockmap()
    of_each = ANY_SPLICE if not counted.past_tcp else () if counted.by_tcp else ("to-ztunnel",)
    of_tcp = () if counted.by_tcp else ANY_SPLICE
    reason = f"FIONREAD on a socket in a SOCKMAP does not count all bytes here: {counted}"
    return {
        "test_peek_poll_and_fionread": (of_each, reason),
        "test_fionread_sees_bytes_that_came_by_tcp": (of_tcp, reason),
    }


class Mesh:
    """An enrolled pod's sockets, ztunnel's listener, and where the pod dials to."""

    def __init__(self, app: PodSockets, ztunnel: PodSockets, target: tuple[str, int]) -> None:
        """Hold them; `listen` first."""
        self.app, self.ztunnel, self.target = app, ztunnel, target
        self.listener: socket.socket
        self._accepted: list[socket.socket] = []

    def listen(self, options: tuple[tuple[int, int, int], ...] = ()) -> None:
        """Listen as ztunnel."""
        self.listener = self.ztunnel.listen(OUT_PORT, options=options)

    def pair(self) -> Pair:
        """A redirected connection: the app's socket and ztunnel's."""
        client = self.app.make()
        client.connect(self.target)
        return client, self.accept()

    def accept(self) -> socket.socket:
        """Ztunnel's next connection."""
        accepted, _ = self.listener.accept()
        accepted.settimeout(5 * SLOWNESS)
        self._accepted.append(accepted)
        return accepted

    def close(self) -> None:
        """Close all."""
        accepted, self._accepted = self._accepted, []
        for each in accepted:
            each.close()
        self.app.close_all()
        self.ztunnel.close_all()


@pytest.fixture(scope="module", params=SETTINGS)
def splice(request: pytest.FixtureRequest) -> str:
    """Which directions skip TCP. With "off" plain TCP shows that what the tests expect is what an app may expect."""
    return str(request.param)


@pytest.fixture(scope="module")
def started(cluster: Cluster, agent: object, splice: str) -> Iterator[Mesh]:
    """The module's mesh."""
    with (
        cluster.datapath_with("--splice", splice),
        PodSockets(cluster.app) as app,
        PodSockets(cluster.ztunnel) as ztunnel,
    ):
        yield Mesh(app, ztunnel, (cluster.server.ip, 7777))


@pytest.fixture(autouse=True)
def known_limits(request: pytest.FixtureRequest, splice: str) -> None:
    """Expect the failures that are known, strictly."""
    settings, reason = (LIMITS | fionread_limits()).get(request.node.originalname, ((), ""))
    if splice in settings:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


@pytest.fixture
def mesh(started: Mesh) -> Iterator[Mesh]:
    """The mesh, with a listener; all sockets are closed after each test."""
    started.listen()
    yield started
    started.close()


@pytest.fixture
def deferring_mesh(started: Mesh) -> Iterator[Mesh]:
    """The mesh with a listener that accepts a connection when its first bytes have come."""
    started.listen(DEFER_ACCEPT)
    yield started
    started.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads, for both ends at once."""
    with ThreadPoolExecutor(32) as executor:
        yield executor


def directions(pair: Pair) -> tuple[Pair, Pair]:
    """Sender and receiver of each direction."""
    client, accepted = pair
    return (client, accepted), (accepted, client)


def data_segments(connection: socket.socket) -> tuple[int, int]:
    """How many segments with data TCP has received and sent on this socket."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("=I", info, DATA_SEGMENTS_IN)[0], struct.unpack_from("=I", info, DATA_SEGMENTS_OUT)[0]


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, fewer only at EOF."""
    received = bytearray()
    while len(received) < count and (piece := connection.recv(min(1 << 20, count - len(received)))):
        received += piece
    return bytes(received)


def receive_to_eof(connection: socket.socket) -> bytes:
    """All that comes."""
    return receive(connection, 1 << 40)


def noise(count: int, seed: int = 1) -> bytes:
    """Bytes in which any disorder shows."""
    return random.Random(seed).randbytes(count)  # noqa: S311 - test data that can be made again from its seed


def set_link(pod: Pod, state: str) -> None:
    """Take a pod's network away, or give it back."""

    def change() -> None:
        with IPRoute() as netlink:
            (index,) = netlink.link_lookup(ifname="eth0")
            netlink.link("set", index=index, state=state)

    pod.in_netns(change)


@contextlib.contextmanager
def unreachable(pod: Pod) -> Iterator[None]:
    """In the body every packet to the pod is lost; a SYN of that time is sent again a second after the first."""
    set_link(pod, "down")
    try:
        yield
    finally:
        set_link(pod, "up")


def start_connecting(mesh: Mesh, seconds: int = 4 * SLOWNESS) -> socket.socket:
    """A blocking socket whose SYN has left; sends and receives take so long at most."""
    client = mesh.app.make()
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.connect(mesh.target)
    client.setblocking(True)
    # The kernel's own limits: Python's would make the socket non-blocking.
    for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        client.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", seconds, 0))
    return client


# --- that it happens -------------------------------------------------------------------------------------------------


def test_bytes_skip_tcp_as_configured(mesh: Mesh, splice: str) -> None:
    """They arrive, and where a direction is spliced TCP has not carried a single data segment of it."""
    client, accepted = mesh.pair()
    for sender, receiver in directions((client, accepted)):
        for seed in range(100):
            sender.sendall(noise(10_007, seed))
            assert receive(receiver, 10_007) == noise(10_007, seed)
    to_ztunnel, to_app = data_segments(accepted)[0], data_segments(client)[0]
    assert (to_ztunnel == 0, to_app == 0) == {
        "off": (False, False),
        "to-ztunnel": (True, False),
        "both": (True, True),
    }[splice]


# --- ways to send ----------------------------------------------------------------------------------------------------


def by_send(sender: socket.socket, content: bytes) -> None:
    """In one go."""
    sender.sendall(content)


def by_odd_sizes(sender: socket.socket, content: bytes) -> None:
    """In pieces of odd sizes."""
    sizes, at = random.Random(7), 0  # noqa: S311 - sizes
    while at < len(content):
        end = at + sizes.randrange(1, 9_999, 2)
        sender.sendall(content[at:end])
        at = end


def by_bytes(sender: socket.socket, content: bytes) -> None:
    """The first 5,000 bytes one by one."""
    for at in range(5_000):
        sender.sendall(content[at : at + 1])
    sender.sendall(content[5_000:])


def by_send_more(sender: socket.socket, content: bytes) -> None:
    """With MSG_MORE on all pieces but the last."""
    for at in range(0, len(content), 3_333):
        piece = memoryview(content)[at : at + 3_333]
        while piece:
            flags = 0 if at + 3_333 >= len(content) else socket.MSG_MORE
            piece = piece[sender.send(piece, flags) :]


def by_sendmsg(sender: socket.socket, content: bytes) -> None:
    """With writev-like vectors."""
    for at in range(0, len(content), 50_000):
        parts = [content[start : start + 997] for start in range(at, min(at + 50_000, len(content)), 997)]
        rest = b"".join(parts)[:50_000]
        rest = rest[sender.sendmsg([rest[:10], rest[10:]]) :]
        sender.sendall(rest)


def by_sendfile(sender: socket.socket, content: bytes) -> None:
    """From a file, without a copy in user space."""
    with open_memory_file(content) as file:
        assert sender.sendfile(file) == len(content)


def by_splice(sender: socket.socket, content: bytes) -> None:
    """From a pipe."""
    reader, writer = os.pipe()
    try:
        left = len(content)
        while left:
            piece = os.write(writer, content[len(content) - left :][:60_000])
            while piece:
                select.select([], [sender], [], 5 * SLOWNESS)
                moved = os.splice(reader, sender.fileno(), piece)
                piece -= moved
                left -= moved
    finally:
        os.close(reader)
        os.close(writer)


def by_zerocopy(sender: socket.socket, content: bytes) -> None:
    """With MSG_ZEROCOPY."""
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    view = memoryview(content)
    while view:
        view = view[sender.send(view, MSG_ZEROCOPY) :]


@contextlib.contextmanager
def open_memory_file(content: bytes) -> Iterator[BinaryIO]:
    """A file of these bytes."""
    with os.fdopen(os.memfd_create("content"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


WAYS: list[Callable[[socket.socket, bytes], None]] = [
    by_send,
    by_odd_sizes,
    by_bytes,
    by_send_more,
    by_sendmsg,
    by_sendfile,
    by_splice,
    by_zerocopy,
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_sending_arrives_whole_in_both_directions_at_once(
    mesh: Mesh, pool: ThreadPoolExecutor, way: Callable[[socket.socket, bytes], None]
) -> None:
    """Two streams of 8 MiB at the same time, each followed by EOF, are what was sent."""
    sent = noise(8 << 20), noise(8 << 20, 2)
    pair = mesh.pair()
    for each in pair:
        each.settimeout(20 * SLOWNESS)

    def send(sender: socket.socket, content: bytes) -> None:
        way(sender, content)
        sender.shutdown(socket.SHUT_WR)

    ways = list(zip(directions(pair), sent, strict=True))
    received = [pool.submit(receive_to_eof, receiver) for (_, receiver), _ in ways]
    sending = [pool.submit(send, sender, content) for (sender, _), content in ways]
    for future in sending:
        future.result(20 * SLOWNESS)
    assert [digest(future.result(20 * SLOWNESS)) for future in received] == [digest(content) for content in sent]


def digest(content: bytes) -> str:
    """Short, so that a failure does not print megabytes."""
    return f"{len(content)} bytes, {hashlib.sha256(content).hexdigest()}"


# --- bytes before the other side stands ------------------------------------------------------------------------------


def test_deferred_accept_keeps_the_order(deferring_mesh: Mesh) -> None:
    """With TCP_DEFER_ACCEPT the first bytes go by TCP, and those after it never overtake them; 50 times."""
    for _ in range(50):
        client = deferring_mesh.app.make()
        client.connect(deferring_mesh.target)
        client.sendall(b"A" * 3_000)
        client.sendall(b"B" * 3_000)
        with deferring_mesh.accept() as accepted:
            client.sendall(b"C" * 3_000)
            assert receive(accepted, 9_000) == b"A" * 3_000 + b"B" * 3_000 + b"C" * 3_000
            accepted.sendall(b"answer")
            assert client.recv(99) == b"answer"
        client.close()


def test_late_accept_keeps_the_order(mesh: Mesh) -> None:
    """Bytes, and the end, of 50 connections that nobody has accepted yet are all there afterwards."""
    clients = []
    for number in range(50):
        client = mesh.app.make()
        client.connect(mesh.target)
        client.sendall(noise(30_000, number))
        clients.append(client)
    for number, client in enumerate(clients):
        with mesh.accept() as accepted:
            client.sendall(b"end")
            client.close()
            assert receive_to_eof(accepted) == noise(30_000, number) + b"end"


def test_send_that_began_before_the_connection_stood_keeps_the_order(
    cluster: Cluster, mesh: Mesh, pool: ThreadPoolExecutor
) -> None:
    """A thread sends on a connecting socket and sleeps in the kernel; what is sent later follows; 24 at once."""
    first, second = noise(100_003), noise(50_021, 2)
    with unreachable(cluster.ztunnel):
        clients = [start_connecting(mesh) for _ in range(24)]
        sending = [pool.submit(client.sendall, first) for client in clients]
        time.sleep(0.1)
        assert not any(future.done() for future in sending)
    accepted = {each.getpeername(): each for each in (mesh.accept() for _ in clients)}
    for client, future in zip(clients, sending, strict=True):
        future.result(5 * SLOWNESS)
        client.sendall(second)
    for client in clients:
        assert digest(receive(accepted[client.getsockname()], len(first + second))) == digest(first + second)


def test_receive_that_began_before_the_connection_stood_gets_its_bytes(
    cluster: Cluster, mesh: Mesh, pool: ThreadPoolExecutor
) -> None:
    """A thread reads from a connecting socket and sleeps in the kernel; the server's banner wakes it."""
    with unreachable(cluster.ztunnel):
        client = start_connecting(mesh, RECEIVE_SECONDS)
        banner = pool.submit(client.recv, 99)
        time.sleep(0.1)
    accepted = mesh.accept()
    accepted.sendall(b"banner")
    assert banner.result(RECEIVE_SECONDS + 2) == b"banner"


@pytest.fixture
def fast_open(cluster: Cluster, mesh: Mesh) -> Iterator[Mesh]:
    """The mesh with TCP fast open on in both pods, for both roles."""
    pods = (cluster.app, cluster.ztunnel)
    before = [pod.in_netns(partial(set_fast_open, "3")) for pod in pods]
    mesh.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    yield mesh
    for pod, value in zip(pods, before, strict=True):
        pod.in_netns(partial(set_fast_open, value))


def set_fast_open(value: str) -> str:
    """Set it in this thread's network namespace; what it was."""
    with open("/proc/sys/net/ipv4/tcp_fastopen", "r+") as setting:
        before = setting.read()
        setting.seek(0)
        setting.write(value)
    return before


@pytest.mark.parametrize("by_option", [True, False])
def test_fast_open_keeps_the_order(fast_open: Mesh, by_option: bool) -> None:
    """Bytes in the SYN come first and go to the right place, by TCP_FASTOPEN_CONNECT and by MSG_FASTOPEN; 30 times."""
    used_fast_open = 0
    for number in range(30):
        first, second = noise(5_000, number), noise(5_000, -number)
        client = fast_open.app.make()
        if by_option:
            client.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            client.connect(fast_open.target)
            sent = client.send(first)
        else:
            sent = client.sendto(first, MSG_FASTOPEN, fast_open.target)
        client.sendall(first[sent:])
        client.sendall(second)
        with fast_open.accept() as accepted:
            assert receive(accepted, 10_000) == first + second
            assert original_destination(accepted) == fast_open.target
            accepted.sendall(b"answer")
            assert client.recv(99) == b"answer"
        used_fast_open += data_segments(client)[1] > 0
        client.close()
    assert used_fast_open > 20


def original_destination(accepted: socket.socket) -> tuple[str, int]:
    """What ztunnel would ask."""
    answer = accepted.getsockopt(socket.SOL_IP, 80, 16)
    return socket.inet_ntoa(answer[4:8]), int.from_bytes(answer[2:4], "big")


# --- the end ---------------------------------------------------------------------------------------------------------


def test_half_close_leaves_queued_bytes_and_the_other_direction_alone(mesh: Mesh) -> None:
    """EOF comes after the queued bytes, and the other direction goes on; either side first; 20 times."""
    for _ in range(20):
        pair = mesh.pair()
        for sender, receiver in directions(pair):
            sender.sendall(noise(100_000))
            sender.shutdown(socket.SHUT_WR)
            assert receive_to_eof(receiver) == noise(100_000)
        for each in pair:
            each.close()


def test_close_delivers_queued_bytes(mesh: Mesh) -> None:
    """What was sent before close() is read by the other side afterwards, then EOF; either side; 20 times."""
    for turn in range(20):
        sender, receiver = directions(mesh.pair())[turn % 2]
        sender.sendall(noise(300_000))
        sender.close()
        assert receive_to_eof(receiver) == noise(300_000)
        receiver.close()


def test_reset_is_seen_by_the_other_side(mesh: Mesh) -> None:
    """The bytes that came before it can be read, then comes ECONNRESET; either side; 20 times."""
    for turn in range(20):
        sender, receiver = directions(mesh.pair())[turn % 2]
        sender.sendall(b"before")
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        sender.close()
        assert receiver.recv(99) == b"before"
        with pytest.raises(ConnectionResetError):
            receiver.recv(99)
        receiver.close()


def test_sender_learns_that_the_other_side_is_gone(mesh: Mesh) -> None:
    """After the other side's close(), sends fail soon, as with TCP, and nothing hangs; either side."""
    for turn in range(20):
        sender, receiver = directions(mesh.pair())[turn % 2]
        receiver.close()

        def fails(sender: socket.socket = sender) -> bool:
            try:
                sender.sendall(b"to nobody")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        wait_until(fails, "send fails", 2)
        sender.close()


def test_close_with_unread_bytes_resets(mesh: Mesh) -> None:
    """A side that closes without reading all tells the other by a reset, not by an orderly EOF."""
    client, accepted = mesh.pair()
    client.sendall(b"unread")
    accepted.close()
    with pytest.raises(ConnectionResetError):
        client.recv(99)


# --- ways to receive -------------------------------------------------------------------------------------------------


def test_peek_poll_and_fionread(mesh: Mesh) -> None:
    """MSG_PEEK leaves the bytes, poll() says readable, FIONREAD counts them."""
    for sender, receiver in directions(mesh.pair()):
        sender.sendall(b"12345")
        sender.sendall(b"67890")
        assert select.select([receiver], [], [], SLOWNESS)[0] == [receiver]
        assert receiver.recv(99, socket.MSG_PEEK) == b"1234567890"
        assert fionread(receiver) == 10
        assert receiver.recv(99) == b"1234567890"


def test_fionread_sees_bytes_that_came_by_tcp(deferring_mesh: Mesh) -> None:
    """FIONREAD counts bytes of a direction that TCP has, as after 4 MiB or with TCP_DEFER_ACCEPT."""
    client = deferring_mesh.app.make()
    client.connect(deferring_mesh.target)
    client.sendall(b"12345")
    accepted = deferring_mesh.accept()
    assert accepted.recv(99, socket.MSG_PEEK) == b"12345"
    assert fionread(accepted) == 5


def test_edge_triggered_reader_is_woken_each_time(mesh: Mesh, pool: ThreadPoolExecutor) -> None:
    """A reader with EPOLLET that reads to EAGAIN gets 2,000 messages while they are being sent."""
    for sender, receiver in directions(mesh.pair()):
        future: Future[bytes] = pool.submit(read_by_edges, receiver, 2_000 * 7)
        for number in range(2_000):
            sender.sendall(b"%07d" % number)
        assert future.result(10 * SLOWNESS) == b"".join(b"%07d" % number for number in range(2_000))


def read_by_edges(receiver: socket.socket, count: int) -> bytes:
    """Read so many bytes with edge-triggered events."""
    receiver.setblocking(False)
    received = bytearray()
    with contextlib.closing(select.epoll()) as epoll:
        epoll.register(receiver, select.EPOLLIN | select.EPOLLET)
        while len(received) < count:
            assert epoll.poll(5 * SLOWNESS), f"no event after {len(received)} bytes"
            with contextlib.suppress(BlockingIOError):
                while piece := receiver.recv(99):
                    received += piece
    return bytes(received)


def test_splice_reads_what_was_sent(mesh: Mesh) -> None:
    """splice(2) from the app's socket into a pipe, as Go's io.Copy and haproxy do, moves the bytes."""
    client, accepted = mesh.pair()
    accepted.sendall(b"answer")
    reader, writer = os.pipe()
    client.setblocking(False)
    try:
        assert os.splice(client.fileno(), writer, 6) == 6
        assert os.read(reader, 6) == b"answer"
    finally:
        os.close(reader)
        os.close(writer)


def test_waitall_waits_for_all(mesh: Mesh) -> None:
    """recv() with MSG_WAITALL returns all that was asked for, though it comes in two parts."""
    client, accepted = mesh.pair()
    accepted.sendall(b"first ")
    later = threading.Timer(0.1, accepted.sendall, [b"second"])
    later.start()
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 3, 0))
    try:
        assert client.recv(12, socket.MSG_WAITALL) == b"first second"
    finally:
        later.join()


def test_zerocopy_is_reported_as_complete(mesh: Mesh) -> None:
    """The sender learns that it may use its buffer again."""
    client, accepted = mesh.pair()
    client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    client.send(b"x" * 20_000, MSG_ZEROCOPY)
    receive(accepted, 20_000)
    poll = select.poll()
    poll.register(client, 0)
    assert poll.poll(500)


def test_urgent_data_stays_urgent(mesh: Mesh) -> None:
    """A byte sent with MSG_OOB is read with MSG_OOB and not among the others."""
    client, accepted = mesh.pair()
    client.sendall(b"before")
    client.send(b"!", socket.MSG_OOB)
    client.sendall(b"after")
    wait_until(lambda: len(accepted.recv(99, socket.MSG_PEEK)) >= 6, "the bytes are there")
    assert accepted.recv(1, socket.MSG_OOB) == b"!"
    assert receive(accepted, 11) == b"beforeafter"


# --- one connection is not another -----------------------------------------------------------------------------------


def test_reconnected_socket_gets_no_bytes_of_its_old_connection(cluster: Cluster, deferring_mesh: Mesh) -> None:
    """connect(AF_UNSPEC), whose reset is lost, then a new connection: what ztunnel sends on the old one stays away."""
    client = deferring_mesh.app.make()
    client.connect(deferring_mesh.target)
    client.sendall(b"hello")
    with deferring_mesh.accept() as old:
        assert old.recv(99) == b"hello"
        with unreachable(cluster.ztunnel):
            disconnect(client)
        client.connect((deferring_mesh.target[0], 8888))
        old.sendall(b"of the old connection")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(99)


def disconnect(connection: socket.socket) -> None:
    """connect() with AF_UNSPEC, which Python's own does not offer."""
    import ctypes

    assert ctypes.CDLL(None).connect(connection.fileno(), bytes(16), 16) == 0


# --- a receiver that does not read -----------------------------------------------------------------------------------


def test_all_accepted_bytes_arrive_after_a_pause(mesh: Mesh) -> None:
    """Every byte that send() took while the other side did not read arrives, in order; either direction."""
    content = noise(1 << 20)
    for sender, receiver in directions(mesh.pair()):
        sender.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 16 << 20:
                sent += sender.send(content[sent % len(content) :])
        assert digest(receive(receiver, sent)) == digest((content * 17)[:sent])


def test_sender_is_stopped_when_the_receiver_does_not_read(mesh: Mesh) -> None:
    """As with TCP, send() says EAGAIN when some MiB wait to be read: a slow reader cannot fill the node's memory."""
    for sender, _ in directions(mesh.pair()):
        sender.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += sender.send(bytes(65_536))
        assert sent < 64 << 20


def test_short_writes_do_not_fill_memory(mesh: Mesh) -> None:
    """300,000 writes of one byte that nobody reads take no more than 64 MiB of the node's memory."""
    taken = []
    for _ in range(3):  # other processes take memory too: the quietest of three counts
        client, _ = mesh.pair()
        before = available_bytes()
        for _ in range(300_000):
            client.send(b"x")
        taken.append(before - available_bytes())
        if taken[-1] < 64 << 20:
            break
    assert min(taken) < 64 << 20


def available_bytes() -> int:
    """Memory that the machine could still give to processes."""
    with open("/proc/meminfo") as file:
        (line,) = [line for line in file if line.startswith("MemAvailable:")]
    return int(line.split()[1]) << 10
