"""A small transparent proxy, the demo's ztunnel: `python -m merbridge.demo.proxy --port 15001`.

For each accepted connection it asks the kernel where the client wanted to go (SO_ORIGINAL_DST; where that is not known,
it is the address that the client's packets bear), connects there and relays both directions with half-close. It writes
JSON lines to stdout: {"listening": port} when it is ready, then a line a connection. It imports the standard library
only, so that it can be run by its path.
"""

import argparse
import contextlib
import errno
import json
import os
import resource
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Final, TypedDict

SO_ORIGINAL_DST: Final = 80
IP_TRANSPARENT: Final = 19
SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")
BUFFER_BYTES: Final = 65536
CONNECT_TIMEOUT_SECONDS: Final = 10.0
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
POLL_BROKEN: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL

Destination = tuple[str, int]
Lookup = Callable[[socket.socket], Destination]


class Record(TypedDict):
    """One connection as the proxy saw it; `error` says why it was not relayed."""

    peer_address: str
    peer_port: int
    local_address: str
    local_port: int
    original_address: str | None
    original_port: int | None
    error: str | None


def command(port: int, *, fixed_destination: Destination | None = None) -> list[str]:
    """The argument list that runs this proxy, whatever the working directory is."""
    arguments = [sys.executable, "-IS", __file__, "--port", str(port)]
    if fixed_destination is not None:
        arguments += ["--fixed-destination", f"{fixed_destination[0]}:{fixed_destination[1]}"]
    return arguments


def original_destination(connection: socket.socket) -> Destination:
    """Where the client wanted to go: what was kept of it, else the connection's own address, as ztunnel has it."""
    try:
        answer = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, SOCKADDR_IN.size)
    except OSError:
        local: Destination = connection.getsockname()
        return local
    if len(answer) != SOCKADDR_IN.size:
        raise OSError(errno.EINVAL, f"SO_ORIGINAL_DST gave {len(answer)} bytes")
    port, address = SOCKADDR_IN.unpack(answer)
    return socket.inet_ntoa(address), port


def is_own_listener(destination: Destination, local: Destination, listening: int) -> bool:
    """Whether connecting to the destination would reach this proxy again.

    `local` is where the client arrived, `listening` the proxy's port.
    """
    address, port = destination
    return port == listening and (address == local[0] or address.startswith(("127.", "0.")))


class Direction:
    """Bytes on their way from one socket to the other, never more than BUFFER_BYTES."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        """Relay from source to target, both non-blocking."""
        self.source, self.target = source, target
        self.ended = False  # the source has sent EOF
        self.done = False  # and the target has been told
        self._buffer = bytearray()

    @property
    def wants_read(self) -> bool:
        """Whether there is room for what the source may send."""
        return not self.ended and len(self._buffer) < BUFFER_BYTES

    @property
    def wants_write(self) -> bool:
        """Whether there is something for the target."""
        return bool(self._buffer)

    def read(self) -> None:
        """Take what the source has; raises OSError when it was reset."""
        with contextlib.suppress(BlockingIOError):
            piece = self.source.recv(BUFFER_BYTES - len(self._buffer))
            self._buffer += piece
            self.ended = not piece

    def write(self) -> None:
        """Give the target what it takes, and EOF after the last byte; raises OSError when it was reset."""
        if self._buffer:
            with contextlib.suppress(BlockingIOError):
                del self._buffer[: self.target.send(self._buffer)]
        if self.ended and not self._buffer and not self.done:
            self.target.shutdown(socket.SHUT_WR)
            self.done = True


def relay(client: socket.socket, upstream: socket.socket) -> None:
    """Carry bytes both ways until both sides have ended; raises OSError as soon as one side is reset."""
    client.setblocking(False)
    upstream.setblocking(False)
    up, down = Direction(client, upstream), Direction(upstream, client)
    poll = select.poll()
    while not (up.done and down.done):
        _watch(poll, client, reading=up, writing=down)
        _watch(poll, upstream, reading=down, writing=up)
        for descriptor, events in poll.poll():
            reading = up if descriptor == client.fileno() else down
            writing = down if reading is up else up
            _step(events, reading, writing)


def _watch(poll: "select.poll", side: socket.socket, reading: Direction, writing: Direction) -> None:
    events = (select.POLLIN if reading.wants_read else 0) | (select.POLLOUT if writing.wants_write else 0)
    # Also without an event to wait for, poll() reports a reset. But once EOF was sent to this side, its EOF to us is
    # reported in the same way: without room to read it, that would be a busy loop.
    if events or not writing.done:
        poll.register(side, events)
    else:
        with contextlib.suppress(KeyError):
            poll.unregister(side)


def _step(events: int, reading: Direction, writing: Direction) -> None:
    if events & select.POLLIN or (events & POLL_BROKEN and reading.wants_read):
        reading.read()
        reading.write()
    elif events & POLL_BROKEN and not writing.done:
        raise ConnectionResetError(errno.ECONNRESET, "reset while its bytes wait for the other side")
    if events & select.POLLOUT:
        writing.write()


def reset(connection: socket.socket) -> None:
    """Close so that the other end sees a reset, not an orderly EOF after too few bytes."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


class Proxy:
    """Accepts connections, finds where each wanted to go, and relays it there."""

    def __init__(self, listener: socket.socket, lookup: Lookup, log: Callable[[object], None]) -> None:
        """Serve a listening socket; `lookup` raises OSError when a connection has no original destination."""
        self._listener, self._lookup, self._log = listener, lookup, log
        self._port: int = listener.getsockname()[1]

    def serve(self) -> None:
        """Accept until the listener is closed or the process ends."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except ConnectionAbortedError:  # reset before it was accepted
                continue
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        try:
            peer, local = client.getpeername(), client.getsockname()
        except OSError:  # reset before it was looked at: there is nothing to say about it
            client.close()
            return
        record: Record = {
            "peer_address": peer[0],
            "peer_port": peer[1],
            "local_address": local[0],
            "local_port": local[1],
            "original_address": None,
            "original_port": None,
            "error": None,
        }
        upstream = self._connect_upstream(client, local, record)
        self._log(record)
        if upstream is None:
            reset(client)
            return
        _relay_to_the_end(client, upstream)

    def _connect_upstream(self, client: socket.socket, local: Destination, record: Record) -> socket.socket | None:
        try:
            destination = self._lookup(client)
            record["original_address"], record["original_port"] = destination
            if is_own_listener(destination, local, self._port):
                record["error"] = "own listener"
                return None
            return socket.create_connection(destination, timeout=CONNECT_TIMEOUT_SECONDS)
        except OSError as error:
            record["error"] = errno.errorcode.get(error.errno or 0, str(error))
            return None


def _relay_to_the_end(client: socket.socket, upstream: socket.socket) -> None:
    try:
        relay(client, upstream)
    except OSError:
        reset(client)
        reset(upstream)
    else:
        client.close()
        upstream.close()


def _log_to_stdout() -> Callable[[object], None]:
    lock = threading.Lock()

    def log(line: object) -> None:
        try:
            with lock:
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
        except BrokenPipeError:  # whoever started this proxy has gone
            os._exit(0)

    return log


def _raise_descriptor_limit() -> None:
    """Two descriptors a connection: take as many as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _destination(text: str) -> Destination:
    address, _, port = text.rpartition(":")
    return address, int(port)


def main(arguments: list[str] | None = None) -> None:
    """Run the proxy until it is killed."""
    parser = argparse.ArgumentParser(prog="merbridge.demo.proxy", description=__doc__)
    parser.add_argument("--port", type=int, default=15001, help="TCP port to listen on; 0 takes a free one")
    parser.add_argument(
        "--fixed-destination", type=_destination, metavar="IP:PORT", help="relay there instead of asking: for tests"
    )
    options = parser.parse_args(arguments)
    fixed: Destination | None = options.fixed_destination
    _raise_descriptor_limit()
    log = _log_to_stdout()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(PermissionError):  # then it accepts for its own addresses only
            listener.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        try:
            listener.bind(("0.0.0.0", options.port))  # noqa: S104 - clients come whatever address they dialled
        except OSError as error:
            parser.exit(1, f"{parser.prog}: cannot listen on port {options.port}: {error.strerror}\n")
        listener.listen(4096)
        log({"listening": listener.getsockname()[1]})
        Proxy(listener, original_destination if fixed is None else lambda _: fixed, log).serve()


if __name__ == "__main__":
    main()
