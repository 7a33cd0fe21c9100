"""The process inside a demo container: it takes commands as JSON lines on stdin and answers with JSON lines.

One such process lives as long as its container, so that a test can make a thousand connections without starting Python
a thousand times. A command runs in a thread of its own; its reply carries the request's id. What goes wrong on the
network is data in the reply (an errno name), and every command ends within the time that it is given.

When stdin ends, the node has gone: the process then ends everything in its container's cgroup, itself too.

This file is run by its path and imports the standard library only: it starts in some 30 ms and needs nothing installed.
Payloads travel in JSON as text with one character a byte (latin-1). Addresses are dotted text, ports are host order.
"""

import collections
import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict

CHUNK_BYTES: Final = 65536
SERVER_IDLE_SECONDS: Final = 600.0
SocketOption = tuple[int, int, int]
"""Level, option, value, as setsockopt takes them."""


class Seen(TypedDict):
    """What a server saw of one client: the first line that an echo server sends."""

    peer_address: str
    peer_port: int
    local_address: str
    local_port: int


class ConnectResult(TypedDict):
    """One TCP connection as the client saw it; `error` is an errno name, or TIMEOUT when the time given was over."""

    error: str | None
    local_address: str | None
    local_port: int | None
    peer_address: str | None
    peer_port: int | None
    seen: Seen | None
    received: str
    duration_ms: float
    handle: int | None


class ExchangeResult(TypedDict):
    """One exchange of bytes on a connection that was kept open."""

    error: str | None
    received: str


class StreamResult(TypedDict):
    """A long stream that was sent and read back at the same time."""

    error: str | None
    seen: Seen | None
    sent_bytes: int
    received_bytes: int
    sent_sha256: str
    received_sha256: str
    equal: bool
    duration_ms: float


class Failure(TypedDict):
    """One of many connections that failed: its number from 0, the errno name, when after the start."""

    index: int
    error: str
    at_ms: float


class ConnectManyResult(TypedDict):
    """Outcomes ("ok" or an errno name) with their counts; who the server saw as the peer, with counts."""

    outcomes: dict[str, int]
    failures: list[Failure]
    seen_peers: dict[str, int]
    duration_ms: float


class UdpResult(TypedDict):
    """One datagram sent and its answer."""

    error: str | None
    local_address: str | None
    local_port: int | None
    from_address: str | None
    from_port: int | None
    seen: Seen | None
    received: str


class Request(TypedDict):
    """A command on its way in."""

    id: int
    command: str
    positional: list[Any]
    named: dict[str, Any]


class Reply(TypedDict):
    """A command's answer: a result, or the one line that says why the command itself could not be run."""

    id: int
    result: NotRequired[Any]
    error: NotRequired[str]


# --- sockets ---------------------------------------------------------------------------------------------------------


class Deadline:
    """The moment when a command must be over."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self._end = time.monotonic() + seconds

    def limit(self, connection: socket.socket) -> socket.socket:
        """Give the socket's next call the time that is left; raises TimeoutError when there is none."""
        left_seconds = self._end - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError
        connection.settimeout(left_seconds)
        return connection


def error_name(error: OSError) -> str:
    """An errno's name; TIMEOUT when the socket's own time limit, not the kernel's, was over."""
    if error.errno is None:
        return "TIMEOUT" if isinstance(error, TimeoutError) else type(error).__name__
    return errno.errorcode.get(error.errno, str(error.errno))


def _elapsed_ms(start: float) -> float:
    return round((time.monotonic() - start) * 1000, 3)


def _address(name: object) -> tuple[str, int] | tuple[None, None]:
    match name:
        case (str(address), int(port), *_):
            return address.removeprefix("::ffff:"), port
        case _:
            return None, None


def _local(connection: socket.socket) -> tuple[str, int] | tuple[None, None]:
    try:
        return _address(connection.getsockname())
    except OSError:
        return None, None


def _peer(connection: socket.socket) -> tuple[str, int] | tuple[None, None]:
    try:
        return _address(connection.getpeername())
    except OSError:
        return None, None


def _seen(peer: tuple[str, int], local: tuple[str, int]) -> Seen:
    return {"peer_address": peer[0], "peer_port": peer[1], "local_address": local[0], "local_port": local[1]}


def _read(connection: socket.socket, count: int | None, deadline: Deadline) -> Iterator[bytes]:
    """Pieces of the next `count` bytes, or of all until EOF; ends early at EOF."""
    left = count
    while left is None or left > 0:
        size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
        piece = deadline.limit(connection).recv(size)
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _read_greeting(connection: socket.socket, deadline: Deadline) -> Seen | None:
    """The server's first line; None when the connection ended before it was whole."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = deadline.limit(connection).recv(1)
        if not byte:
            return None
        line += byte
    greeting: Seen = json.loads(line)
    return greeting


def _open_socket(
    kind: int, family: str, options: Sequence[SocketOption], bind: tuple[str, int] | None
) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if family == "inet6" else socket.AF_INET, kind)
    try:
        for level, option, value in options:
            opened.setsockopt(level, option, value)
        if bind is not None:
            opened.bind((_in_family(bind[0], family), bind[1]))
    except OSError:
        opened.close()
        raise
    return opened


def _in_family(address: str, family: str) -> str:
    return f"::ffff:{address}" if family == "inet6" and ":" not in address else address


# --- clients ---------------------------------------------------------------------------------------------------------

_kept: dict[int, socket.socket] = {}


def connect(
    address: str,
    port: int,
    *,
    send: str = "",
    shutdown_write: bool = False,
    greeting: bool = False,
    receive: int | None = 0,
    keep: bool = False,
    bind: tuple[str, int] | None = None,
    options: Sequence[SocketOption] = (),
    family: str = "inet",
    timeout_seconds: float = 5.0,
) -> ConnectResult:
    """Connect; send; half-close if asked; read the greeting line if asked, then `receive` bytes (None: to EOF).

    `keep` leaves the connection open and returns a handle for `exchange` and `close`. With family "inet6" an IPv4
    address is dialled in its v4-mapped form.
    """
    start, deadline = time.monotonic(), Deadline(timeout_seconds)
    result: ConnectResult = {
        "error": None,
        "local_address": None,
        "local_port": None,
        "peer_address": None,
        "peer_port": None,
        "seen": None,
        "received": "",
        "duration_ms": 0.0,
        "handle": None,
    }
    connection: socket.socket | None = None
    try:
        connection = _open_socket(socket.SOCK_STREAM, family, options, bind)
        deadline.limit(connection).connect((_in_family(address, family), port))
        result["local_address"], result["local_port"] = _local(connection)
        result["peer_address"], result["peer_port"] = _peer(connection)
        if send:
            deadline.limit(connection).sendall(send.encode("latin-1"))
        if shutdown_write:
            connection.shutdown(socket.SHUT_WR)
        if greeting:
            result["seen"] = _read_greeting(connection, deadline)
        for piece in _read(connection, receive, deadline):
            result["received"] += piece.decode("latin-1")
    except OSError as error:
        result["error"] = error_name(error)
    finally:
        result["duration_ms"] = _elapsed_ms(start)
        if connection is not None and keep and result["error"] is None:
            result["handle"] = connection.fileno()
            _kept[connection.fileno()] = connection
        elif connection is not None:
            connection.close()
    return result


def exchange(
    handle: int,
    *,
    send: str = "",
    shutdown_write: bool = False,
    receive: int | None = 0,
    timeout_seconds: float = 5.0,
) -> ExchangeResult:
    """Send on a kept connection, half-close if asked, then read `receive` bytes (None: to EOF)."""
    deadline = Deadline(timeout_seconds)
    result: ExchangeResult = {"error": None, "received": ""}
    connection = _kept[handle]
    try:
        deadline.limit(connection).sendall(send.encode("latin-1"))
        if shutdown_write:
            connection.shutdown(socket.SHUT_WR)
        for piece in _read(connection, receive, deadline):
            result["received"] += piece.decode("latin-1")
    except OSError as error:
        result["error"] = error_name(error)
    return result


def close(handle: int) -> None:
    """Close a kept connection."""
    _kept.pop(handle).close()


def stream(
    address: str,
    port: int,
    *,
    size_bytes: int,
    seed: int = 1,
    shutdown_write: bool = True,
    greeting: bool = False,
    options: Sequence[SocketOption] = (),
    timeout_seconds: float = 30.0,
) -> StreamResult:
    """Send pseudo-random bytes in odd-sized writes and read them back at the same time from an echo server.

    With `shutdown_write` the sender half-closes and the reader goes on to EOF, so that a byte too many is seen.
    """
    import hashlib
    import random

    start, deadline = time.monotonic(), Deadline(timeout_seconds)
    payload = random.Random(seed).randbytes(size_bytes)  # noqa: S311 - test data that can be made again from its seed
    received = bytearray()
    sender = _Sender(payload, seed, shutdown_write, deadline)
    error_text: str | None = None
    greeted: Seen | None = None
    try:
        with _open_socket(socket.SOCK_STREAM, "inet", options, None) as connection:
            deadline.limit(connection).connect((address, port))
            sender.start(connection)
            greeted = _read_greeting(connection, deadline) if greeting else None
            for piece in _read(connection, None if shutdown_write else size_bytes, deadline):
                received += piece
    except OSError as error:
        error_text = error_name(error)
    sender.join()
    return {
        "error": error_text or sender.error,
        "seen": greeted,
        "sent_bytes": sender.sent_bytes,
        "received_bytes": len(received),
        "sent_sha256": hashlib.sha256(payload[: sender.sent_bytes]).hexdigest(),
        "received_sha256": hashlib.sha256(received).hexdigest(),
        "equal": received == payload,
        "duration_ms": _elapsed_ms(start),
    }


class _Sender:
    """The sending half of `stream`: a thread that writes the payload in pieces of odd sizes."""

    def __init__(self, payload: bytes, seed: int, shutdown_write: bool, deadline: Deadline) -> None:
        self.sent_bytes = 0
        self.error: str | None = None
        self._payload, self._seed = payload, seed
        self._shutdown_write, self._deadline = shutdown_write, deadline
        self._thread: threading.Thread | None = None

    def start(self, connection: socket.socket) -> None:
        # A descriptor of its own: a time limit is a property of Python's socket object, and the reader sets another.
        self._thread = threading.Thread(target=self._send, args=(connection.dup(),))
        self._thread.start()

    def join(self) -> None:
        """Wait for the payload's end, a failure or the deadline."""
        if self._thread is not None:
            self._thread.join()

    def _send(self, connection: socket.socket) -> None:
        import random

        sizes = random.Random(self._seed)  # noqa: S311 - sizes that can be made again from their seed
        try:
            with connection:
                while self.sent_bytes < len(self._payload):
                    end = self.sent_bytes + sizes.randrange(1, 20_000, 2)
                    piece = self._payload[self.sent_bytes : end]
                    self._deadline.limit(connection).sendall(piece)
                    self.sent_bytes += len(piece)
                if self._shutdown_write:
                    connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = error_name(error)


def connect_many(
    address: str,
    port: int,
    *,
    count: int,
    pause_ms: float = 0.0,
    greeting: bool = False,
    timeout_seconds: float = 5.0,
    total_timeout_seconds: float = 120.0,
) -> ConnectManyResult:
    """Make `count` connections one after the other, each closed before the next; stops when the total time is over.

    What was not tried any more counts as NOT_TRIED. With `greeting`, a connection is good only if the server's first
    line arrived (EOF otherwise).
    """
    start = time.monotonic()
    outcomes: collections.Counter[str] = collections.Counter()
    seen_peers: collections.Counter[str] = collections.Counter()
    failures: list[Failure] = []
    for index in range(count):
        if time.monotonic() - start > total_timeout_seconds:
            outcomes["NOT_TRIED"] = count - index
            break
        at_ms = _elapsed_ms(start)
        result = connect(address, port, greeting=greeting, timeout_seconds=timeout_seconds)
        outcome = result["error"] or ("EOF" if greeting and result["seen"] is None else "ok")
        outcomes[outcome] += 1
        if outcome != "ok":
            failures.append({"index": index, "error": outcome, "at_ms": at_ms})
        if result["seen"] is not None:
            seen_peers[result["seen"]["peer_address"]] += 1
        if pause_ms:
            time.sleep(pause_ms / 1000)
    return {
        "outcomes": dict(outcomes),
        "failures": failures,
        "seen_peers": dict(seen_peers),
        "duration_ms": _elapsed_ms(start),
    }


def udp_exchange(
    address: str,
    port: int,
    *,
    send: str,
    connected: bool = False,
    bind: tuple[str, int] | None = None,
    timeout_seconds: float = 2.0,
) -> UdpResult:
    """Send one datagram to a UDP echo server, by sendto or on a connected socket, and read the answer."""
    result: UdpResult = {
        "error": None,
        "local_address": None,
        "local_port": None,
        "from_address": None,
        "from_port": None,
        "seen": None,
        "received": "",
    }
    try:
        with _open_socket(socket.SOCK_DGRAM, "inet", (), bind) as datagrams:
            datagrams.settimeout(timeout_seconds)
            if connected:
                datagrams.connect((address, port))
                datagrams.send(send.encode("latin-1"))
            else:
                datagrams.sendto(send.encode("latin-1"), (address, port))
            result["local_address"], result["local_port"] = _local(datagrams)
            answer, source = datagrams.recvfrom(CHUNK_BYTES)
            line, _, payload = answer.partition(b"\n")
            result["from_address"], result["from_port"] = _address(source)
            result["seen"], result["received"] = json.loads(line), payload.decode("latin-1")
    except OSError as error:
        result["error"] = error_name(error)
    return result


# --- servers ---------------------------------------------------------------------------------------------------------


class EchoServer:
    """A TCP server that says what it saw of a client, then echoes until EOF, half-close aware."""

    def __init__(self, listener: socket.socket, greet: bool, accept_delay_seconds: float) -> None:
        """Serve a listening socket, which the server owns from here on."""
        self.seen: collections.deque[Seen] = collections.deque(maxlen=100_000)
        self._listener, self._greet, self._accept_delay_seconds = listener, greet, accept_delay_seconds
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening; connections that were accepted go on."""
        # close() alone would leave the port open while the other thread sits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                if self._accept_delay_seconds:
                    select.select([self._listener], [], [])
                    time.sleep(self._accept_delay_seconds)
                connection, peer = self._listener.accept()
                local = connection.getsockname()
            except (OSError, ValueError):  # closed; select() says ValueError then
                return
            seen = _seen((peer[0], peer[1]), (local[0], local[1]))
            self.seen.append(seen)
            threading.Thread(target=self._echo, args=(connection, seen), daemon=True).start()

    def _echo(self, connection: socket.socket, seen: Seen) -> None:
        # A client that resets the connection ends it: there is no one left to tell.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(SERVER_IDLE_SECONDS)
            if self._greet:
                connection.sendall(json.dumps(seen).encode() + b"\n")
            while piece := connection.recv(CHUNK_BYTES):
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)


class UdpEchoServer:
    """A UDP server that answers each datagram with a line of what it saw, then the datagram."""

    def __init__(self, datagrams: socket.socket) -> None:
        """Serve a bound socket, which the server owns from here on."""
        self.seen: collections.deque[Seen] = collections.deque(maxlen=100_000)
        self._datagrams = datagrams
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._datagrams.settimeout(0.2)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._closed.set()
        self._thread.join()
        self._datagrams.close()

    def _answer(self) -> None:
        local = self._datagrams.getsockname()
        while not self._closed.is_set():
            # A timeout is the moment to look whether to stop; an error is the ICMP answer to an earlier datagram.
            with contextlib.suppress(OSError):
                payload, peer = self._datagrams.recvfrom(CHUNK_BYTES)
                seen = _seen((peer[0], peer[1]), (local[0], local[1]))
                self.seen.append(seen)
                self._datagrams.sendto(json.dumps(seen).encode() + b"\n" + payload, peer)


_servers: dict[tuple[str, int], EchoServer | UdpEchoServer] = {}


def listen(
    address: str = "0.0.0.0",  # noqa: S104 - a pod's server listens on all of its own namespace's addresses
    port: int = 0,
    *,
    greet: bool = True,
    accept_delay_seconds: float = 0.0,
    options: Sequence[SocketOption] = (),
) -> int:
    """Start an echo server in the background and return its port.

    `accept_delay_seconds` lets a client's bytes arrive before the connection is accepted. With TCP_DEFER_ACCEPT among
    the options, a client that waits for the greeting before it sends would wait for long.
    """
    listener = _open_socket(socket.SOCK_STREAM, "inet", options, None)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(4096)
    except OSError:
        listener.close()
        raise
    bound: int = listener.getsockname()[1]
    _servers["tcp", bound] = EchoServer(listener, greet, accept_delay_seconds)
    return bound


def listen_udp(address: str = "0.0.0.0", port: int = 0) -> int:  # noqa: S104 - as for listen
    """Start a UDP echo server in the background and return its port."""
    datagrams = _open_socket(socket.SOCK_DGRAM, "inet", (), (address, port))
    bound: int = datagrams.getsockname()[1]
    _servers["udp", bound] = UdpEchoServer(datagrams)
    return bound


def seen_by_server(port: int, *, protocol: str = "tcp") -> list[Seen]:
    """What the server on this port saw of its clients so far, oldest first."""
    return list(_servers[protocol, port].seen)


def close_server(port: int, *, protocol: str = "tcp") -> None:
    """Stop the server on this port."""
    _servers.pop((protocol, port)).close()


# --- the process -----------------------------------------------------------------------------------------------------

COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    command.__name__: command
    for command in (
        connect,
        exchange,
        close,
        stream,
        connect_many,
        udp_exchange,
        listen,
        listen_udp,
        seen_by_server,
        close_server,
    )
}


def kill_cgroup(directory: Path) -> None:
    """Send SIGKILL to every process at or below a cgroup2 directory; the caller's own process is the last."""
    try:
        (directory / "cgroup.kill").write_text("1")
    except OSError:  # no such file before Linux 5.14; or the directory is gone
        kill_one_by_one(directory)


def kill_one_by_one(directory: Path, *, limit_seconds: float = 5.0) -> None:
    """Do what `kill_cgroup` does where the kernel has no cgroup.kill; give up on what does not die in time."""
    own, deadline = os.getpid(), time.monotonic() + limit_seconds
    # Again and again, until no process was forked meanwhile.
    while (pids := set(cgroup_pids(directory)) - {own}) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    if own in cgroup_pids(directory):
        os.kill(own, signal.SIGKILL)


def cgroup_pids(directory: Path) -> list[int]:
    """The processes at or below a cgroup2 directory; none when it is gone."""
    pids: list[int] = []
    for path, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):  # removed while it was read: it had no process
            pids += map(int, Path(path, "cgroup.procs").read_text().split())
    return [pid for pid in pids if pid > 0]  # 0 stands for a process of another PID namespace


def _answer(request: Request, reply: Callable[[Reply], None]) -> None:
    try:
        command = COMMANDS[request["command"]]
        reply({"id": request["id"], "result": command(*request["positional"], **request["named"])})
    except OSError as error:
        reply({"id": request["id"], "error": f"{error_name(error)}: {error.strerror or error}"})
    except Exception as error:  # noqa: BLE001 - nothing is hidden: the caller raises it where the command was given
        reply({"id": request["id"], "error": f"{type(error).__name__}: {error}"})


def serve(cgroup: Path) -> None:
    """Answer commands until stdin ends, then end all that runs in this container."""
    lock = threading.Lock()

    def reply(message: Reply) -> None:
        with lock, contextlib.suppress(BrokenPipeError):  # no reader: stdin ends as well
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

    reply({"id": 0, "result": os.getpid()})
    for line in sys.stdin:
        threading.Thread(target=_answer, args=(json.loads(line), reply), daemon=True).start()
    kill_cgroup(cgroup)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
