"""Other settings: by a configuration file that changes while the agent runs, or at the next start, in other sizes."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from cluster import Agent, Cluster, wait_until

import programs.maps as layouts
from merbridge.datapath.pins import Pins
from merbridge.demo.pod import ConnectManyResult, connect, connect_many
from merbridge.demo.proxy_process import ProxyProcess
from merbridge.observe.report import read_report

CONNECTIONS = 1500


@pytest.fixture(scope="module", autouse=True)
def proxy(cluster: Cluster) -> ProxyProcess:
    """Ztunnel's proxy."""
    return cluster.ztunnel.start_proxy()


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends without a datapath."""
    yield
    if cluster.bpffs.exists():
        cluster.end_datapath()


@pytest.fixture
def settings(cluster: Cluster) -> Callable[[str], Path]:
    """Writes the configuration file in one step, as a ConfigMap is."""
    place = cluster.directory / "merbridge.yaml"

    def write(text: str) -> Path:
        new = place.with_suffix(".new")
        new.write_text(text)
        os.replace(new, place)
        return place

    return write


def sizes(cluster: Cluster) -> dict[str, int]:
    """How many entries each map has room for."""
    return {each.name: each.max_entries for each in read_report(Pins(cluster.bpffs)).maps}


def intercepts(cluster: Cluster) -> bool:
    """Whether a server sees ztunnel where an enrolled pod dials it."""
    seen = cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)["seen"]
    return seen is not None and seen["peer_address"] == cluster.ztunnel.ip


def while_connecting(cluster: Cluster, work: Callable[[], object]) -> None:
    """Do something while a pod connects again and again: each connection comes to its server, by way of ztunnel."""
    done: Future[ConnectManyResult] = cluster.app.start(
        connect_many, cluster.server.ip, cluster.server_port, count=CONNECTIONS, pause_ms=1, greeting=True
    )
    work()
    assert not done.done(), "it was over too early to prove anything"
    result = done.result(60)
    assert (result["failures"], result["seen_peers"]) == ([], {cluster.ztunnel.ip: CONNECTIONS})


# --- the configuration file ------------------------------------------------------------------------------------------


def test_a_changed_setting_counts(cluster: Cluster, settings: Callable[[str], Path]) -> None:
    """Other settings are taken over within a second, in the same process, and no connection notices."""
    file = settings("fail-open: no\nmax-pods: 500\n")
    agent = cluster.start_agent("--config", str(file)).ready()

    def change() -> None:
        mark = agent.mark()
        settings("fail-open: no\nmax-pods: 600\nexempt-cgroup: none\n")
        agent.wait_for("ready", since=mark, seconds=5.0)

    while_connecting(cluster, change)
    assert (sizes(cluster)["pods"], sizes(cluster)["netns_info_map"]) == (600, 600)
    assert cluster.status()[0] == 0
    assert agent.stop() == 0
    assert intercepts(cluster)


def test_a_broken_file_changes_nothing(cluster: Cluster, settings: Callable[[str], Path]) -> None:
    """Told by log and status as long as it lasts; the agent works on, and takes over what comes then."""
    file = settings("max-pods: 500\n")
    agent = cluster.start_agent("--config", str(file)).ready()
    for text, told in (("max-pods: [", "broken YAML"), ("max-pods: many\n", "'many' is not allowed")):
        settings(text)
        wait_until(lambda: cluster.status()[1]["problems"], "status tells it")
        (line,) = cluster.status()[1]["problems"]
        assert line.startswith(str(file)), line
        assert told in line
        assert line.endswith("the settings from before stay in force")
    file.unlink()
    wait_until(lambda: "cannot read" in cluster.status()[1]["problems"][0], "status tells that it is gone")
    assert intercepts(cluster)
    settings("max-pods: 500\n")
    wait_until(lambda: cluster.status()[0] == 0, "all is well again")
    assert [event for event in agent.events if event["event"] == "reloading"] == []


def test_settings_that_cannot_be(cluster: Cluster, settings: Callable[[str], Path]) -> None:
    """What only the start finds out ends in the settings from before, and is told; the next file counts."""
    file = settings("max-pods: 500\n")
    agent = cluster.start_agent("--config", str(file)).ready()
    mark = agent.mark()
    settings("max-pods: 500\nlisten: 192.0.2.1:80\n")
    agent.wait_for("ready", since=mark, seconds=5.0)
    (line,) = cluster.status()[1]["problems"]
    assert "cannot listen at 192.0.2.1 port 80" in line
    assert "the settings from before stay in force" in line
    time.sleep(1.5)
    assert len([event for event in agent.events[mark:] if event["event"] == "reloading"]) <= 2
    assert intercepts(cluster)
    settings("max-pods: 400\n")
    wait_until(lambda: cluster.status()[0] == 0, "all is well again")
    assert sizes(cluster)["pods"] == 400


def test_what_could_not_be_is_tried_again(cluster: Cluster, settings: Callable[[str], Path]) -> None:
    """A port that was in use counts once it is free, and the file is written again; till then it is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = settings("max-pods: 500\n")
        agent = cluster.start_agent("--config", str(file)).ready()
        for _ in range(2):
            mark = agent.mark()
            settings(f"max-pods: 500\nlisten: 127.0.0.1:{port}\n")
            agent.wait_for("ready", since=mark, seconds=5.0)
            assert "cannot listen" in cluster.status()[1]["problems"][0]
    mark = agent.mark()
    settings(f"max-pods: 500\nlisten: 127.0.0.1:{port}\n")
    agent.wait_for("listening", since=mark, seconds=5.0)
    wait_until(lambda: cluster.status()[1]["problems"] == [], "all is well")


def test_what_cannot_change_is_told(cluster: Cluster, settings: Callable[[str], Path]) -> None:
    """Another place for pins would leave the old ones attached, another source may never answer."""
    file = settings("max-pods: 500\n")
    agent = cluster.start_agent("--config", str(file)).ready()
    settings("max-pods: 600\nkubeconfig: /nonexistent\nannotate: off\n")
    wait_until(lambda: cluster.status()[1]["problems"], "it is told")
    assert cluster.status()[1]["problems"] == [
        f"{file}: another kubeconfig, annotate counts when the agent is started again; "  # noqa: ISC004
        "the settings from before stay in force"
    ]
    assert sizes(cluster)["pods"] == 500
    settings("max-pods: 600\n")
    wait_until(lambda: sizes(cluster)["pods"] == 600, "what can change counts")
    assert [
        event for event in agent.events if event["level"] == "error" and event["event"] != "configuration_failed"
    ] == []


# --- maps of another size and shape -----------------------------------------------------------------------------------


def restarted(cluster: Cluster, *flags: str) -> Agent:
    """The agent is killed, and another one started."""
    cluster.agent.kill()
    return cluster.start_agent(*flags).ready()


def test_another_number_of_pods(cluster: Cluster) -> None:
    """Maps of the old size make room for new ones, up and down, and no connection notices; nothing old is left."""
    cluster.start_agent().ready()
    for number in (50, 9000, 4096):
        while_connecting(cluster, lambda number=number: restarted(cluster, "--max-pods", str(number)))
        assert (sizes(cluster)["netns_info_map"], sizes(cluster)["pods"]) == (number, number)
        assert cluster.status()[1]["problems"] == []
        assert [path.name for path in cluster.bpffs.rglob("*-new")] == []


def test_a_start_that_fails_leaves_the_old_maps(cluster: Cluster) -> None:
    """Where the new maps cannot be attached, everything is as it was."""
    cluster.start_agent().ready().kill()
    before = {each.name: each.id for each in read_report(Pins(cluster.bpffs)).maps}
    agent = cluster.start_agent("--max-pods", "50", "--cgroup-root", str(cluster.node.cgroup_root / "cgroup.procs"))
    assert agent.process.wait(20) == 1
    agent.stop()
    assert {each.name: each.id for each in read_report(Pins(cluster.bpffs)).maps} == before
    assert intercepts(cluster)


def test_another_number_of_connections_waits(cluster: Cluster) -> None:
    """The map of connections that are being set up keeps its size, which is told; `cleanup` makes the setting count."""
    cluster.start_agent().ready()
    while_connecting(cluster, lambda: restarted(cluster, "--max-connections", "1000"))
    (line,) = cluster.status()[1]["problems"]
    assert line.startswith("map original_dst keeps its 65536 entries: --max-connections 1000 counts after")
    cluster.end_datapath()
    cluster.start_agent("--max-connections", "1000").ready()
    assert (cluster.status()[1]["problems"], sizes(cluster)["original_dst"]) == ([], 1000)


def test_a_remembered_pod_is_remembered_in_another_size(cluster: Cluster) -> None:
    """What the last agent knew of pods, and what it counted for them, is in the new maps."""
    cluster.start_agent().ready()
    assert intercepts(cluster)
    cookies = {each.uid: each.netns_cookie for each in read_report(Pins(cluster.bpffs)).pods}
    with cluster.pinned(layouts.shares, "shares") as shares:
        shares.set(max(cookies.values()), layouts.Share(used=7))
        counted = shares.read_all()
    restarted(cluster, "--max-pods", "77")
    assert {each.uid: each.netns_cookie for each in read_report(Pins(cluster.bpffs)).pods} == cookies
    with cluster.pinned(layouts.shares, "shares") as shares:
        carried = shares.read_all()
    # And some more: what is being set up at that moment must not end below 0.
    assert {key: share.used for key, share in carried.items()} == {
        key: share.used + 4096 for key, share in counted.items()
    }
