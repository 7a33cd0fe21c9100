"""Commands to the process inside a container: requests go to its stdin, replies come from its stdout."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO, Any, ParamSpec, TypeVar

from merbridge.demo.pod import Reply, Request
from merbridge.errors import MerbridgeError

T = TypeVar("T")
P = ParamSpec("P")

START_SECONDS = 60.0
COMMAND_SECONDS = 150.0
END_SECONDS = 5.0


class CommandChannel:
    """Both pipes of one process of `merbridge.demo.pod`; the commands that wait for their replies."""

    def __init__(self, title: str, requests: IO[str], replies: IO[str]) -> None:
        """Begin to read replies; `title` names the container in errors."""
        self._title = title
        self._requests = requests
        self._replies = replies
        self._ids = itertools.count(1)
        self._ready: Future[int] = Future()
        self._pending: dict[int, Future[Any]] = {0: self._ready}  # the process's first line answers number 0
        self._has_ended = False
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read_replies, daemon=True)
        self._reader.start()

    def ready(self) -> None:
        """Wait until the process runs; raises MerbridgeError when it does not come up."""
        try:
            self._ready.result(START_SECONDS)
        except TimeoutError:
            raise MerbridgeError(f"{self._title} did not start within {START_SECONDS:.0f} s") from None

    def call(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a command and wait for its result; raises MerbridgeError when the command could not be run."""
        seconds = COMMAND_SECONDS
        for name in ("timeout_seconds", "total_timeout_seconds"):
            given = kwargs.get(name)
            seconds += given if isinstance(given, int | float) else 0
        try:
            return self.start(command, *args, **kwargs).result(seconds)
        except TimeoutError:
            raise MerbridgeError(f"{self._title}: {command.__name__} gave no answer in {seconds:.0f} s") from None

    def start(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a command and return at once; the future holds what `call` returns or raises."""
        future: Future[T] = Future()
        with self._lock:
            number = next(self._ids)
            line = _request_line(number, command, args, kwargs)
            if self._has_ended:
                raise self._ended()
            self._pending[number] = future
            with contextlib.suppress(BrokenPipeError):  # it has just ended: the reader says so to all who wait
                self._requests.write(line)
                self._requests.flush()
        return future

    def join(self) -> None:
        """Wait until the last reply of a process that has ended is read."""
        self._reader.join(END_SECONDS)

    def _read_replies(self) -> None:
        for line in self._replies:
            self._settle(json.loads(line))
        with self._lock:
            self._has_ended = True
            pending, self._pending = self._pending, {}
        for future in pending.values():
            future.set_exception(self._ended())

    def _settle(self, reply: Reply) -> None:
        with self._lock:
            future = self._pending.pop(reply["id"])
        if "error" in reply:
            future.set_exception(MerbridgeError(f"{self._title}: {reply['error']}"))
        else:
            future.set_result(reply["result"])

    def _ended(self) -> MerbridgeError:
        return MerbridgeError(f"{self._title} has ended: it takes no commands any more")


def _request_line(number: int, command: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    request: Request = {"id": number, "command": command.__name__, "positional": list(args), "named": kwargs}
    return json.dumps(request) + "\n"
