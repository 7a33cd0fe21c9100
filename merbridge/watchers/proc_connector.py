"""Processes' changes by the proc connector, where nobody may trace: Documentation/driver-api/connector.rst.

    nlmsghdr  length u32, type u16, flags u16, sequence u32, port u32
    cn_msg    index u32, value u32, sequence u32, acknowledged u32, length u16, flags u16
    to it     operation u32
    from it   what u32, CPU u32, nanoseconds u64, then of `exec`: thread u32, process u32

A filter at the socket drops all but what is wanted: `programs.processes.connector`.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Set
from contextlib import ExitStack, suppress

from merbridge.errors import MerbridgeError
from merbridge.watchers.process_events import MOST_CHANGES, ProcessChanges
from merbridge.watchers.process_tracing import watched
from merbridge.watchers.waiting import readable
from programs.processes import PROC_EVENT_EXIT, PROC_EVENT_NONE, connector, witnesses
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, TypedMap

# include/uapi/linux/netlink.h, connector.h, cn_proc.h
_NETLINK_CONNECTOR = 11
_NLMSG_DONE = 3
_CN_PROC = (1, 1)
_LISTEN, _IGNORE = 1, 2
_GROUP = 1

_HEADERS = struct.Struct("=IHHII IIIIHH")
_OPERATION = struct.Struct("=I")
_EVENT = struct.Struct("=IIQ II")
_ACKNOWLEDGED = struct.Struct("=IIQ I")

_SO_ATTACH_BPF = 50  # include/uapi/asm-generic/socket.h
_KERNEL = 0  # the port of what the kernel sends
_BUFFER_BYTES = 1 << 18
_MESSAGE_BYTES = 256
_ANSWER_SECONDS = 1.0


class ProcConnector:
    """The proc connector. Raises `MerbridgeError`, `BpfError` and `OSError` where it cannot be had."""

    way = "proc connector"
    needs_second_look = True

    def __init__(self, why: str) -> None:
        """Listen; `why` says why it is no better way."""
        self.why = why
        self.lost = 0
        self._watched: frozenset[int] = frozenset()
        self._held = ExitStack()
        with ExitStack() as undo:
            undo.callback(self._held.close)
            self._start()
            undo.pop_all()

    def _start(self) -> None:
        loaded = self._held.enter_context(Collection.load(compile_collection([connector])))
        self._witnesses = TypedMap(witnesses, loaded.maps["witnesses"])
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _NETLINK_CONNECTOR)
        self._socket = self._held.enter_context(made)
        filter_ = loaded.programs["connector"].fd
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, filter_)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind((0, _GROUP))
        self._ask(_LISTEN)
        # Before Linux 6.6 the end of a socket is not the end of its listening.
        self._held.callback(self._ignore)
        self._await_answer()

    def _ask(self, operation: int) -> None:
        size = _HEADERS.size + _OPERATION.size
        headers = _HEADERS.pack(size, _NLMSG_DONE, 0, 0, 0, *_CN_PROC, 0, 0, _OPERATION.size, 0)
        self._socket.send(headers + _OPERATION.pack(operation))

    def _ignore(self) -> None:
        with suppress(OSError):
            self._ask(_IGNORE)

    def _await_answer(self) -> None:
        """Others' requests are acknowledged to all that listen; each of them says that the connector is there."""
        while readable([self._socket.fileno()], _ANSWER_SECONDS):
            for message in self._messages(_HEADERS.size + _ACKNOWLEDGED.size):
                what, _, _, error = _ACKNOWLEDGED.unpack_from(message, _HEADERS.size)
                if what == PROC_EVENT_NONE and not error:
                    return
                if what == PROC_EVENT_NONE:
                    raise MerbridgeError(os.strerror(error))
        raise MerbridgeError("it does not answer: it needs the first network, PID and user namespaces")

    def _messages(self, least_bytes: int) -> Iterator[bytes]:
        """Those of the kernel that are there, up to a number. Who has CAP_NET_ADMIN could send some, too."""
        for _ in range(MOST_CHANGES + 1):
            try:
                message, (port, _) = self._socket.recvfrom(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            if port == _KERNEL and len(message) >= least_bytes:
                yield message

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        return self._socket.fileno()

    def read(self) -> ProcessChanges | None:
        """Take away what has come, without blocking."""
        changes: dict[int, bool] = {}
        try:
            for message in self._messages(_HEADERS.size + _EVENT.size):
                what, _, _, _, process = _EVENT.unpack_from(message, _HEADERS.size)
                if what != PROC_EVENT_NONE:
                    changes[process] = what == PROC_EVENT_EXIT
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # How many did not fit the kernel does not tell.
            self.lost += 1
            return ProcessChanges(is_whole=False)
        if len(changes) > MOST_CHANGES:
            return ProcessChanges(is_whole=False)
        went = frozenset(pid for pid, has_ended in changes.items() if has_ended)
        return ProcessChanges(frozenset(changes.keys() - went), went, are_firsts=False)

    def watch(self, pids: Set[int]) -> None:
        """Tell when one of these ends, instead of those of the last time."""
        self._watched = watched(self._witnesses, self._watched, pids)

    def forget(self, pids: Set[int]) -> None:
        """Nothing to do: each process is told of."""

    def forget_all(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Listen no more."""
        self._held.close()
