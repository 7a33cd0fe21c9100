"""A small node with the pods that the datapath's tests need, and the agent as a process of its own beside it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import programs.maps
from merbridge.demo.container import opened_pipe
from merbridge.demo.node import Node
from merbridge.demo.pod import listen
from merbridge.demo.workloads import Pod
from pybpfasm import Struct
from pybpfasm.kernel import Map, TypedMap
from pybpfasm.lang.maps import MapDeclaration

ROOT = Path(__file__).parents[2]
AMBIENT = {"istio.io/dataplane-mode": "ambient"}
NODE_NAME = "demo-node"
READY_SECONDS = 15.0
END_SECONDS = 10.0

# An emulated machine (tools/vm) is that much slower, or nearly.
SLOWNESS = 10 if "MERBRIDGE_VM" in os.environ else 1

K = TypeVar("K")
V = TypeVar("V", bound=Struct)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Wait until the condition is true; fails with `what` was waited for when it does not come in time."""
    seconds *= SLOWNESS
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


class Agent:
    """A running `python -m merbridge run` and the events that it logs."""

    def __init__(self, arguments: list[str]) -> None:
        """Start it; `ready` waits for it."""
        self.events: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        self._changed = threading.Condition()
        self._has_ended = False
        self.process = subprocess.Popen(
            [*merbridge_command("run"), *arguments, "--log-format", "json"],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The agent's process."""
        return self.process.pid

    def ready(self) -> Self:
        """Wait for the event `ready`; fails with the agent's log when it does not come."""
        self.wait_for("ready", seconds=READY_SECONDS)
        return self

    def mark(self) -> int:
        """A position in the log: `wait_for(since=…)` looks only at what comes after it."""
        with self._changed:
            return len(self.events)

    def wait_for(self, event: str, *, since: int = 0, seconds: float = 2.0, **fields: object) -> dict[str, Any]:
        """The first event of this name with these fields; fails with the log when it is not there in time."""
        seconds *= SLOWNESS

        def found() -> dict[str, Any] | None:
            later = (each for each in self.events[since:] if each.get("event") == event)
            return next((each for each in later if fields.items() <= each.items()), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._has_ended, seconds)
            match = found()
            log = "\n".join([*map(str, self.events), *self.other_lines])
        assert match is not None, f"the agent did not log {event} {fields} within {seconds} s; its log:\n{log}"
        return match

    def stop(self) -> int:
        """End it with SIGTERM; its exit status."""
        self.process.terminate()
        return self._reap()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self._reap()

    def _reap(self) -> int:
        status = self.process.wait(END_SECONDS * SLOWNESS)
        self._reader.join(END_SECONDS * SLOWNESS)
        opened_pipe(self.process.stderr).close()
        return status

    def _read(self) -> None:
        for line in opened_pipe(self.process.stderr):
            with self._changed:
                try:
                    self.events.append(json.loads(line))
                except json.JSONDecodeError:
                    self.other_lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


def merbridge_command(name: str) -> list[str]:
    """The argument list that runs one of merbridge's commands."""
    return [sys.executable, "-m", "merbridge", name]


class Cluster:
    """A node with two enrolled app pods (one a cgroup driver), a pod outside the mesh, a server pod and ztunnel's pod.

    A context manager: agents are ended, `cleanup` is run and the node is taken down, whatever happens in its body; then
    it is an error if anything is left.
    """

    def __init__(self, purpose: str, *, dual_stack: bool = False) -> None:
        """Prepare; `purpose` becomes part of the name of the node's cgroup."""
        self.node = Node(purpose, name=NODE_NAME, dual_stack=dual_stack)
        self._undo = contextlib.ExitStack()
        self._agents: list[Agent] = []

    def __enter__(self) -> Self:
        """Start the node and its pods, and write the pod list."""
        try:
            self._start()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down and see that nothing is left."""
        self._undo.close()
        self._assert_nothing_is_left()

    def _start(self) -> None:
        self.directory = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="merbridge-test-")))
        self.source = self.directory / "pods.yaml"
        self.bpffs = self.directory / "bpf"
        self._undo.enter_context(self.node)
        self._undo.callback(self._end_datapath)
        self.node.namespaces |= {"shop": dict(AMBIENT), "istio-system": {}, "elsewhere": {}}
        self.app = self.node.add_pod("app", namespace="shop", cgroup_driver="systemd")
        self.second_app = self.node.add_pod("second-app", namespace="shop", cgroup_driver="cgroupfs")
        self.outside = self.node.add_pod("outside", namespace="elsewhere")
        self.server = self.node.add_pod("server", namespace="elsewhere")
        self.server_port = self.server.call(listen)
        self.ztunnel = self.add_ztunnel("ztunnel")
        self.publish()

    def add_ztunnel(self, name: str, *, namespace: str = "istio-system") -> Pod:
        """Start a pod labelled as ztunnel; nothing listens in it yet, and `publish` makes it known."""
        return self.node.add_pod(name, namespace=namespace, labels={"app": "ztunnel"})

    def publish(self) -> None:
        """Write the pod list as it is now; the agent takes a moment to see it."""
        self.node.write_pod_list(self.source)

    @property
    def agent(self) -> Agent:
        """The agent that was started last."""
        return self._agents[-1]

    @contextlib.contextmanager
    def datapath_with(self, *flags: str) -> Iterator[Agent]:
        """A new datapath with an agent that has these flags; afterwards there is one with the usual settings again."""
        self.end_datapath()
        try:
            yield self.start_agent(*flags).ready()
        finally:
            self.end_datapath()
            self.start_agent().ready()

    def start_agent(self, *flags: str) -> Agent:
        """Start an agent on this node, without waiting for `ready`; it is ended with the cluster at the latest."""
        agent = Agent(self.settings(*flags))
        self._agents.append(agent)
        return agent

    def settings(self, *flags: str) -> list[str]:
        """The flags that an agent needs on this node, and `flags`, which come before them where both name a setting."""
        places = {
            "--source": f"file:{self.source}",
            "--cgroup-root": str(self.node.cgroup_root),
            "--bpffs": str(self.bpffs),
            "--node-name": NODE_NAME,
            "--host-pid": str(self.node.host().containers["app"].pid),
        }
        arguments = [text for name, value in places.items() if name not in flags for text in (name, value)]
        return [*arguments, *flags]

    def merbridge(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another of merbridge's commands on this node's pins to its end."""
        line = [*merbridge_command(command), "--bpffs", str(self.bpffs), *arguments]
        if command == "cleanup":
            line += ["--host-pid", str(self.node.host().containers["app"].pid)]
        return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=30 * SLOWNESS, check=False)

    def status(self) -> tuple[int, dict[str, Any]]:
        """The exit status of `status -o json`, and the report."""
        done = self.merbridge("status", "-o", "json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def counters(self) -> Mapping[str, int]:
        """The counters that `status` shows, by name, read from the pinned map."""
        with self.pinned(programs.maps.counters, "counters") as counters:
            return {each.name.lower(): sum(cpu.count for cpu in counters.per_cpu(each)) for each in programs.maps.Count}

    @contextlib.contextmanager
    def pinned(self, declaration: MapDeclaration[K, V], name: str) -> Iterator[TypedMap[K, V]]:
        """One of the datapath's maps."""
        with Map.open_any_size(self.bpffs / "maps" / name, declaration.spec(name)) as opened:
            yield TypedMap(declaration, opened)

    def end_datapath(self) -> None:
        """End the agents and take hooks and pins away; fails when `cleanup` does."""
        for agent in self._agents:
            if agent.process.poll() is None:
                agent.stop()
        self._agents.clear()
        done = self.merbridge("cleanup")
        assert done.returncode == 0, done.stderr

    def _end_datapath(self) -> None:
        for agent in self._agents:
            if agent.process.returncode is None:
                agent.kill()
        self.end_datapath()

    def _assert_nothing_is_left(self) -> None:
        assert not self.node.cgroup_root.exists(), f"left behind: cgroup {self.node.cgroup_root}"
        assert str(self.directory) not in Path("/proc/self/mounts").read_text(), f"left mounted below {self.directory}"
        assert not self.directory.exists(), f"left behind: {list(self.directory.iterdir())}"
        running = [pid for pid in _session_pids() if str(self.directory) in _command_line(pid)]
        assert not running, f"left running: {running}"


def _session_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
