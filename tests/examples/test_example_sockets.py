"""Examples for the sockets of a cgroup, which each test makes."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from running_example import Start, run

from pybpfasm.kernel import features
from pybpfasm.testing import Cgroup, Network
from pybpfasm.uapi import MapType

SOMETHING_SECONDS = 10
REFUSED = 1  # EPERM


def connect(address: str, port: int, family: int = socket.AF_INET) -> int:
    """The errno of a UDP connect, 0 if it is let through: a packet is not sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        return sock.connect_ex((address, port))


def test_connect_log(start: Start, bpf_cgroup: Cgroup) -> None:
    """Connects of the cgroup's processes are printed, IPv4 and IPv6, and those of no other."""
    example = start("connect_log", bpf_cgroup.path)
    example.wait_for("^connects of ")
    connect("127.0.0.1", 1110)
    bpf_cgroup.run(lambda: connect("127.0.0.1", 2220))
    line = example.wait_for(r"^\S+ 127\.0\.0\.1:\d+")
    assert line.string.startswith("UDP 127.0.0.1:2220  ")
    pid = bpf_cgroup.run(lambda: connect("::1", 3330, socket.AF_INET6) or os.getpid())
    line = example.wait_for(r"\[::1\]")
    assert line.string.startswith("UDP [::1]:3330  ")
    assert line.string.endswith(f"[{pid}] of user {os.getuid()}")
    example.stop()


@pytest.mark.needs(features.MAP_TYPES[MapType.BLOOM_FILTER])
def test_blocklist(start: Start, bpf_cgroup: Cgroup, tmp_path: Path) -> None:
    """What is on the list is refused, with the line that says so; what is not is let through, also by the filter."""
    listed = tmp_path / "addresses.txt"
    listed.write_text("# bad ones\n" + "".join(f"192.0.2.{last}\n" for last in range(1, 200)))
    example = start("blocklist", bpf_cgroup.path, listed)
    example.wait_for("^199 addresses are out of reach")
    assert bpf_cgroup.run(lambda: connect("192.0.2.7", 80)) == REFUSED
    example.wait_for(r"^refused 192\.0\.2\.7:80 to process \d+: addresses\.txt:8$")
    assert bpf_cgroup.run(lambda: [connect(f"127.0.3.{last}", 80) for last in range(250)]) == [0] * 250
    example.stop()
    assert bpf_cgroup.run(lambda: connect("192.0.2.7", 80)) != REFUSED


def test_a_wrong_list(tmp_path: Path) -> None:
    """What is no address is told with its line."""
    listed = tmp_path / "addresses.txt"
    listed.write_text("192.0.2.1\nexample.org\n")
    result = run("blocklist", tmp_path, listed)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"blocklist: {listed}:2: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.needs(features.MAP_TYPES[MapType.USER_RINGBUF])
def test_live_rules(start: Start, bpf_cgroup: Cgroup) -> None:
    """A rule that is typed in holds for the next connect; what is no rule is told."""
    example = start("live_rules", bpf_cgroup.path)
    example.wait_for("^rules for ")
    assert bpf_cgroup.run(lambda: connect("127.0.0.9", 80)) == 0
    example.type("block 127.0.0.9")
    example.wait_for("^sent: block")
    assert bpf_cgroup.run(lambda: (connect("127.0.0.9", 80), connect("127.0.0.8", 80))) == (REFUSED, 0)
    example.type("allow 127.0.0.9")
    example.wait_for("^sent: allow")
    assert bpf_cgroup.run(lambda: connect("127.0.0.9", 80)) == 0
    example.type("block everything")
    example.wait_for("write an IPv4 address$")
    example.stop()


def with_server(exchange: Callable[[socket.socket, socket.socket], None]) -> tuple[str, str]:
    """Have a connection over the loopback: the names of its two ends as client and server see them."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.settimeout(SOMETHING_SECONDS)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(SOMETHING_SECONDS)
            exchange(client, accepted)
            ends = (client.getsockname(), accepted.getsockname())
    return f"{ends[0][0]}:{ends[0][1]}", f"{ends[1][0]}:{ends[1][1]}"


def question_and_answer(client: socket.socket, accepted: socket.socket) -> None:
    """1000 bytes one way, 3000 back."""
    client.sendall(bytes(1000))
    assert len(accepted.recv(1000, socket.MSG_WAITALL)) == 1000
    accepted.sendall(bytes(3000))
    assert len(client.recv(3000, socket.MSG_WAITALL)) == 3000
    accepted.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_tcp_log(start: Start, bpf_cgroup: Cgroup) -> None:
    """Both ends of a connection are told when they are closed, each with the bytes that it sent and received."""
    example = start("tcp_log", bpf_cgroup.path)
    example.wait_for("^connections of ")
    client, server = bpf_cgroup.run(lambda: with_server(question_and_answer))
    lines = [example.wait_for(r"^(\S+) > (\S+)  (\d+) bytes out, (\d+) in, (\d+) us, 0 sent again$") for _ in range(2)]
    found = {line[1]: (line[2], line[3], line[4]) for line in lines}
    assert set(found) == {client, server}
    peer, out, in_ = found[server]
    # The acknowledgement of a FIN is counted as one byte.
    assert (peer, int(out) in (3000, 3001), int(in_) in (1000, 1001)) == (client, True, True)
    assert int(lines[0][5]) > 0
    example.stop()


def test_local_splice(start: Start, bpf_cgroup: Cgroup) -> None:
    """Bytes come as they were sent, both ways, and have skipped TCP."""
    example = start("local_splice", bpf_cgroup.path)
    example.wait_for("^splicing in ")
    sent = os.urandom(200_000)

    def exchange(client: socket.socket, accepted: socket.socket) -> None:
        sending = threading.Thread(target=client.sendall, args=(sent,))
        sending.start()
        received = b""
        while len(received) < len(sent):
            received += accepted.recv(1 << 16)
        sending.join()
        assert received == sent
        accepted.sendall(b"answer")
        assert client.recv(16) == b"answer"

    bpf_cgroup.run(lambda: with_server(exchange))
    assert f" messages, {len(sent) + 6} bytes have skipped TCP" in example.stop()


def test_count_connects(bpf_cgroup: Cgroup) -> None:
    """A command's connects are counted by destination; there is nothing to stop."""
    client = "import socket; [socket.socket().connect_ex(('127.0.0.1', 9)) for _ in range(5)]"
    result = run("count_connects", bpf_cgroup.path, "--", sys.executable, "-c", client)
    assert (result.returncode, result.stdout, result.stderr) == (0, "127.0.0.1:9  5\n", "")


@pytest.mark.needs(features.STRUCT_OPS)
def test_congestion(start: Start, bpf_network: Network) -> None:
    """A connection that asks for it by name is served by it."""
    name = f"py{os.getpid()}"
    example = start("congestion", name)
    example.wait_for(f"^congestion control {name} is there")
    with bpf_network.right.socket() as server, bpf_network.left.socket() as client:
        server.bind((bpf_network.right.ip4, 7005))
        server.listen()
        client.settimeout(SOMETHING_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
        client.connect((bpf_network.right.ip4, 7005))
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(SOMETHING_SECONDS)
            for _ in range(20):
                client.sendall(bytes(20_000))
                assert len(accepted.recv(20_000, socket.MSG_WAITALL)) == 20_000
    assert int(example.wait_for(r"^(\d+) packets acknowledged")[1]) > 0
    example.stop()
    with bpf_network.left.socket() as client, pytest.raises(FileNotFoundError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
