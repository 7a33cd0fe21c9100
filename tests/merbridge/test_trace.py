"""`trace`: what it shows of real connections, and that nothing of it is there when nobody looks."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster import ROOT, SLOWNESS, Agent, Cluster, merbridge_command, wait_until
from pod_sockets import PodSockets
from test_inbound import transparent

from merbridge.datapath.pins import Pins
from merbridge.demo.container import opened_pipe
from merbridge.demo.pod import connect
from merbridge.demo.proxy_process import ProxyProcess
from merbridge.observe.report import read_report
from pybpfasm.errors import KernelError
from pybpfasm.kernel import Link
from pybpfasm.kernel.inventory import ObjectKind, object_ids
from pybpfasm.kernel.links import query_cgroup
from pybpfasm.uapi import AttachType

HOOKS = (AttachType.CGROUP_INET4_CONNECT, AttachType.CGROUP_INET6_CONNECT, AttachType.CGROUP_SOCK_OPS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A dual-stack node."""
    with Cluster("test-trace", dual_stack=True) as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def proxy(cluster: Cluster, agent: Agent) -> ProxyProcess:
    """Ztunnel's proxy."""
    return cluster.ztunnel.start_proxy()


class Trace:
    """A running `trace -o json`, and what it has shown."""

    def __init__(self, cluster: Cluster, *flags: str) -> None:
        """Start it, and wait until it looks."""
        line = [*merbridge_command("trace"), "--bpffs", str(cluster.bpffs), "-o", "json", *flags]
        self.shown: list[dict[str, Any]] = []
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert opened_pipe(self.process.stderr).readline() == "tracing; Ctrl-C ends it\n"
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in opened_pipe(self.process.stdout):
            self.shown.append(json.loads(line))

    def wait_for(self, verdict: str, **fields: object) -> dict[str, Any]:
        """The first connection with this verdict and these fields."""

        def found() -> list[dict[str, Any]]:
            return [each for each in self.shown if {"verdict": verdict, **fields}.items() <= each.items()]

        wait_until(found, f"{verdict} {fields} is shown, of {self.shown}")
        return found()[0]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """End it; its exit status, and what it said."""
        self.process.send_signal(number)
        status = self.process.wait(10 * SLOWNESS)
        self._reader.join(10)
        said = opened_pipe(self.process.stderr).read()
        opened_pipe(self.process.stderr).close()
        opened_pipe(self.process.stdout).close()
        return status, said


@pytest.fixture
def trace(cluster: Cluster) -> Iterator[Callable[..., Trace]]:
    """Starts traces, and ends them."""
    started: list[Trace] = []

    def start(*flags: str) -> Trace:
        started.append(Trace(cluster, *flags))
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            each.end()


def attached(cluster: Cluster) -> list[int]:
    """How many programs are at each of the hooks."""
    return [len(query_cgroup(cluster.node.cgroup_root, hook).programs) for hook in HOOKS]


def test_a_pods_connection(cluster: Cluster, trace: Callable[..., Trace]) -> None:
    """Who has made it, when, whither, and by which way it goes."""
    looking = trace()
    before = time.time()
    cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    shown = looking.wait_for("redirected", pod="shop/app")
    assert shown["dialled"] == f"{cluster.server.ip}:{cluster.server_port}"
    assert shown["instead"] == f"{cluster.ztunnel.ip}:15001"
    assert (shown["pid"], shown["source"]) == (cluster.app.containers["app"].pid, "")
    assert shown["command"].startswith("python")
    assert before - 1 < shown["at"] < time.time() + 1
    assert looking.end() == (0, "")


def test_by_ipv6_and_to_itself(cluster: Cluster, app: PodSockets, trace: Callable[..., Trace]) -> None:
    """A connection by IPv6, one of an AF_INET6 socket by IPv4, and one that stays in the pod."""
    looking = trace()
    server6 = cluster.node.host().network.ip6_of(cluster.server.ip)
    ztunnel6 = cluster.node.host().network.ip6_of(cluster.ztunnel.ip)
    assert server6 is not None
    app.make(socket.AF_INET6).connect_ex((server6, 9))
    app.make(socket.AF_INET6).connect_ex((f"::ffff:{cluster.server.ip}", 9))
    app.make().connect_ex(("127.0.0.1", 9))
    looking.wait_for("redirected", dialled=f"[{server6}]:9", instead=f"[{ztunnel6}]:15001")
    looking.wait_for("redirected", dialled=f"{cluster.server.ip}:9", instead=f"{cluster.ztunnel.ip}:15001")
    looking.wait_for("left alone", dialled="127.0.0.1:9", instead="")


def test_what_arrives_and_what_the_host_dials(
    cluster: Cluster, outside: PodSockets, host: PodSockets, ztunnel: PodSockets, trace: Callable[..., Trace]
) -> None:
    """From a pod outside the mesh, by the network; from the host, at its connect()."""
    transparent(ztunnel)
    looking = trace()
    client = outside.make()
    client.connect((cluster.app.ip, 8080))
    source = f"{cluster.outside.ip}:{client.getsockname()[1]}"
    looking.wait_for("arrived", pod="shop/app", source=source, dialled=f"{cluster.app.ip}:8080", pid=None, command="")
    host.make().connect((cluster.app.ip, 8081))
    looking.wait_for("redirected", pod="host", dialled=f"{cluster.app.ip}:8081", instead=f"{cluster.ztunnel.ip}:15006")


def test_a_refusal(cluster: Cluster, trace: Callable[..., Trace]) -> None:
    """Without a ztunnel: that it was refused, and what was dialled (Linux 6.1)."""
    cluster.ztunnel.phase = "Failed"
    cluster.publish()
    try:
        wait_until(lambda: not cluster.status()[1]["ztunnel_ip"], "ztunnel is gone")
        looking = trace()
        assert cluster.app.call(connect, cluster.server.ip, 7)["error"] == "EPERM"
        looking.wait_for("refused", pod="shop/app", dialled=f"{cluster.server.ip}:7", instead="")
    finally:
        cluster.ztunnel.phase = "Running"
        cluster.publish()
    wait_until(lambda: cluster.status()[1]["ztunnel_ip"], "ztunnel is back")


def test_one_pods_alone(cluster: Cluster, trace: Callable[..., Trace]) -> None:
    """With --pod; one that is not there is told, with a name that is like it."""
    looking = trace("--pod", "shop/second-app", "--count", "2")
    for pod in (cluster.app, cluster.second_app, cluster.app, cluster.second_app):
        pod.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    assert looking.process.wait(10 * SLOWNESS) == 0
    wait_until(lambda: len(looking.shown) == 2, "both are shown")
    assert {each["pod"] for each in looking.shown} == {"shop/second-app"}
    looking.end()
    done = cluster.merbridge("trace", "--pod", "shop/secnd-app")
    assert (done.returncode, done.stdout) == (2, "")
    said = "--pod shop/secnd-app: the agent knows no such pod on this node: did you mean shop/second-app?"
    assert done.stderr == f"merbridge trace: {said}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_it(cluster: Cluster, trace: Callable[..., Trace], number: int) -> None:
    """While it runs one program more is at each hook; when it has ended, however that was, none."""
    before = attached(cluster)
    looking = trace()
    assert attached(cluster) == [each + 1 for each in before]
    looking.end(number)
    wait_until(lambda: attached(cluster) == before, "its programs are gone")


def test_a_pod_forges_no_line(cluster: Cluster) -> None:
    """A process's name may have any bytes; on a terminal none but printable ones are shown."""
    line = [*merbridge_command("trace"), "--bpffs", str(cluster.bpffs), "--count", "1"]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert opened_pipe(running.stderr).readline() == "tracing; Ctrl-C ends it\n"
    script = (
        "import socket; open('/proc/self/comm', 'w').write('\\x1b[2J\\nrefused');"
        "socket.socket().connect_ex(('127.0.0.1', 9))"
    )
    assert cluster.app.run([sys.executable, "-ISc", script]).wait(20 * SLOWNESS) == 0
    out, _ = running.communicate(timeout=20 * SLOWNESS)
    assert out.count("\n") == 1
    assert "shop/app ?[2J?refused[" in out


def test_it_keeps_up_with_the_datapath(cluster: Cluster, trace: Callable[..., Trace]) -> None:
    """A program that is attached again behind its own, and maps that are replaced: it begins anew, and shows all."""
    looking = trace()
    with Link.open(cluster.bpffs / "links" / "connect4") as link:
        link.detach()
    wait_until(lambda: read_report(Pins(cluster.bpffs)).drift["programs"], "it is attached again", 12)
    time.sleep(2.5 * SLOWNESS)
    cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    looking.wait_for("redirected", pod="shop/app")
    cluster.agent.stop()
    cluster.start_agent("--max-pods", "77").ready()
    time.sleep(2.5 * SLOWNESS)
    cluster.second_app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    looking.wait_for("redirected", pod="shop/second-app")
    assert [each for each in looking.shown if each["verdict"] != "redirected"] == []
    assert looking.end() == (0, "")


def test_its_own_hook_is_detached(cluster: Cluster, trace: Callable[..., Trace]) -> None:
    """By hand: it attaches it anew."""
    looking = trace()
    before = attached(cluster)
    here = {each.id for each in query_cgroup(cluster.node.cgroup_root, HOOKS[0]).programs}
    (mine,) = here - datapath_programs(cluster)
    for number in object_ids(ObjectKind.LINK):
        with contextlib.suppress(KernelError), Link.by_id(number) as link:
            if link.info().program_id == mine:
                link.detach()
    wait_until(lambda: attached(cluster) == before, "it is attached again")
    cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    looking.wait_for("redirected", pod="shop/app")
    assert looking.end() == (0, "")


def datapath_programs(cluster: Cluster) -> set[int | None]:
    """The ids of the datapath's programs."""
    return {hook.program_id for hook in read_report(Pins(cluster.bpffs)).hooks}


def test_as_text(cluster: Cluster) -> None:
    """A line a connection, for people; --seconds ends it."""
    line = [*merbridge_command("trace"), "--bpffs", str(cluster.bpffs), "--seconds", "3"]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert opened_pipe(running.stderr).readline() == "tracing; Ctrl-C ends it\n"
    cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    out, _ = running.communicate(timeout=20 * SLOWNESS)
    assert running.returncode == 0
    (text,) = out.splitlines()
    pid = cluster.app.containers["app"].pid
    assert text[:12].count(":") == 2
    assert text[13:].startswith("redirected shop/app python")
    ends = f"{cluster.server.ip}:{cluster.server_port} by {cluster.ztunnel.ip}:15001"
    assert text.endswith(f"[{pid}]  {ends}")


def test_faster_than_it_reads(cluster: Cluster, trace: Callable[..., Trace]) -> None:
    """What there was no room for is counted, and told at the end."""
    looking = trace()
    os.kill(looking.process.pid, signal.SIGSTOP)
    calls = 20000
    script = (
        "import socket\n"
        f"for _ in range({calls}):\n"
        "    with socket.socket() as made:\n"
        "        made.connect_ex(('127.0.0.1', 9))\n"
    )
    try:
        assert cluster.app.run([sys.executable, "-ISc", script]).wait(60 * SLOWNESS) == 0
    finally:
        os.kill(looking.process.pid, signal.SIGCONT)
    shown = -1
    while len(looking.shown) > shown:
        shown = len(looking.shown)
        time.sleep(1.0)
    status, said = looking.end()
    assert status == 0
    assert said.endswith(" connections came too fast to be shown\n")
    assert len(looking.shown) + int(said.split()[0]) == calls


def test_without_a_datapath(cluster: Cluster) -> None:
    """There is nothing to look at: exit 2 and a line."""
    done = cluster.merbridge("trace", "--bpffs", str(cluster.directory / "nothing"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "nothing is pinned in" in done.stderr


@pytest.mark.parametrize("flags", [["--count", "0"], ["--seconds", "soon"], ["--seconds", "1" * 30], ["-o", "yaml"]])
def test_wrong_flags(cluster: Cluster, flags: list[str]) -> None:
    """One line that says what is allowed."""
    done = cluster.merbridge("trace", *flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
