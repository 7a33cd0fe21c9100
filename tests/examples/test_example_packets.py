"""Examples at a network interface, each between two namespaces of the test's own."""

import fcntl
import os
import re
import socket
import struct
import threading
from array import array

import pytest
from running_example import Start

from pybpfasm.kernel import features
from pybpfasm.testing import Namespace, Network

NOTHING_SECONDS = 0.3
SOMETHING_SECONDS = 10

# include/uapi/linux/sockios.h, include/uapi/linux/ethtool.h
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17


@pytest.fixture
def network(bpf_network: Network) -> Network:
    """The two namespaces, once the wire between them carries packets."""
    with receiver(bpf_network.right, 9) as sink:
        sink.settimeout(0.05)
        while not passes(bpf_network.left, sink):
            pass
    return bpf_network


def receiver(namespace: Namespace, port: int) -> socket.socket:
    """A UDP socket that is bound in the namespace."""
    made = namespace.socket(socket.SOCK_DGRAM)
    made.bind((namespace.ip4, port))
    made.settimeout(NOTHING_SECONDS)
    return made


def passes(sender: Namespace, sink: socket.socket) -> bool:
    """Whether a datagram gets to a socket."""
    with sender.socket(socket.SOCK_DGRAM) as sock:
        number = os.urandom(8)
        try:
            sock.sendto(number, sink.getsockname())
            while sink.recv(64) != number:
                pass
        except (TimeoutError, OSError):
            return False
    return True


def test_xdp_firewall(start: Start, network: Network) -> None:
    """Packets from a blocked network do not arrive, and are counted; when it ends they do again."""
    with receiver(network.right, 7000) as sink:
        assert passes(network.left, sink)
        example = start("xdp_firewall", "wire0", "--block", "10.77.0.0/28", namespace=network.right)
        example.wait_for("^blocking 1 networks at wire0")
        assert not passes(network.left, sink)
        assert int(example.wait_for(r"^10\.77\.0\.0/28  (\d+) packets dropped")[1]) >= 1
        example.stop()
        assert passes(network.left, sink)


def test_xdp_firewall_lets_others_through(start: Start, network: Network) -> None:
    """What comes from another network arrives."""
    with receiver(network.right, 7000) as sink:
        example = start("xdp_firewall", "wire0", "--block", "192.0.2.0/24", namespace=network.right)
        example.wait_for("^blocking")
        assert passes(network.left, sink)
        example.stop()


def test_count_packets(start: Start, network: Network) -> None:
    """Ten datagrams of 100 bytes are ten packets of 128."""
    example = start("count_packets", "wire0", namespace=network.right)
    example.wait_for("^counting at wire0")
    with network.left.socket(socket.SOCK_DGRAM) as sock:
        for _ in range(10):
            sock.sendto(bytes(100), (network.right.ip4, 7001))
    with network.left.socket(socket.SOCK_DGRAM, socket.AF_INET6) as sock:
        sock.sendto(bytes(100), (network.right.ip6, 7001))
    table = example.stop()
    assert re.search(rf"^UDP +11 +{10 * 128 + 148}$", table, re.M), table


def connects(sender: Namespace, address: tuple[str, int], seconds: float) -> bool:
    """Whether a TCP connection comes about in this time."""
    with sender.socket() as sock:
        sock.settimeout(seconds)
        try:
            sock.connect(address)
        except TimeoutError:
            return False
    return True


def test_syn_guard(start: Start, network: Network) -> None:
    """Of requests that come at once so many as are allowed are answered."""
    with network.right.socket() as server:
        server.bind((network.right.ip4, 7002))
        server.listen(64)
        example = start("syn_guard", "wire0", "--per-second", 3, namespace=network.right)
        example.wait_for("^3 requests a second")
        clients = [network.left.socket() for _ in range(8)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((network.right.ip4, 7002))
        example.wait_for(r"^10\.77\.0\.1  \d+ requests dropped")
        for client in clients:
            client.close()
        example.stop()
        assert connects(network.left, (network.right.ip4, 7002), SOMETHING_SECONDS)


@pytest.mark.needs(features.LOOP)  # as are timers since 5.15
def test_flow_table(start: Start, network: Network) -> None:
    """A flow that has become silent is told, with all of its packets; one that goes on is not."""
    example = start("flow_table", "wire0", "--idle", 0.4, namespace=network.right)
    example.wait_for("^watching wire0")
    with network.left.socket(socket.SOCK_DGRAM) as quiet, network.left.socket(socket.SOCK_DGRAM) as busy:
        quiet.bind((network.left.ip4, 5001))
        busy.bind((network.left.ip4, 5002))
        for _ in range(3):
            quiet.sendto(bytes(72), (network.right.ip4, 7003))
        done = threading.Event()

        def go_on() -> None:
            while not done.wait(0.05):
                busy.sendto(b"x", (network.right.ip4, 7003))

        going_on = threading.Thread(target=go_on)
        going_on.start()
        try:
            line = example.wait_for("^UDP ")
        finally:
            done.set()
            going_on.join()
    assert line.string == "UDP 10.77.0.1:5001 > 10.77.0.2:7003  3 packets"
    example.wait_for(r"^UDP 10\.77\.0\.1:5002 > ")
    example.stop()


def question(name: str) -> bytes:
    """A DNS message that asks for an address (RFC 1035, 4.1)."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


@pytest.mark.needs(features.LOOP)  # as is the stack's memory by an index since 5.12
def test_dns_names(start: Start, network: Network) -> None:
    """Questions that leave are counted by name; what goes to another port is not."""
    example = start("dns_names", "wire0", namespace=network.left)
    example.wait_for("^listening at wire0")
    with network.left.socket(socket.SOCK_DGRAM) as sock:
        for name in ("www.example.org", "www.example.org", "a.b"):
            sock.sendto(question(name), (network.right.ip4, 53))
        sock.sendto(question("not.dns"), (network.right.ip4, 54))
    assert example.stop().splitlines() == ["       2  www.example.org", "       1  a.b"]


def write_checksums(namespace: Namespace) -> None:
    """Have TCP's checksums written and looked at, which a veth pair would leave to a card that there is not."""
    setting = array("I", [ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP", namespace.interface.encode(), setting.buffer_info()[0])
    with namespace.socket(socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, request)


def test_port_rewrite(start: Start, network: Network) -> None:
    """A connection to the outside port reaches the server behind the inside one, and its answers come back."""
    for namespace in (network.left, network.right):
        write_checksums(namespace)
    with network.right.socket() as server:
        server.bind((network.right.ip4, 7080))
        server.listen()
        server.settimeout(SOMETHING_SECONDS)
        example = start("port_rewrite", "wire0", 80, 7080, namespace=network.right)
        example.wait_for("^port 80 of wire0 is 7080")
        with network.left.socket() as client:
            client.settimeout(SOMETHING_SECONDS)
            client.connect((network.right.ip4, 80))
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"ping")
                assert accepted.recv(16) == b"ping"
                accepted.sendall(b"pong")
                assert client.recv(16) == b"pong"
                assert accepted.getsockname()[1] == 7080
        example.stop()
        with network.left.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect((network.right.ip4, 80))


def test_rate_limit(start: Start, network: Network) -> None:
    """Of a hundred datagrams at once a burst arrives, and little more; the others are told."""
    with receiver(network.right, 7004) as sink:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        example = start("rate_limit", "wire0", "--per-second", 5, "--burst", 10, namespace=network.left)
        example.wait_for("^5 packets a second leave by wire0")
        with network.left.socket(socket.SOCK_DGRAM) as sock:
            for _ in range(100):
                try:
                    sock.sendto(b"x", sink.getsockname())
                except OSError:  # who sends is told, too: ENOBUFS
                    continue
        dropped = int(example.wait_for(r" passed, (\d+) dropped")[1])
        example.stop()
        arrived = 0
        while True:
            try:
                sink.recv(16)
            except TimeoutError:
                break
            arrived += 1
    assert 5 <= arrived <= 20
    assert dropped >= 80
