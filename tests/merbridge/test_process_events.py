"""Processes that come, move and go, as the kernel tells of them in each way: what is told, what comes of losses."""

import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from pod_processes import PROC, inode, make_pod, new_uid

from merbridge.app import _ready
from merbridge.datapath.datapath import NEEDED
from merbridge.watchers import NodeObserver, ProcessEvents, open_process_events, read_netns
from merbridge.watchers.proc_connector import ProcConnector
from merbridge.watchers.process_events import MOST_CHANGES, NoEvents, ProcessChanges
from merbridge.watchers.process_tracing import ProcessTracing
from merbridge.watchers.processes import FORGET_SECONDS, ProcessTable
from pybpfasm.kernel import features

pytestmark = pytest.mark.needs(*NEEDED)

ROOT = Path(__file__).parents[2]
SECONDS = 5.0

# As a runtime does it: into the cgroup, then into the namespace, then another program.
ENTER = 'echo $$ > "$1/cgroup.procs"; echo there; read go; exec unshare --net sh -c "$2"'
SLEEP = "exec sleep 1000"

# What makes a way; the host's cookie is this process's own.
WAYS: dict[str, Callable[[], ProcessEvents]] = {
    "tracepoints": lambda: ProcessTracing(read_netns(os.getpid(), PROC).cookie),
    "proc connector": lambda: ProcConnector(""),
}


@pytest.fixture(params=WAYS)
def events(request: pytest.FixtureRequest) -> Iterator[ProcessEvents]:
    """Each way, attached."""
    opened = WAYS[request.param]()
    yield opened
    opened.close()


@pytest.fixture
def tracing() -> Iterator[ProcessTracing]:
    """The tracepoints."""
    opened = ProcessTracing(read_netns(os.getpid(), PROC).cookie)
    yield opened
    opened.close()


class Container:
    """A process that joins a cgroup, and when it is told to, a namespace of its own, where it runs a script."""

    def __init__(self, cgroup: Path, script: str = SLEEP) -> None:
        command = ["sh", "-c", ENTER, "sh", str(cgroup), script]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        assert self.line() == "there"

    def enter(self) -> "Container":
        """Go on, and be in the namespace."""
        before = self.netns
        self.say("go")
        wait_until(lambda: self.netns != before, "it is in a namespace of its own")
        return self

    @property
    def netns(self) -> int:
        """The namespace's inode's number."""
        return inode(PROC / str(self.pid) / "ns" / "net")

    def say(self, text: str) -> None:
        """A line to its standard input."""
        assert self.process.stdin is not None
        print(text, file=self.process.stdin, flush=True)

    def line(self) -> str:
        """A line that it writes."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """End it and wait."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


Run = Callable[..., Container]


@pytest.fixture
def run(tree: Path) -> Iterator[Run]:
    """Starts containers below the tree, and ends them."""
    started: list[Container] = []

    def begin(cgroup: Path, script: str = SLEEP) -> Container:
        started.append(Container(cgroup, script))
        return started[-1]

    yield begin
    for each in started:
        each.end()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def told_in_all(events: ProcessEvents, seconds: float = 0.3) -> ProcessChanges:
    """What comes within a while."""
    told: set[int] = set()
    went: set[int] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        changes = events.read()
        assert changes is not None
        told |= changes.told
        went |= changes.went
        time.sleep(0.02)
    return ProcessChanges(frozenset(told), frozenset(went))


@contextmanager
def no_scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is seen within is seen by what was told alone."""
    with monkeypatch.context() as patch:
        patch.setattr(ProcessTable, "is_scan_due", False)
        yield


def following(tree: Path, events: ProcessEvents) -> NodeObserver:
    """An observer that has looked at all once."""
    observer = NodeObserver(PROC, tree)
    observer.follow(events, observer.observe().host)
    observer.observe()
    return observer


def netns_of(observer: NodeObserver, uid: str) -> dict[int, int]:
    """A pod's namespaces as they are seen now, with their witnesses."""
    pod = observer.observe().pods.get(uid)
    return {} if pod is None else {each.inode: each.pid for each in pod.netns}


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_new_pod_is_seen(tree: Path, run: Run, events: ProcessEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that enters a cgroup, then a namespace, then runs a program is seen where it is, by its event alone."""
    uid = new_uid()
    pod = make_pod(tree, uid, "a")
    first = run(make_pod(tree, new_uid(), "a") / "a").enter()  # so that there is a pod of the v2 hierarchy
    observer = following(tree, events)
    with no_scans(monkeypatch):
        container = run(pod / "a")
        assert netns_of(observer, uid) == {}
        container.enter()
        wait_until(lambda: netns_of(observer, uid) == {container.netns: container.pid}, "it is seen")
    assert container.netns != first.netns


def test_a_runtimes_first_moment_is_not_told(tree: Path, run: Run, tracing: ProcessTracing) -> None:
    """In the pod's cgroup, but on the host's network still, a process says nothing; then it does."""
    container = run(make_pod(tree, new_uid(), "a") / "a")
    assert container.pid not in told_in_all(tracing).told
    container.enter()
    assert container.pid in told_in_all(tracing).told


FORKS = """
for i in $(seq 200); do /bin/true & echo $!; done; wait; echo done
while read line; do /bin/true & echo $!; done
"""


def test_processes_where_others_are_known_are_not_told(tree: Path, run: Run, tracing: ProcessTracing) -> None:
    """However many a container makes: only its first is told."""
    container = run(make_pod(tree, new_uid(), "a") / "a", FORKS).enter()
    made = {int(line) for line in iter(container.line, "done")}
    changes = told_in_all(tracing)
    assert len(made) == 200
    assert container.pid in changes.told
    assert not made & changes.told


def test_a_storm_outside_pods_is_not_told(tracing: ProcessTracing) -> None:
    """Not one of the processes on the host's network is."""
    made = set()
    for _ in range(500):
        made.add(os.posix_spawn("/bin/true", ["true"], {}))
        os.wait()
    assert not made & told_in_all(tracing, 0.1).told
    assert tracing.lost == 0


ENTERS = """
import os, sys, time
from pybpfasm.kernel import sys as kernel
print("there", flush=True)
sys.stdin.readline()
kernel.unshare(kernel.CLONE_NEWNET)
print("there", flush=True)
time.sleep(1000)
"""


@pytest.mark.needs(features.FENTRY)
def test_entering_a_namespace_is_told(tracing: ProcessTracing) -> None:
    """Where functions may be traced, at once: no program is run, no process is made."""
    command = [sys.executable, "-c", ENTERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            process.stdout.readline()
            assert process.pid not in told_in_all(tracing).told
            print(file=process.stdin, flush=True)
            process.stdout.readline()
            assert process.pid in told_in_all(tracing).told
        finally:
            process.kill()


FORKS_IN_NETNS = """
import os, sys, time
from pybpfasm.kernel import sys as kernel
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
print("there", flush=True)
sys.stdin.readline()
kernel.unshare(kernel.CLONE_NEWNET)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(1000)
"""


def test_a_child_tells_of_what_its_parent_entered(tree: Path, tracing: ProcessTracing) -> None:
    """Entering a namespace without running a program is seen when a process is made there."""
    pod = make_pod(tree, new_uid(), "a")
    command = [sys.executable, "-c", FORKS_IN_NETNS, str(pod / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        parent.stdout.readline()
        print(file=parent.stdin, flush=True)
        child = int(parent.stdout.readline())
        try:
            assert {parent.pid, child} & told_in_all(tracing).told
        finally:
            os.kill(child, 9)
            parent.kill()


def test_a_move_to_another_pod_is_seen(
    tree: Path, run: Run, tracing: ProcessTracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process that nobody would read again by itself: its cgroup is another, and so is its pod."""
    uid, other = new_uid(), new_uid()
    container = run(make_pod(tree, uid, "a") / "a").enter()
    make_pod(tree, other, "b")
    observer = following(tree, tracing)
    monkeypatch.setattr("merbridge.watchers.processes.YOUNG_SECONDS", 0.0)
    observer.observe()
    with no_scans(monkeypatch):
        assert netns_of(observer, uid) == {container.netns: container.pid}
        (make_pod(tree, other) / "b" / "cgroup.procs").write_text(str(container.pid))
        wait_until(lambda: netns_of(observer, other) == {container.netns: container.pid}, "it is seen")
        assert netns_of(observer, uid) == {}


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_witness_end_is_seen(tree: Path, run: Run, events: ProcessEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the process by which a pod's namespace is known, at once; nobody else's end is told."""
    uid, other = new_uid(), new_uid()
    container = run(make_pod(tree, uid, "a") / "a").enter()
    run(make_pod(tree, other, "a") / "a").enter()
    observer = following(tree, events)
    assert netns_of(observer, uid) == {container.netns: container.pid}
    stranger = subprocess.run(["sh", "-c", "echo $$"], check=True, capture_output=True, text=True)
    with no_scans(monkeypatch):
        container.end()
        wait_until(lambda: netns_of(observer, uid) == {}, "it is gone")
    assert int(stranger.stdout) not in told_in_all(events).went


IN_SAME_NETNS = "sleep 1000 & echo $!; exec sleep 1000"


def test_another_witness_is_found(tree: Path, run: Run, events: ProcessEvents) -> None:
    """A process that was never told, as its pair was known, takes the place of the one that has ended."""
    uid = new_uid()
    observer = following(tree, events)
    container = run(make_pod(tree, uid, "a") / "a", IN_SAME_NETNS).enter()
    child, netns = int(container.line()), container.netns
    try:
        wait_until(lambda: netns in netns_of(observer, uid), "the namespace is seen")
        os.kill(container.pid, 9)
        container.process.wait()
        wait_until(lambda: netns_of(observer, uid) == {netns: child}, "by the other process")
    finally:
        os.kill(child, 9)


def test_a_pair_is_new_again_after_its_witness(tree: Path, run: Run, tracing: ProcessTracing) -> None:
    """What enters the namespace of a container that has ended, in its cgroup, is told."""
    pod = make_pod(tree, new_uid(), "a")
    container = run(pod / "a").enter()
    assert container.pid in told_in_all(tracing).told
    tracing.watch({container.pid})
    held = os.open(PROC / str(container.pid) / "ns" / "net", os.O_RDONLY)
    try:
        container.end()
        assert container.pid in told_in_all(tracing).went
        script = f"echo $$ > {pod}/a/cgroup.procs; exec nsenter --net=/proc/self/fd/{held} sleep 1000"
        with subprocess.Popen(["sh", "-c", script], pass_fds=[held]) as later:
            try:
                assert later.pid in told_in_all(tracing).told
            finally:
                later.kill()
    finally:
        os.close(held)


def test_what_was_missed_is_told_again(tree: Path, run: Run, tracing: ProcessTracing) -> None:
    """A process that has ended before anybody looked does not keep others in its pair from being told."""
    container = run(make_pod(tree, new_uid(), "a") / "a", FORKS).enter()
    for _ in iter(container.line, "done"):
        pass
    changes = tracing.read()
    assert changes is not None
    assert container.pid in changes.told
    tracing.forget({container.pid})
    container.say("one more")
    assert int(container.line()) in told_in_all(tracing).told


def test_after_a_look_at_all_each_pair_is_told_of_again(tree: Path, run: Run, tracing: ProcessTracing) -> None:
    """Nobody tells that a pair has nobody in it any more, so what was told before such a look is worth nothing."""
    observer = following(tree, tracing)
    container = run(make_pod(tree, new_uid(), "a") / "a", FORKS).enter()
    for _ in iter(container.line, "done"):
        pass
    told_in_all(tracing)
    observer._processes._before_scan()
    container.say("one more")
    assert int(container.line()) in told_in_all(tracing).told


# --- losses -----------------------------------------------------------------------------------------------------------


def test_events_that_cannot_be_read_are_told(tree: Path) -> None:
    """All processes are looked at then, and it is a line for the log and `status`."""

    class Broken(NoEvents):
        way = "tracepoints"

        def read(self) -> ProcessChanges | None:
            raise OSError("no\nring")

    events = Broken("")
    try:
        observer = following(tree, events)
        assert observer.problem == "tracepoints: cannot be read: no ring"
    finally:
        events.close()


def test_a_loss_is_made_good(tree: Path, run: Run) -> None:
    """More than the ring holds: that is counted, and all processes are looked at."""
    uid, other = new_uid(), new_uid()
    container = run(make_pod(tree, uid, "a") / "a").enter()
    tracing = ProcessTracing(read_netns(os.getpid(), PROC).cookie, ring_bytes=4096)
    try:
        observer = following(tree, tracing)
        for number in range(200):
            make_pod(tree, uid, f"{number}")
            (make_pod(tree, uid) / f"{number}" / "cgroup.procs").write_text(str(container.pid))
        make_pod(tree, other, "b")
        (make_pod(tree, other) / "b" / "cgroup.procs").write_text(str(container.pid))
        wait_until(lambda: netns_of(observer, other) == {container.netns: container.pid}, "nothing is missed")
        assert netns_of(observer, uid) == {}
        assert tracing.lost > 0
        changes = tracing.read()
        assert changes is not None
        assert changes.is_whole
    finally:
        tracing.close()


def test_the_connectors_backlog_is_bounded() -> None:
    """More programs than are looked at one by one: look at all of them; more than there is room for: it is a loss."""
    connector = ProcConnector("")
    try:
        for number in (MOST_CHANGES + 50, 4000):
            script = f"for i in $(seq {number}); do /bin/true; done"
            subprocess.run(["sh", "-c", script], check=True)
            changes = connector.read()
            assert changes is not None
            assert not changes.is_whole
            while changes.told or not changes.is_whole:
                changes = connector.read()
                assert changes is not None
        assert connector.lost > 0
    finally:
        connector.close()


def test_all_are_looked_at_now_and_then(tree: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has told is seen within a minute."""
    uid = new_uid()
    now = [0.0]
    table = ProcessTable(PROC, lambda: now[0])
    run(make_pod(tree, new_uid(), "a") / "a").enter()
    list(table.look(ProcessChanges()))
    container = run(make_pod(tree, uid, "a") / "a").enter()
    nothing = ProcessChanges()
    assert container.pid not in {each.pid for each in table.look(nothing)}
    now[0] = FORGET_SECONDS
    assert container.pid in {each.pid for each in table.look(nothing)}


def test_a_loss_does_not_make_it_look_at_all_each_time(tree: Path, run: Run) -> None:
    """Losses one after the other cost no more than looks at all would."""
    now = [0.0]
    table = ProcessTable(PROC, lambda: now[0])
    run(make_pod(tree, new_uid(), "a") / "a").enter()
    list(table.look(ProcessChanges()))
    loss = ProcessChanges(is_whole=False)
    container = run(make_pod(tree, new_uid(), "a") / "a").enter()
    now[0] = 0.5
    assert container.pid not in {each.pid for each in table.look(loss)}
    now[0] = 1.0
    assert container.pid in {each.pid for each in table.look(ProcessChanges())}


def test_what_is_doubted_is_looked_for(tree: Path, run: Run) -> None:
    """A young process that was not what it was taken for is read anew, with the next look at all."""
    now = [0.0]
    table = ProcessTable(PROC, lambda: now[0])
    run(make_pod(tree, new_uid(), "a") / "a").enter()
    container = run(make_pod(tree, new_uid(), "a") / "a").enter()
    nothing = ProcessChanges()
    assert container.pid in {each.pid for each in table.look(nothing)}
    table.doubt([container.pid])
    assert container.pid not in {each.pid for each in table.look(nothing)}
    now[0] = 5.0
    assert container.pid in {each.pid for each in table.look(nothing)}


def test_cgroup_v1_is_looked_at_each_time(tmp_path: Path) -> None:
    """A pod that the v1 hierarchies alone tell may come without a word."""
    uid = new_uid()
    for pid, line in ((7, f"0::/kubepods/pod{uid}/a"), (8, f"4:memory:/kubepods/pod{uid}/a\n0::/")):
        (tmp_path / str(pid) / "ns").mkdir(parents=True)
        (tmp_path / str(pid) / "ns" / "net").touch()
        (tmp_path / str(pid) / "cgroup").write_text(line)
        table = ProcessTable(tmp_path)
        list(table.look(ProcessChanges()))
        assert table.is_told_all == (pid == 7)


def test_a_storm_does_not_wake_the_agent_without_end() -> None:
    """For a while after a look, what processes do wakes nobody; everything else does."""
    events, other = os.eventfd(1), os.eventfd(0)
    try:
        assert _ready([other], events, 0.0, 5.0) == [events]
        begin = time.monotonic()
        assert _ready([other], events, 0.2, 5.0) == [events]
        assert 0.2 <= time.monotonic() - begin < 4
        assert _ready([other], events, 5.0, 0.1) == []
        os.eventfd_write(other, 1)
        assert _ready([other], events, 5.0, 5.0) == [other]
    finally:
        os.close(events)
        os.close(other)


# --- which way --------------------------------------------------------------------------------------------------------

OPEN = """
import sys
from pathlib import Path
from merbridge.watchers import open_process_events
events = open_process_events(Path("/proc"), 1)
print(events.way)
print(events.why)
events.close()
"""


def way(*prefix: str) -> list[str]:
    """The way that is taken, and why, by a process that is started behind a command."""
    line = [*prefix, sys.executable, "-c", OPEN]
    return subprocess.run(line, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()


def without(*capabilities: str) -> list[str]:
    """The command that takes them away."""
    removed = ",".join(f"-{each}" for each in capabilities)
    return ["setpriv", f"--bounding-set={removed}", f"--inh-caps={removed}"]


def test_descriptors_may_have_any_number() -> None:
    """An agent that holds a link to each of many devices has descriptors beyond 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        made = [os.eventfd(0) for _ in range(1200)]
        held.callback(lambda: [os.close(each) for each in made])
        assert made[-1] > 1024
        os.eventfd_write(made[-1], 1)
        assert _ready([made[-2]], made[-1], 0.0, 5.0) == [made[-1]]
        assert _ready([made[-2]], made[-2], 0.0, 0.0) == []


def test_what_others_send_to_the_connector_is_nothing() -> None:
    """A message that is too short, or an event that the kernel has not sent, does no harm."""
    connector = ProcConnector("")
    try:
        port = connector._socket.getsockname()[0]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as other:
            event = bytes(36) + struct.pack("=IIQII", 2, 0, 0, 4242, 4242) + bytes(16)
            for message in (bytes(20), event):
                with suppress(PermissionError):
                    other.sendto(message, (port, 0))
        changes = connector.read()
    finally:
        connector.close()
    assert changes is not None
    assert (changes.is_whole, 4242 in changes.told) == (True, False)


def test_tracepoints_come_first() -> None:
    """They are there; what is to be said is that functions cannot be traced, where that is so."""
    name, why = way()
    assert name == "tracepoints"
    assert why.startswith("not of who enters a namespace") != features.FENTRY.supported()


def test_the_connector_comes_second() -> None:
    """Where nobody may trace, in one line that says so."""
    name, why = way(*without("sys_admin", "perfmon"))
    assert name == "proc connector"
    assert why.startswith("tracepoints: cannot load program")


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (without("sys_admin", "perfmon", "bpf"), "; proc connector: "),
        (["unshare", "--net", *without("sys_admin", "perfmon")], "; proc connector: "),
        (["unshare", "--pid", "--fork", "--mount-proc"], "/proc is not of the machine's first PID namespace"),
    ],
    ids=["no BPF", "another network namespace", "another PID namespace"],
)
def test_without_either_all_are_looked_at(prefix: list[str], reason: str) -> None:
    """It goes on, and says why."""
    name, why = way(*prefix)
    assert name == "scans"
    assert reason in why


def test_nobody_tells(tree: Path, run: Run) -> None:
    """Then each look finds what is there."""
    uid = new_uid()
    events = NoEvents("as the test wants it")
    try:
        observer = following(tree, events)
        container = run(make_pod(tree, uid, "a") / "a").enter()
        assert netns_of(observer, uid) == {container.netns: container.pid}
        container.end()
        assert netns_of(observer, uid) == {}
        assert observer.way == "scans"
    finally:
        events.close()


def test_nothing_is_left() -> None:
    """Descriptors are given back, whichever way it was."""
    before = len(os.listdir("/proc/self/fd"))
    open_process_events(PROC, 1).close()
    for make in WAYS.values():
        make().close()
    assert len(os.listdir("/proc/self/fd")) == before
