"""The agent dies, comes back, is stopped, cleaned up after and damaged: connections do not notice, state converges."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cluster import Agent, Cluster, wait_until

from merbridge.datapath.collection import DNS_HOOKS
from merbridge.datapath.pins import Pins
from merbridge.demo.pod import ConnectManyResult, close, connect, connect_many, exchange, listen
from merbridge.demo.proxy_process import ProxyProcess
from merbridge.demo.workloads import Pod
from merbridge.observe.report import read_report
from programs.maps import cgroup_info_map
from pybpfasm.kernel.sys import mount, umount

READY_SECONDS = 5.0
CONNECTIONS = 2000


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> ProxyProcess:
    """Ztunnel's proxy."""
    return cluster.ztunnel.start_proxy()


@pytest.fixture(autouse=True)
def clean(cluster: Cluster, proxy: ProxyProcess) -> Iterator[None]:
    """Each test begins and ends without a datapath."""
    yield
    if cluster.bpffs.exists():
        cluster.end_datapath()


def ids(cluster: Cluster) -> dict[str, dict[str, int | None]]:
    """The ids of links and maps by name, as status tells them."""
    report = read_report(Pins(cluster.bpffs))
    return {
        "links": {hook.name: hook.link_id for hook in report.hooks},
        "maps": {each.name: each.id for each in report.maps},
    }


def programs(cluster: Cluster) -> dict[str, int | None]:
    """The ids of the attached programs by name, as status tells them."""
    return {hook.name: hook.program_id for hook in read_report(Pins(cluster.bpffs)).hooks}


def peer_seen(cluster: Cluster, pod: Pod | None = None) -> str:
    """Whom the server sees when a pod (the first app) connects: ztunnel's address if it was intercepted."""
    result = (pod or cluster.app).call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    assert result["seen"] is not None, result
    return result["seen"]["peer_address"]


def sees_peer(cluster: Cluster, address: str) -> bool:
    """Whether the server sees this address when the first app connects."""
    return peer_seen(cluster) == address


def assert_intercepts(cluster: Cluster) -> None:
    """Both apps' connections arrive by ztunnel, the outsider's does not."""
    assert peer_seen(cluster) == peer_seen(cluster, cluster.second_app) == cluster.ztunnel.ip
    assert peer_seen(cluster, cluster.outside) == cluster.outside.ip


def assert_healthy(cluster: Cluster) -> None:
    """Status has nothing to say."""
    exit_status, report = cluster.status()
    assert (exit_status, report["problems"]) == (0, [])


def start_connections(cluster: Cluster, count: int, pause_ms: float) -> "Future[ConnectManyResult]":
    """Begin many connections, one after the other, from the first app to the server."""
    return cluster.app.start(
        connect_many, cluster.server.ip, cluster.server_port, count=count, pause_ms=pause_ms, greeting=True
    )


def assert_all_intercepted(cluster: Cluster, proxy: ProxyProcess, before: int, count: int, done: Any) -> None:
    """No connection failed, and each was seen by the proxy with the app's address and the server as destination."""
    assert (done["outcomes"], done["failures"]) == ({"ok": count}, [])
    assert done["seen_peers"] == {cluster.ztunnel.ip: count}
    records = proxy.wait_for(before + count)[before:]
    assert {(each["peer_address"], each["original_address"], each["original_port"]) for each in records} == {
        (cluster.app.ip, cluster.server.ip, cluster.server_port)
    }


def ended_by_itself(agent: Agent) -> int:
    """The exit status of an agent that ends without being told to; its log is whole then."""
    agent.process.wait(10)
    return agent.stop()


# --- death and return ------------------------------------------------------------------------------------------------


def test_no_connection_fails_while_the_agent_is_killed(cluster: Cluster, proxy: ProxyProcess) -> None:
    """Of 2,000 connections, made while the agent is killed and never comes back, none fails or goes astray."""
    agent = cluster.start_agent().ready()
    before = len(proxy.records)
    running = start_connections(cluster, CONNECTIONS, 0.0)
    time.sleep(0.2)
    agent.kill()
    assert not running.done()
    assert_all_intercepted(cluster, proxy, before, CONNECTIONS, running.result())


def test_each_millisecond_is_intercepted_across_kill_and_adoption(cluster: Cluster, proxy: ProxyProcess) -> None:
    """A connect each millisecond across kill -9, run and adoption, three times, is intercepted every time.

    Links and maps are the same objects afterwards; programs are new that depend on the setting that has changed.
    """
    agent = cluster.start_agent().ready()
    kept, replaced = ids(cluster), programs(cluster)
    before = len(proxy.records)
    running = start_connections(cluster, CONNECTIONS, 1.0)
    for fail_open in ("yes", "no", "yes"):
        agent.kill()
        agent = cluster.start_agent("--fail-open", fail_open).ready()
    assert not running.done(), "the connections ended before the last adoption"
    assert_all_intercepted(cluster, proxy, before, CONNECTIONS, running.result())
    assert ids(cluster) == kept
    now = programs(cluster)
    assert {name for name in now if now[name] != replaced[name]} == {
        *("connect4", "connect6", "sendmsg4", "sendmsg6"),
    }
    assert_healthy(cluster)


def test_sigterm_leaves_the_datapath_working(cluster: Cluster) -> None:
    """An orderly end takes nothing away: connections are still intercepted, and status says that no agent runs."""
    agent = cluster.start_agent().ready()
    assert agent.stop() == 0
    agent.wait_for("stopped")
    assert_intercepts(cluster)
    exit_status, report = cluster.status()
    assert (exit_status, report["agent_running"]) == (1, False)
    assert report["problems"] == ["no agent runs: the datapath works with what it knew last"]


def test_what_changed_while_no_agent_ran_is_made_true(cluster: Cluster) -> None:
    """A label removed while no agent ran counts as soon as the next one is ready."""
    cluster.start_agent().ready().kill()
    cluster.app.labels["istio.io/dataplane-mode"] = "none"
    cluster.publish()
    try:
        assert peer_seen(cluster) == cluster.ztunnel.ip
        cluster.start_agent().ready()
        assert peer_seen(cluster) == cluster.app.ip
    finally:
        del cluster.app.labels["istio.io/dataplane-mode"]
        cluster.publish()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_end_at_any_moment_of_the_start_is_made_good_by_the_next(cluster: Cluster, end: signal.Signals) -> None:
    """An agent ended at any moment of its start leaves a state from which the next one converges."""
    moments = random.Random(1)  # noqa: S311  # the same moments each time
    for _ in range(15):
        agent = cluster.start_agent()
        time.sleep(moments.uniform(0.0, 0.6))
        if end == signal.SIGKILL:
            agent.kill()
        else:
            # Before it has set up its handler, SIGTERM kills it.
            assert agent.stop() in (0, -signal.SIGTERM), agent.other_lines
        assert not agent.other_lines
        if moments.random() < 0.3 and cluster.bpffs.exists():
            assert cluster.merbridge("cleanup").returncode == 0
    cluster.start_agent().ready()
    assert_healthy(cluster)
    assert_intercepts(cluster)


# --- two at a time ---------------------------------------------------------------------------------------------------


def test_second_agent_is_refused_and_the_first_unharmed(cluster: Cluster) -> None:
    """A second run with the same pins ends with a clear line; the first goes on with the same programs."""
    first = cluster.start_agent().ready()
    before = (ids(cluster), programs(cluster))
    second = cluster.start_agent("--out-port", "15002")
    assert ended_by_itself(second) == 1
    line = f"merbridge run: an agent runs already with the pins in {cluster.bpffs}: end it first\n"
    assert (second.other_lines, second.events) == ([line], [])
    assert (ids(cluster), programs(cluster)) == before
    assert first.process.poll() is None
    assert_healthy(cluster)
    assert_intercepts(cluster)


def test_cleanup_is_refused_while_an_agent_runs(cluster: Cluster) -> None:
    """Cleanup under a running agent's feet is refused with a line, and takes nothing away."""
    cluster.start_agent().ready()
    before = (ids(cluster), programs(cluster))
    done = cluster.merbridge("cleanup")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"merbridge cleanup: an agent runs already with the pins in {cluster.bpffs}: end it first\n"
    assert (ids(cluster), programs(cluster)) == before
    assert_healthy(cluster)


# --- cleanup ---------------------------------------------------------------------------------------------------------


def test_cleanup_leaves_nothing(cluster: Cluster) -> None:
    """Hooks, pins, folders and the agent's own mount go; traffic goes its usual way; a second time is no failure."""
    cluster.start_agent().ready().stop()
    pins = sum(path.is_file() for folder in ("devices", "links", "maps") for path in (cluster.bpffs / folder).iterdir())
    done = cluster.merbridge("cleanup")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"removed {pins} pins from {cluster.bpffs}\n", "")
    assert not cluster.bpffs.exists()
    assert str(cluster.directory) not in Path("/proc/self/mounts").read_text()
    assert peer_seen(cluster) == cluster.app.ip
    again = cluster.merbridge("cleanup")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"nothing to remove in {cluster.bpffs}\n", "")


def test_cleanup_leaves_what_is_not_its_own(cluster: Cluster) -> None:
    """A bpf file system that was there before, and other users' files beside ours, stay."""
    place = cluster.directory / "shared"
    place.mkdir()
    mount("bpf", str(place), "bpf")
    try:
        (place / "others").mkdir()
        cluster.start_agent("--bpffs", str(place / "mesh")).ready().stop()
        done = cluster.merbridge("cleanup", "--bpffs", str(place / "mesh"))
        assert done.returncode == 0
        assert [path.name for path in place.iterdir() if not path.name.endswith(".debug")] == ["others"]
    finally:
        umount(str(place))
        place.rmdir()


def test_open_connections_live_on_through_cleanup(cluster: Cluster, proxy: ProxyProcess) -> None:
    """Spliced connections carry bytes both ways, whole and in order, through cleanup and beside the next datapath."""
    cluster.start_agent().ready().stop()
    old = [open_connection(cluster) for _ in range(3)]
    for handle in old:
        assert_carries(cluster, handle, "before")
    spliced = cluster.counters()["spliced"]
    assert spliced >= len(old)
    maps = ids(cluster)["maps"]
    assert cluster.merbridge("cleanup").returncode == 0
    for handle in old:
        assert_carries(cluster, handle, "after cleanup")
    cluster.start_agent().ready()
    assert not set(ids(cluster)["maps"].values()) & set(maps.values())
    young = open_connection(cluster)
    for handle in [*old, young]:
        assert_carries(cluster, handle, "beside the next")
    assert_intercepts(cluster)
    for handle in [*old, young]:
        cluster.app.call(close, handle)


def open_connection(cluster: Cluster) -> int:
    """A connection of the first app, by ztunnel, to the server, that stays open; its handle."""
    result = cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True, keep=True)
    assert result["seen"] is not None
    assert result["seen"]["peer_address"] == cluster.ztunnel.ip
    assert result["handle"] is not None
    return result["handle"]


def assert_carries(cluster: Cluster, handle: int, what: str) -> None:
    """The server's echo comes back byte by byte as it was sent, in sizes small and large."""
    for size in (1, 4097, 70_001):
        text = (f"{what} {handle} {size} " * size)[:size]
        answer = cluster.app.call(exchange, handle, send=text, receive=size)
        assert answer["error"] is None
        assert answer["received"] == text


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pin", ["maps/netns_info_map", "maps/sockets", "maps/agent", "maps/source", "links/connect4", "links/redirect"]
)
def test_pin_removed_by_hand_is_made_again(cluster: Cluster, pin: str) -> None:
    """With one pin missing, the next run makes that object anew and keeps the others."""
    cluster.start_agent().ready().stop()
    before = ids(cluster)
    (cluster.bpffs / pin).unlink()
    assert cluster.status()[0] == 1
    cluster.start_agent().ready()
    assert_healthy(cluster)
    assert_intercepts(cluster)
    after = ids(cluster)
    folder, name = pin.split("/")
    touched = {name, "redirect"} if name == "sockets" else {name}  # the program sits on the map
    for kind in ("links", "maps"):
        changed = {each for each in before[kind] if before[kind][each] != after[kind][each]}
        assert changed <= touched, (folder, changed)


def test_changed_port_is_put_in_place(cluster: Cluster) -> None:
    """A setting that is a constant in the programs takes effect at the next run, through the same links and maps."""
    cluster.start_agent().ready().stop()
    kept = ids(cluster)
    other = cluster.ztunnel.start_proxy(15002)
    cluster.start_agent("--out-port", "15002").ready()
    assert ids(cluster) == kept
    assert cluster.status()[1]["out_port"] == 15002
    assert_intercepts(cluster)
    (first, *_) = other.wait_for(2)
    assert (first["original_address"], first["original_port"]) == (cluster.server.ip, cluster.server_port)


def test_container_that_starts_again_is_intercepted_at_once(cluster: Cluster, proxy: ProxyProcess) -> None:
    """All processes of a pod end, its namespace stays: the next one's first connection is intercepted.

    The agent's restart in between changes nothing.
    """
    pod = cluster.node.add_pod("restarting", namespace="shop")
    cluster.publish()
    agent = cluster.start_agent().ready()
    pid = pod.containers["app"].pid
    for container in pod.containers.values():
        os.kill(container.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}/ns/net").exists(), "its processes have ended")
    time.sleep(1.2)  # a look of the agent at the pod without processes
    agent.stop()
    again = cluster.start_agent().ready()
    try:
        greeting = dial_in_namespace_of(cluster, pod)
        assert greeting["peer_address"] == cluster.ztunnel.ip
    finally:
        again.stop()
        cluster.node.remove_pod(pod)
        cluster.publish()


def dial_in_namespace_of(cluster: Cluster, pod: Pod) -> dict[str, Any]:
    """Dial the server from the pod's network namespace, outside its cgroup; what the server saw."""
    server = (cluster.server.ip, cluster.server_port)
    code = f"import socket; print(socket.create_connection({server}).makefile().readline())"
    command = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{pod.netns_fd()}", sys.executable, "-c", code]
    client = cluster.node.host().run(command, stdout=subprocess.PIPE)
    seen: dict[str, Any] = json.loads(client.communicate(timeout=10)[0])
    return seen


def test_cgroup_made_anew_is_attached_again(cluster: Cluster) -> None:
    """When the cgroup that the programs were attached to is gone, status says so and the next run attaches anew."""
    place = cluster.node.cgroup_root / "attached"
    place.mkdir()
    cluster.start_agent("--cgroup-root", str(place)).ready().stop()
    maps = ids(cluster)["maps"]
    place.rmdir()
    exit_status, report = cluster.status()
    assert exit_status == 1
    assert [hook["name"] for hook in report["hooks"] if not hook["attached"]] == [
        "getsockopt",
        "getpeername6",
        "getpeername4",
        "sockops",
        *DNS_HOOKS,
        "connect6",
        "connect4",
    ]
    place.mkdir()
    try:
        cluster.start_agent("--cgroup-root", str(place)).ready()
        assert_healthy(cluster)
        targets = {hook["target"] for hook in cluster.status()[1]["hooks"] if hook["name"] != "redirect"}
        assert targets == {place.stat().st_ino}
        assert ids(cluster)["maps"] == maps
    finally:
        cluster.end_datapath()
        place.rmdir()


def test_changed_cgroup_root_moves_the_hooks(cluster: Cluster) -> None:
    """With another --cgroup-root, the programs sit there and no longer where they were, also while the agent runs."""
    place = cluster.node.cgroup_root / "elsewhere"
    place.mkdir()
    try:
        cluster.start_agent("--cgroup-root", str(place)).ready().stop()
        assert peer_seen(cluster) == cluster.app.ip
        cluster.start_agent().ready().stop()
        assert_intercepts(cluster)
        cluster.start_agent("--cgroup-root", str(place)).ready()
        assert peer_seen(cluster) == cluster.app.ip
    finally:
        cluster.end_datapath()
        place.rmdir()


def test_second_datapath_on_the_same_cgroup_does_no_harm(cluster: Cluster) -> None:
    """With other pins configured and no cleanup before, two datapaths sit on one cgroup: connections still work."""
    cluster.start_agent().ready().stop()
    other = cluster.directory / "other"
    try:
        cluster.start_agent("--bpffs", str(other)).ready().stop()
        assert_intercepts(cluster)
    finally:
        assert cluster.merbridge("cleanup", "--bpffs", str(other)).returncode == 0


# --- watching --------------------------------------------------------------------------------------------------------


def test_new_pod_is_enrolled_soon(cluster: Cluster, agent_here: Agent) -> None:
    """A pod made known while the agent runs is in the mesh within half a second, as is its next container at once."""
    for number in range(3):
        pod = cluster.node.add_pod(f"young-{number}", namespace="shop")
        try:
            mark, begin = agent_here.mark(), time.monotonic()
            cluster.publish()
            agent_here.wait_for("pod_in_mesh", since=mark, pod=f"shop/young-{number}")
            took = time.monotonic() - begin
            result = pod.add_container("first").call(connect, cluster.server.ip, cluster.server_port, greeting=True)
            assert result["seen"] is not None
            assert result["seen"]["peer_address"] == cluster.ztunnel.ip
            assert took < 0.5
        finally:
            cluster.node.remove_pod(pod)
            cluster.publish()


@pytest.fixture
def agent_here(cluster: Cluster, clean: None) -> Agent:
    """An agent that runs for one test."""
    return cluster.start_agent().ready()


def entries(cluster: Cluster) -> dict[str, int]:
    """How many entries each map has."""
    return {each.name: each.entries for each in read_report(Pins(cluster.bpffs)).maps}


def test_pod_removed_leaves_the_maps(cluster: Cluster, agent_here: Agent) -> None:
    """A pod's entries come with it, and go with it, and so do those of a container that it starts meanwhile."""
    before = entries(cluster)
    pod = cluster.node.add_pod("passing", namespace="shop", cgroup_driver="cgroupfs")
    cluster.publish()
    wait_until(lambda: entries(cluster)["pods"] == before["pods"] + 1, "its record")
    pod.add_container("more")
    # Its own cgroup and those of sandbox, app and the new container.
    wait_until(lambda: entries(cluster)["cgroup_info_map"] == before["cgroup_info_map"] + 4, "its cgroups' entries")
    assert entries(cluster)["netns_info_map"] == before["netns_info_map"] + 1
    cluster.node.remove_pod(pod)
    cluster.publish()
    wait_until(lambda: entries(cluster) == before, "nothing of it is left")
    assert_healthy(cluster)


def test_root_cgroup_is_never_a_member(cluster: Cluster, agent_here: Agent) -> None:
    """Neither the root that the programs are attached to nor any directory above the pods' is in cgroup_info_map."""
    with cluster.pinned(cgroup_info_map, "cgroup_info_map") as members:
        keys = set(members.keys())
    root = cluster.node.cgroup_root
    above = [root.parent, root, root / "kubepods.slice", root / "kubepods.slice" / "kubepods-burstable.slice"]
    above += [root / "kubepods", root / "kubepods" / "burstable"]
    assert keys
    assert not keys & {path.stat().st_ino for path in above}


def test_last_of_fifty_label_changes_counts(cluster: Cluster, agent_here: Agent) -> None:
    """A label that flips 50 times, at odd moments, ends in the state that the last change asks for."""
    moments = random.Random(2)  # noqa: S311  # the same moments each time
    descriptors = Path(f"/proc/{agent_here.pid}/fd")
    before = len(list(descriptors.iterdir()))
    try:
        for last in ("none", "ambient"):
            for number in range(25):
                cluster.app.labels["istio.io/dataplane-mode"] = "ambient" if number % 2 else "none"
                cluster.publish()
                time.sleep(moments.uniform(0.0, 0.01))
            cluster.app.labels["istio.io/dataplane-mode"] = last
            cluster.publish()
            expected = cluster.ztunnel.ip if last == "ambient" else cluster.app.ip
            wait_until(partial(sees_peer, cluster, expected), f"the last label, {last}", 2.0)
            time.sleep(0.3)  # nothing late may undo it
            assert peer_seen(cluster) == expected
    finally:
        del cluster.app.labels["istio.io/dataplane-mode"]
        cluster.publish()
    assert len(list(descriptors.iterdir())) == before
    assert not [event for event in agent_here.events if event["level"] == "error"]


def test_pod_that_starts_while_the_agent_starts_is_enrolled(cluster: Cluster) -> None:
    """A pod that comes between the agent's first look and its first event is not overlooked."""
    agent = cluster.start_agent()
    wait_until(cluster.bpffs.exists, "the agent has looked")
    pod = cluster.node.add_pod("between", namespace="shop")
    try:
        cluster.publish()
        agent.ready()
        wait_until(lambda: peer_seen(cluster, pod) == cluster.ztunnel.ip, "it is enrolled", 1.0)
    finally:
        cluster.node.remove_pod(pod)
        cluster.publish()


def test_server_in_the_app_answers_while_the_agent_dies(cluster: Cluster) -> None:
    """Connections to an enrolled pod from outside the mesh come by way of ztunnel, with or without an agent."""
    port = cluster.app.call(listen)
    cluster.ztunnel.start_proxy(15006)
    agent = cluster.start_agent().ready()
    for _ in range(2):
        result = cluster.outside.call(connect, cluster.app.ip, port, greeting=True)
        assert result["seen"] is not None
        assert result["seen"]["peer_address"] == cluster.ztunnel.ip
        if agent.process.poll() is None:
            agent.kill()
