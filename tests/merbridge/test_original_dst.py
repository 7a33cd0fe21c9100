"""SO_ORIGINAL_DST: what ztunnel is told, when, by whom it can be spoilt, and what other getsockopt calls notice."""

import contextlib
import errno
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from cluster import SLOWNESS, Cluster, wait_until
from haproxy import HAProxy
from pod_sockets import PodSockets
from pyroute2 import IPRoute

import programs.maps
from merbridge.demo.pod import close, connect, exchange, listen, stream
from programs.slots import ORPHANED

OUT_PORT = 15001
SO_ORIGINAL_DST = 80
SO_PEERGROUPS = 59
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
DEFER_ACCEPT = ((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5),)

Address = tuple[str, int]


@pytest.fixture(autouse=True)
def _close_sockets(app: PodSockets, ztunnel: PodSockets) -> Iterator[None]:
    """Each test begins without the last one's sockets."""
    yield
    app.close_all()
    ztunnel.close_all()


def original_destination(accepted: socket.socket) -> Address:
    """What the kernel says; raises OSError as the kernel does."""
    answer = accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    family, port, address = struct.unpack("=H2s4s8x", answer)
    assert family == socket.AF_INET
    return socket.inet_ntoa(address), int.from_bytes(port, "big")


def accept(listener: socket.socket) -> socket.socket:
    """The next connection, with a time limit."""
    accepted, _ = listener.accept()
    accepted.settimeout(5 * SLOWNESS)
    return accepted


def connections_in_set_up(cluster: Cluster) -> int:
    """Entries of the map `original_dst`: connections without a slot, until they stand."""
    with cluster.pinned(programs.maps.original_dst, "original_dst") as entries:
        return len(list(entries.keys()))


def slot_owners(cluster: Cluster) -> list[int]:
    """Who has each slot, as `programs.slots` marks it."""
    owners: list[int] = []
    with cluster.pinned(programs.maps.connections, "connections") as slots:
        for keys, values in slots.map.walk_packed():
            size = 4 * len(values) // len(keys)
            owners += (int.from_bytes(values[at : at + 8], "little") for at in range(0, len(values), size))
    return owners


def slots_in_use(cluster: Cluster) -> int:
    """Connections that have a slot: until their client's socket is closed."""
    return sum(owner != 0 and not owner & ORPHANED for owner in slot_owners(cluster))


def nothing_is_left(cluster: Cluster) -> bool:
    """Whether no map has anything of a connection that is open, or in set-up."""
    return connections_in_set_up(cluster) == slots_in_use(cluster) == paired_sockets(cluster) == 0


def paired_sockets(cluster: Cluster) -> int:
    """Sockets in the SOCKMAP."""
    with cluster.pinned(programs.maps.sockets, "sockets") as entries:
        return sum(1 for _ in entries.map.items())


# --- a proxy nobody here wrote ---------------------------------------------------------------------------------------

# Not with an IPv6 listener: for those haproxy does not ask for SO_ORIGINAL_DST.
BINDINGS = [":15001", ":15001 defer-accept"]


@pytest.mark.parametrize("bind", BINDINGS)
def test_haproxy_relays_to_the_original_destination(cluster: Cluster, bind: str) -> None:
    """1 MiB each way at the same time in odd-sized writes, through haproxy, arrives whole and in order."""
    target = (cluster.server.ip, cluster.server_port)
    with HAProxy(cluster.ztunnel, bind):
        for seed in range(3):
            result = cluster.app.call(stream, *target, size_bytes=1 << 20, seed=seed, greeting=True)
            assert result["error"] is None
            assert result["seen"] is not None
            assert result["seen"]["peer_address"] == cluster.ztunnel.ip
            assert (result["seen"]["local_address"], result["seen"]["local_port"]) == target
            assert result["equal"], (result["sent_bytes"], result["received_bytes"])


@pytest.mark.parametrize("bind", BINDINGS)
def test_haproxy_gets_what_was_sent_before_it_accepted(cluster: Cluster, bind: str) -> None:
    """Bytes that the app sent while haproxy was stopped come first, then those sent later; EOF after the last one."""
    early, late = "early " * 1001, "late " * 1001
    with HAProxy(cluster.ztunnel, bind) as haproxy:
        port = cluster.server.call(listen, greet=False)
        with haproxy.paused():
            result = cluster.app.call(connect, cluster.server.ip, port, send=early, keep=True)
            assert result["error"] is None
            assert result["handle"] is not None
        answer = cluster.app.call(exchange, result["handle"], send=late, shutdown_write=True, receive=None)
        cluster.app.call(close, result["handle"])
    assert answer["error"] is None
    assert answer["received"] == early + late


# --- getsockopt ------------------------------------------------------------------------------------------------------


def test_only_its_own_level_is_answered(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """Option 80 of another level says what it says on a socket that merbridge has nothing to do with."""
    listener, plain = ztunnel.listen(OUT_PORT), ztunnel.listen()
    own = ztunnel.make()
    own.connect(("127.0.0.1", plain.getsockname()[1]))
    client = app.make()
    client.connect((cluster.server.ip, 7777))
    with accept(listener) as accepted, accept(plain) as unrelated:
        for level in (socket.SOL_SOCKET, socket.SOL_TCP, socket.SOL_UDP, socket.IPPROTO_IPV6):
            assert outcome(accepted, level) == outcome(unrelated, level)
        assert original_destination(accepted) == (cluster.server.ip, 7777)


def outcome(connection: socket.socket, level: int) -> bytes | int:
    """What getsockopt gives for option 80: its bytes, or an errno."""
    try:
        return connection.getsockopt(level, SO_ORIGINAL_DST, 16)
    except OSError as error:
        return error.errno or 0


@pytest.mark.parametrize("size", [16, 28, 128, 1024])
def test_answer_is_sockaddr_in_whatever_room_there_is(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets, size: int
) -> None:
    """A buffer that is long enough gets 16 bytes: family in host order, port and address in network order, zeros."""
    listener = ztunnel.listen(OUT_PORT)
    client = app.make()
    client.connect((cluster.server.ip, 0x1234))
    with accept(listener) as accepted:
        expected = struct.pack("=H", socket.AF_INET) + b"\x12\x34" + socket.inet_aton(cluster.server.ip) + bytes(8)
        assert accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, size) == expected


@pytest.mark.parametrize("options", [(), DEFER_ACCEPT])
def test_dual_stack_listener_is_answered(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets, options: tuple[tuple[int, int, int], ...]
) -> None:
    """An accepted AF_INET6 socket with v4-mapped addresses, which is what ztunnel has, gets the same answer."""
    listener = ztunnel.make(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option in options:
        listener.setsockopt(*option)
    listener.bind(("::", OUT_PORT))
    listener.listen()
    client = app.make()
    client.connect((cluster.server.ip, 7777))
    client.sendall(b"up")
    with accept(listener) as accepted:
        assert accepted.getpeername()[0] == f"::ffff:{cluster.app.ip}"
        assert original_destination(accepted) == (cluster.server.ip, 7777)
        accepted.sendall(b"down")
        assert (accepted.recv(99), client.recv(99)) == (b"up", b"down")


@pytest.mark.parametrize("size", [1, 8, 15])
def test_short_buffer_is_an_error(cluster: Cluster, app: PodSockets, ztunnel: PodSockets, size: int) -> None:
    """Nothing is written past a buffer that is too short, and no half address is given."""
    listener = ztunnel.listen(OUT_PORT)
    client = app.make()
    client.connect((cluster.server.ip, 7777))
    with accept(listener) as accepted:
        with pytest.raises(OSError) as failure:
            accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, size)
        assert failure.value.errno in (errno.ENOPROTOOPT, errno.EINVAL)


def test_the_apps_side_is_not_answered(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """The client's own socket, asked, says what any unrelated socket says."""
    ztunnel.listen(OUT_PORT)
    client, unrelated = app.make(), app.make()
    client.connect((cluster.server.ip, 7777))
    assert outcome(client, socket.SOL_IP) == outcome(unrelated, socket.SOL_IP)


def test_connection_that_was_not_redirected_has_no_answer(cluster: Cluster, ztunnel: PodSockets) -> None:
    """A process of the host that dials ztunnel's port itself leaves no original destination."""
    listener = ztunnel.listen(OUT_PORT)
    with PodSockets(cluster.node.host()) as host:
        client = host.make()
        client.connect((cluster.ztunnel.ip, OUT_PORT))
        with accept(listener) as accepted, pytest.raises(OSError):
            original_destination(accepted)


@pytest.mark.parametrize("groups", [1, 1024, 1025, 5000])
def test_results_longer_than_a_page_stay_whole(cluster: Cluster, agent: object, groups: int) -> None:
    """SO_PEERGROUPS of a process in a pod gives all of its groups, 4 bytes each, below and above one page."""
    # Through ctypes, since Python's own getsockopt takes no more than 1,024 bytes.
    script = f"""
import ctypes, os, socket
os.setgroups(range(10_000, 10_000 + {groups}))
one, other = socket.socketpair()
answer, size = (ctypes.c_uint32 * 16384)(), ctypes.c_uint32(65536)
status = ctypes.CDLL(None).getsockopt(one.fileno(), socket.SOL_SOCKET, {SO_PEERGROUPS}, answer, ctypes.byref(size))
print(status, size.value, list(answer[:{groups}]) == os.getgroups())
"""
    process = cluster.app.run([sys.executable, "-IS", "-c", script], stdout=subprocess.PIPE)
    assert process.communicate(timeout=10 * SLOWNESS)[0].split() == ["0", str(4 * groups), "True"]


def test_common_options_are_unaffected(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """Options of a redirected connection read as they were set."""
    listener = ztunnel.listen(OUT_PORT)
    client = app.make()
    client.connect((cluster.server.ip, 7777))
    with accept(listener) as accepted:
        for each in (client, accepted):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").isalpha()


# --- nothing stays ---------------------------------------------------------------------------------------------------


def closed(client: socket.socket, accepted: socket.socket) -> None:
    """Orderly, by the app first."""
    client.close()
    assert accepted.recv(1) == b""


def closed_by_ztunnel(client: socket.socket, accepted: socket.socket) -> None:
    """Orderly, by ztunnel first."""
    accepted.close()
    assert client.recv(1) == b""


def half_closed(client: socket.socket, accepted: socket.socket) -> None:
    """The app is done sending, ztunnel answers, both close."""
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert accepted.recv(99) + accepted.recv(99) == b"question"
    accepted.sendall(b"answer")
    accepted.close()
    assert client.recv(99) + client.recv(99) == b"answer"


def was_reset(client: socket.socket, accepted: socket.socket) -> None:
    """The app resets the connection."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    client.close()


ENDINGS: list[Callable[[socket.socket, socket.socket], None]] = [closed, closed_by_ztunnel, half_closed, was_reset]


def test_two_thousand_connections_leave_nothing_behind(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """Closed, reset, half-closed, refused, given up before the answer: no entry in either map of connections."""
    target = (cluster.server.ip, 7777)
    listener = ztunnel.listen(OUT_PORT)
    for end in ENDINGS:
        for _ in range(300):
            client = app.make()
            client.connect(target)
            with accept(listener) as accepted:
                assert original_destination(accepted) == target
                end(client, accepted)
            client.close()
    listener.close()
    for _ in range(400):
        with app.make() as client, pytest.raises(ConnectionRefusedError):
            client.connect(target)
    with unanswered_syns(ztunnel):
        give_up_connecting(app, target, count=400)
    app.close_all()
    ztunnel.close_all()
    wait_until(lambda: nothing_is_left(cluster), "no connection is left", 5)


@contextlib.contextmanager
def unanswered_syns(ztunnel: PodSockets) -> Iterator[socket.socket]:
    """Ztunnel listens, but its queue is full: the kernel drops SYNs there."""
    with ztunnel.listen(OUT_PORT, backlog=0) as listener:
        filler = ztunnel.make()
        filler.connect(("127.0.0.1", OUT_PORT))
        yield listener


def start_connecting(app: PodSockets, target: Address) -> socket.socket:
    """A socket whose SYN has left."""
    client = app.make()
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.connect(target)
    return client


def give_up_connecting(app: PodSockets, target: Address, *, count: int) -> None:
    """Connections that are closed, or run into a time limit, while their SYN is unanswered."""
    waiting = [start_connecting(app, target) for _ in range(count)]
    poll = select.poll()
    for each in waiting:
        poll.register(each, select.POLLOUT)
    assert poll.poll(50) == [], "a SYN was answered"
    for each in waiting:
        each.close()


# --- full maps -------------------------------------------------------------------------------------------------------


def test_connections_without_room_fail_closed_and_are_told(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets
) -> None:
    """Of six in set-up four have room; the others reach ztunnel without a destination, and `status` says what to do.

    None goes to its destination in the clear, and room comes back.
    """
    with cluster.datapath_with("--max-connections", "2"):
        targets = [(cluster.server.ip, 7000 + number) for number in range(6)]
        with unanswered_syns(ztunnel) as listener:
            waiting = [start_connecting(app, target) for target in targets]
            # Two slots, if not all six ask for the same one, and two entries.
            room = slots_in_use(cluster) + connections_in_set_up(cluster)
            assert (room in (3, 4), connections_in_set_up(cluster)) == (True, 2)
            assert cluster.counters()["original_dst_full"] == 6 - room
            code, report = cluster.status()
            assert code == 1
            full = f"original_dst was full {6 - room} times: raise --max-connections"
            assert any(full in line for line in report["problems"])
            listener.listen(4096)  # the SYNs are sent again, now they are answered
            found = dict(origins_of_all(listener, 1 + len(waiting)))
        answers = [found[each.getsockname()] for each in waiting]
        assert answers.count(None) == 6 - room
        assert all(answer in (None, target) for answer, target in zip(answers, targets, strict=True))
        for each in waiting:
            each.close()
        wait_until(lambda: nothing_is_left(cluster), "there is room again", 2)


def test_connections_without_a_slot_are_as_good(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """With 16 slots for 100 connections most have none: both sides are told where they go, and their bytes arrive."""
    with cluster.datapath_with("--max-connections", "16"), ztunnel.listen(OUT_PORT, backlog=256) as listener:
        clients = []
        for number in range(100):
            target = (cluster.server.ip, 7000 + number)
            client = app.make()
            client.connect(target)
            clients.append(client)
            assert client.getpeername() == target
            with accept(listener) as accepted:
                assert accepted.getpeername() == client.getsockname()
                assert original_destination(accepted) == target
                client.sendall(b"request")
                assert accepted.recv(7) == b"request"
                accepted.sendall(b"answer")
                assert client.recv(6) == b"answer"
                # Half of them stay open, so that slots are in use.
                if number % 2:
                    client.close()
        assert 50 <= cluster.counters()["crowded"] + 16 <= 116
        assert 0 < slots_in_use(cluster) <= 16
        for client in clients:
            client.close()
        wait_until(lambda: nothing_is_left(cluster), "no connection is left", 5)


def test_a_port_that_comes_again_finds_its_slot(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """A pod has so many ports; connections under one name follow each other, and each is told its own destination."""
    crowded = cluster.counters()["crowded"]
    with ztunnel.listen(OUT_PORT) as listener:
        for number in range(50):
            target = (cluster.server.ip, 7000 + number)
            with app.make() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                client.bind(("0.0.0.0", 23456))
                client.connect(target)
                with accept(listener) as accepted:
                    assert (accepted.getpeername()[1], original_destination(accepted)) == (23456, target)
    assert cluster.counters()["crowded"] == crowded


def origins_of_all(listener: socket.socket, count: int) -> Iterator[tuple[Address, Address | None]]:
    """Each accepted connection's peer, and its original destination if there is one."""
    for _ in range(count):
        accepted, peer = listener.accept()
        with accepted:
            try:
                yield peer, original_destination(accepted)
            except OSError:
                yield peer, None


def test_more_open_connections_than_the_sockmap_holds(cluster: Cluster, app: PodSockets, ztunnel: PodSockets) -> None:
    """Connections that find no room in the SOCKMAP work by TCP, in both directions, beside those that found room."""
    with cluster.datapath_with("--max-connections", "3"):
        listener = ztunnel.listen(OUT_PORT)
        pairs = []
        for number in range(20):
            client = app.make()
            client.connect((cluster.server.ip, 7000 + number))
            pairs.append((client, accept(listener)))
        for number, (client, accepted) in enumerate(pairs):
            assert original_destination(accepted) == (cluster.server.ip, 7000 + number)
            for sender, receiver in ((client, accepted), (accepted, client)):
                sender.sendall(f"number {number}".encode())
                assert receiver.recv(99) == f"number {number}".encode()
        for _, accepted in pairs:
            accepted.close()


# --- equal addresses -------------------------------------------------------------------------------------------------


def test_unrelated_server_with_ztunnels_address_is_not_confused(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets
) -> None:
    """In another network a pod outside the mesh uses the very same 4-tuple at the same time: nothing is mixed."""
    outsider = cluster.node.add_pod("outsider", namespace="elsewhere", ip=cluster.app.ip, network="other")
    double = cluster.node.add_pod("double", namespace="elsewhere", ip=cluster.ztunnel.ip, network="other")
    with PodSockets(outsider) as others, PodSockets(double) as doubles:
        unrelated, listener = doubles.listen(OUT_PORT), ztunnel.listen(OUT_PORT, options=DEFER_ACCEPT)
        source = (cluster.app.ip, 20_001)
        client, other = app.make(), others.make()
        client.bind(source)
        other.bind(source)
        client.connect((cluster.server.ip, 7777))  # its entry waits: ztunnel's side stands when a byte has come
        other.connect((cluster.ztunnel.ip, OUT_PORT))
        with accept(unrelated) as unrelated_accepted:
            client.sendall(b"by the app")
            with accept(listener) as accepted:
                assert original_destination(accepted) == (cluster.server.ip, 7777)
                with pytest.raises(OSError):
                    original_destination(unrelated_accepted)
                other.sendall(b"by the outsider")
                accepted.sendall(b"for the app")
                unrelated_accepted.sendall(b"for the outsider")
                assert (accepted.recv(99), unrelated_accepted.recv(99)) == (b"by the app", b"by the outsider")
                assert (client.recv(99), other.recv(99)) == (b"for the app", b"for the outsider")
    cluster.node.remove_pod(outsider)
    cluster.node.remove_pod(double)


def test_pod_with_a_foreign_address_cannot_take_over_a_connection(
    cluster: Cluster, app: PodSockets, ztunnel: PodSockets
) -> None:
    """An enrolled pod that gives itself another pod's and ztunnel's addresses gets none of the other's bytes.

    Both dial with the same source port; ztunnel must be told where the real one wanted to go.
    """
    intruder = cluster.node.add_pod("intruder", namespace="shop", ip="10.244.77.50", network="other")
    double = cluster.node.add_pod("double", namespace="elsewhere", ip=cluster.ztunnel.ip, network="other")
    intruder.in_netns(lambda: add_address(cluster.app.ip))
    cluster.publish()
    try:
        cluster.agent.wait_for("pod_in_mesh", pod="shop/intruder")
        time.sleep(0.3)  # its namespace is known a moment after its name
        with PodSockets(intruder) as intruders, PodSockets(double) as doubles:
            doubles.listen(OUT_PORT)
            listener = ztunnel.listen(OUT_PORT, options=DEFER_ACCEPT)
            client, thief = app.make(), intruders.make()
            client.bind((cluster.app.ip, 20_002))
            client.connect((cluster.server.ip, 7777))
            thief.bind((cluster.app.ip, 20_002))
            thief.settimeout(0.5)
            with contextlib.suppress(OSError):  # to refuse it would be right too
                thief.connect((cluster.server.ip, 6666))
            client.sendall(b"by the app")
            with accept(listener) as accepted:
                assert original_destination(accepted) == (cluster.server.ip, 7777)
                accepted.sendall(b"for the app")
                assert client.recv(99) == b"for the app"
    finally:
        cluster.node.remove_pod(intruder)
        cluster.node.remove_pod(double)
        cluster.publish()


def add_address(address: str) -> None:
    """Give this thread's network namespace one more address."""
    with IPRoute() as netlink:
        (index,) = netlink.link_lookup(ifname="eth0")
        netlink.addr("add", index=index, address=address, prefixlen=32)
