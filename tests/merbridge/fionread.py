"""What FIONREAD counts on a socket in a SOCKMAP, which is not the same on every kernel: tried, with no mesh about.

Seen: TCP's bytes alone (6.1.176), bytes past TCP alone (6.18.44), both (6.12.117, 7.2.13): the version does not tell.
"""

import fcntl
import select
import socket
import struct
import termios
from contextlib import ExitStack

import attrs
from cluster import SLOWNESS

from pybpfasm import isa
from pybpfasm.kernel import Map, Program, attach_sockmap
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType

RECEIVER, SENDER = bytes(4), bytes([1, 0, 0, 0])
INGRESS = 1  # BPF_F_INGRESS: to the socket's receive queue
SOCKETS = MapSpec("sockets", MapType.SOCKMAP, Untyped(4), Untyped(4), 2)
TO_RECEIVER = ProgramSpec(
    "to_receiver",
    ProgramType.SK_MSG,
    AttachType.SK_MSG_VERDICT,
    "sk_msg_md",
    (
        isa.load_map(2, "sockets"),
        isa.mov_imm(3, 0),
        isa.mov_imm(4, INGRESS),
        isa.call(Helper.MSG_REDIRECT_MAP),
        isa.exit_program(),
    ),
    {"sockets": SOCKETS},
)


@attrs.frozen
class Counted:
    """Which bytes in a socket's queues FIONREAD counts."""

    by_tcp: bool
    past_tcp: bool


def fionread(connection: socket.socket) -> int:
    """How many bytes it says can be read."""
    count: int = struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0]
    return count


def counted_in_sockmap() -> Counted:
    """Send bytes by TCP to a socket in a SOCKMAP, then past TCP, and ask each time."""
    with ExitStack() as held:
        sockets = held.enter_context(Map.create(SOCKETS))
        program = held.enter_context(Program.load(TO_RECEIVER, {"sockets": sockets}))
        if link := attach_sockmap(program, sockets):
            held.enter_context(link)
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        sender = held.enter_context(socket.create_connection(listener.getsockname()))
        receiver = held.enter_context(listener.accept()[0])
        sockets.update(RECEIVER, struct.pack("=I", receiver.fileno()))
        by_tcp = _asked(sender, receiver)
        sockets.update(SENDER, struct.pack("=I", sender.fileno()))
        return Counted(by_tcp, _asked(sender, receiver))


def _asked(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.sendall(b"12345")
    assert select.select([receiver], [], [], 2 * SLOWNESS)[0], "five bytes did not arrive"
    count = fionread(receiver)
    assert count in (0, 5), f"FIONREAD counts {count} of 5 bytes"
    assert receiver.recv(99) == b"12345"
    return count == 5
