"""A start that fails or is killed at each of its calls that change something: never half applied, always made good."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import NODE_NAME, ROOT, Cluster

from merbridge.datapath.hooks import ATTACH_ORDER
from merbridge.demo.pod import connect
from programs import PROGRAMS

# Runs `merbridge` commands, each in a fork of one process in which everything is imported. Each job is one JSON line:
# the arguments, and the number of the bpf() call at which to fail (an errno) or to be killed (null). With `others` not
# bpf() is counted but mkdir, rmdir, unlink, rename, mount, umount, setns, and what is sent by netlink. With `events` it
# is told of processes by the kernel. `run` ends where its loop would begin. The answer is one JSON line.
_DRIVER = """
import json, os, signal, sys
import pyroute2
from merbridge import app, cli
from merbridge.watchers.process_events import NoEvents
from pybpfasm.kernel import sys as kernel

real, libc = kernel._plain_syscall, kernel.libc
audited = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "socket.sendto", "socket.sendmsg"}
calls = 0

class CountedLibc:
    def __init__(self, is_due):
        self._is_due = is_due
    def __getattr__(self, name):
        function = getattr(libc, name)
        if name not in ("mount", "umount2", "setns"):
            return function
        return lambda *arguments: self._is_due() or function(*arguments)

def run(job):
    def is_due():
        global calls
        calls += 1
        if calls == job["call"] and job["errno"] is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return calls == job["call"]
    def syscall(*arguments):
        if is_due():
            kernel.ffi.errno = job["errno"]
            return -1
        return real(*arguments)
    if job["others"]:
        kernel.libc = CountedLibc(is_due)
        sys.addaudithook(lambda event, _: is_due() if event in audited else None)
    else:
        kernel._plain_syscall = syscall
    app._loop = lambda *anything: None
    if not job["events"]:
        app.open_process_events = lambda *anything: NoEvents("")
    try:
        status = cli.main(job["arguments"])
    except SystemExit as exit_:
        status = exit_.code
    print("calls", calls)
    sys.stdout.flush()
    os._exit(status)

for line in sys.stdin:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        try:
            run(json.loads(line))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading) as output:
        text = output.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"status": status, "text": text}), flush=True)
"""

EINVAL = 22
SIGKILLED = -9


class Commands:
    """The driver: runs commands quickly, with a fault at a chosen call."""

    def __init__(self, cluster: Cluster) -> None:
        """Start it."""
        self._bpffs = ["--bpffs", str(cluster.bpffs)]
        self._run = ["run", "--source", f"file:{cluster.source}", "--cgroup-root", str(cluster.node.cgroup_root)]
        self._run += ["--node-name", NODE_NAME, "--log-level", "error", *self._bpffs]
        self._host_pid = ["--host-pid", str(cluster.node.host().containers["app"].pid)]
        self._run += self._host_pid
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def start(
        self, *flags: str, call: int = 0, errno: int | None = None, others: bool = False, events: bool = False
    ) -> tuple[int, list[str]]:
        """Run an agent up to its loop, with a fault at one of its calls; its exit status and its lines."""
        return self._do([*self._run, *flags], call, errno, others=others, events=events)

    def calls_of_start(self, *, events: bool = False) -> int:
        """How many bpf() calls a start makes that is not disturbed."""
        status, lines = self.start(events=events)
        assert status == 0, lines
        return int(lines[-1].removeprefix("calls "))

    def status(self) -> dict[str, Any]:
        """The report of `status`."""
        _, lines = self._do(["status", "-o", "json", *self._bpffs], 0, None)
        report: dict[str, Any] = json.loads("\n".join(lines[:-1]))
        return report

    def cleanup(self) -> None:
        """Take the datapath away."""
        status, lines = self.try_cleanup(0)
        assert status == 0, lines

    def try_cleanup(self, call: int) -> tuple[int, list[str]]:
        """The same, killed at one of its calls; its exit status and its lines."""
        return self._do(["cleanup", *self._bpffs, *self._host_pid], call, None, others=True)

    def close(self) -> None:
        """End the driver."""
        self.process.communicate(timeout=10)

    def _do(
        self, arguments: list[str], call: int, errno: int | None, *, others: bool = False, events: bool = False
    ) -> tuple[int, list[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"arguments": arguments, "call": call, "errno": errno, "others": others, "events": events}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["text"].splitlines()


@pytest.fixture
def commands(cluster: Cluster) -> Iterator[Commands]:
    """The driver, on a node without a datapath."""
    driver = Commands(cluster)
    yield driver
    driver.close()
    if cluster.bpffs.exists():
        cluster.end_datapath()


def is_gone(cluster: Cluster) -> bool:
    """Whether neither pins, folders nor the agent's mount are there."""
    return not cluster.bpffs.exists() and str(cluster.bpffs) not in Path("/proc/self/mounts").read_text()


def test_first_start_that_fails_leaves_nothing(cluster: Cluster, commands: Commands) -> None:
    """Whichever bpf() call of a first start fails, the agent ends with one line and nothing of it stays."""
    calls = commands.calls_of_start()
    commands.cleanup()
    survived = {}
    for call in range(1, calls + 1, 2):
        status, lines = commands.start(call=call, errno=EINVAL)
        if status == 0:
            survived[call] = lines
            commands.cleanup()
            continue
        assert (status, len(lines)) == (1, 2), (call, lines)
        assert lines[0].startswith("merbridge run: "), lines
        assert "cannot " in lines[0], lines
        assert is_gone(cluster), (call, lines, os.listdir(cluster.bpffs))
    # A refused program is loaded once more, with a log, and this fault is gone then. Attaching to the SOCKMAP by link
    # has another way to fall back on, for kernels before 6.10, and so has attaching to devices, before 6.6. What is at
    # devices, and what is kept for `status`, comes last: that it failed is told, and it is tried again.
    told = [call for call, lines in survived.items() if any("_failed" in line for line in lines)]
    silent = [call for call in survived if call not in told]
    assert len(silent) <= len(PROGRAMS) + 2, {call: survived[call] for call in silent}


def test_first_start_killed_at_any_call_is_made_good(cluster: Cluster, commands: Commands) -> None:
    """Killed before any bpf() call of a first start, the agent leaves what the next one mends, or cleanup takes."""
    calls = commands.calls_of_start()
    commands.cleanup()
    for call in range(1, calls + 1, 3):
        assert commands.start(call=call)[0] == SIGKILLED
        if call % 2:
            status, lines = commands.start()
            assert status == 0, (call, lines)
            report = commands.status()
            assert [hook["attached"] for hook in report["hooks"]] == [True] * len(ATTACH_ORDER), call
            assert len(report["problems"]) == 1, report["problems"]  # that no agent runs
        commands.cleanup()
        assert is_gone(cluster), call


def test_adoption_that_fails_changes_no_program(cluster: Cluster, commands: Commands) -> None:
    """Whichever question to the kernel fails while an agent with another port adopts, all the old programs stay.

    Replacing is the last step. Should the kernel refuse that itself, the line says so, and the next start mends it.
    """
    assert commands.start()[0] == 0
    hooks = commands.status()["hooks"]
    call = 0
    while True:
        call += 3  # there are four replacements, one after the other
        status, lines = commands.start("--out-port", "15002", call=call, errno=EINVAL)
        if status == 0:  # a refused program was loaded once more, without this fault
            assert commands.start()[0] == 0
            hooks = commands.status()["hooks"]
            continue
        if "cannot replace the attached program" in lines[0]:
            break
        assert (status, len(lines)) == (1, 2), (call, lines)
        assert commands.status()["hooks"] == hooks, (call, lines)
    assert call > 50
    assert commands.start()[0] == 0
    assert all(hook["attached"] for hook in commands.status()["hooks"])


def test_adoption_killed_at_any_call_is_made_good(cluster: Cluster, commands: Commands) -> None:
    """Killed before any bpf() call of an adoption, the agent leaves hooks attached, and the next one adopts again."""
    assert commands.start()[0] == 0
    links = {hook["name"]: hook["link_id"] for hook in commands.status()["hooks"]}
    for call in range(1, 600, 3):
        status, _ = commands.start("--out-port", "15002" if call % 2 else "15003", call=call)
        if status == 0:
            break
        assert status == SIGKILLED
        assert {hook["name"]: hook["link_id"] for hook in commands.status()["hooks"]} == links, call
    assert status == 0
    status, lines = commands.start()
    assert status == 0, lines
    report = commands.status()
    assert {hook["name"]: hook["link_id"] for hook in report["hooks"]} == links
    assert report["out_port"] == 15001


def test_process_events_that_fail_stop_no_start(commands: Commands) -> None:
    """Whichever of their bpf() calls fails, the agent starts, and is told of processes in another way."""
    without = commands.calls_of_start()
    commands.cleanup()
    every = commands.calls_of_start(events=True)
    assert every > without + 10
    for call in range(without - 6, every + 1, 2):
        commands.cleanup()
        status, lines = commands.start(call=call, errno=EINVAL, events=True)
        assert status == 0, (call, lines)


# --- calls other than bpf() ------------------------------------------------------------------------------------------


def is_intercepted(cluster: Cluster) -> bool:
    """Whether a pod's connection goes to ztunnel, where nobody listens, or is refused; its server is not reached."""
    return cluster.app.call(connect, cluster.server.ip, cluster.server_port)["error"] == "ECONNREFUSED"


def assert_made_good(cluster: Cluster, commands: Commands, call: int) -> None:
    """The next start makes it whole, `cleanup` leaves nothing."""
    status, lines = commands.start()
    assert status == 0, (call, lines)
    assert len(commands.status()["problems"]) == 1, (call, commands.status()["problems"])  # that no agent runs
    assert is_intercepted(cluster), call
    commands.cleanup()
    assert is_gone(cluster), call


def kills(command: Callable[[int], int]) -> Iterator[int]:
    """Run it, killed at every second of its calls, until it makes fewer; how many it makes varies."""
    for call in itertools.count(1, 2):
        status = command(call)
        if status == 0:
            assert call > 30
            return
        assert status == SIGKILLED, call
        yield call


def test_first_start_killed_at_any_other_call_is_made_good(cluster: Cluster, commands: Commands) -> None:
    """Where folders are made, the file system is mounted, namespaces are entered, devices and routes are asked for."""
    for call in kills(lambda call: commands.start(call=call, others=True)[0]):
        assert_made_good(cluster, commands, call)


def test_upgrade_killed_at_any_other_call_is_made_good(cluster: Cluster, commands: Commands) -> None:
    """To maps of another size, which take the old ones' names: the pod is intercepted all the time."""

    def upgrade(call: int) -> int:
        assert commands.start()[0] == 0
        return commands.start("--max-pods", "77", call=call, others=True)[0]

    for call in kills(upgrade):
        assert is_intercepted(cluster), call
        assert_made_good(cluster, commands, call)


def test_cleanup_killed_at_any_call_is_made_good(cluster: Cluster, commands: Commands) -> None:
    """The next one takes the rest away, or the next start makes it whole."""

    def cleanup(call: int) -> int:
        assert commands.start()[0] == 0
        return commands.try_cleanup(call)[0]

    for call in kills(cleanup):
        if call % 4 == 1:
            assert_made_good(cluster, commands, call)
        else:
            commands.cleanup()
            assert is_gone(cluster), call
