"""A container: a cgroup with processes in it, all in one network namespace."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from merbridge.demo import pod as pod_process
from merbridge.demo.commands import CommandChannel
from merbridge.demo.namespaces import in_namespace

T = TypeVar("T")
P = ParamSpec("P")

Stream = int | IO[Any] | None

REAP_SECONDS = 5.0

# A process joins its cgroup before its own program begins: the shell enters, then becomes the program.
_JOIN_CGROUP = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'


class Container:
    """A cgroup with a process of `merbridge.demo.pod` in it that takes commands, and whatever else is run there."""

    def __init__(self, title: str, cgroup: Path, namespace_fd: int) -> None:
        """Create the cgroup and start the process in it and in the network namespace; `ready` waits for it."""
        self.title = title
        self.cgroup = cgroup
        self._namespace_fd = namespace_fd
        self._processes: list[subprocess.Popen[str]] = []
        cgroup.mkdir(parents=True)
        program = [sys.executable, "-IS", pod_process.__file__, str(cgroup)]
        self._process = self.run(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._commands = CommandChannel(title, opened_pipe(self._process.stdin), opened_pipe(self._process.stdout))

    @property
    def pid(self) -> int:
        """The process that takes commands."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the process runs; raises MerbridgeError when it does not come up."""
        self._commands.ready()

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program in this container's namespace and cgroup, in a session of its own.

        It and its children end with the container, and its pipes are closed then. A pipe that nobody reads blocks it.
        """

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _JOIN_CGROUP, "sh", str(self.cgroup), *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                text=True,
                start_new_session=True,  # Ctrl-C in the terminal is for the node's owner, who ends the rest in order
            )
            self._processes.append(process)
            return process

        return in_namespace(self._namespace_fd, start)

    def call(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one of the commands of `merbridge.demo.pod` in this container, as in `call(connect, "10.0.0.1", 80)`.

        Raises MerbridgeError when the command could not be run; what goes wrong on the network is in its result.
        """
        return self._commands.call(command, *args, **kwargs)

    def start(self, command: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a command and return at once; the future holds what `call` returns or raises."""
        return self._commands.start(command, *args, **kwargs)

    def close(self) -> None:
        """Reap the processes, which must have been killed, and close their pipes."""
        for process in self._processes:
            process.wait(REAP_SECONDS)
        self._commands.join()
        for process in self._processes:
            _close_pipes(process)


def opened_pipe(stream: IO[str] | None) -> IO[str]:
    """A pipe of a process; raises ValueError when the process was started without it."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):  # unsent bytes; a reader still in it
                pipe.close()
