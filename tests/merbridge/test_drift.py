"""What somebody changes of the datapath by hand, while the agent runs: seen, put right within seconds, and counted."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import ROOT, Agent, Cluster, wait_until
from pod_sockets import PodSockets

import programs.maps as layouts
import pybpfasm as bpf
from merbridge.datapath import state
from merbridge.datapath.hooks import ATTACH_ORDER
from merbridge.datapath.pins import Pins
from merbridge.demo.pod import connect
from merbridge.demo.proxy_process import ProxyProcess
from merbridge.observe.report import read_report
from pybpfasm.compiler import compile_program
from pybpfasm.errors import KernelError
from pybpfasm.kernel import Link, Map, Program

# The agent looks every 1 to 5 s.
SECONDS = 12.0


@pytest.fixture(scope="module", autouse=True)
def proxy(cluster: Cluster) -> ProxyProcess:
    """Ztunnel's proxy."""
    return cluster.ztunnel.start_proxy()


@bpf.connect4
def let_through(ctx: bpf.SockAddr) -> int:
    """Redirects nothing."""
    return 1


def drift(cluster: Cluster) -> dict[str, int]:
    """What the agent says that it has put right."""
    return read_report(Pins(cluster.bpffs)).drift


@pytest.fixture
def before(cluster: Cluster, agent: Agent) -> Iterator[dict[str, int]]:
    """What was put right before the test; after it pods are intercepted and all is well."""
    yield drift(cluster)
    seen = cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)["seen"]
    assert seen is not None
    assert seen["peer_address"] == cluster.ztunnel.ip
    wait_until(lambda: cluster.status()[0] == 0, "all is well", SECONDS)


def counted(cluster: Cluster, before: dict[str, int], **more: int) -> None:
    """Wait until the agent has put right that much more than before, and see that it was no more."""
    expected = {what: number + more.get(what, 0) for what, number in before.items()}
    deadline = time.monotonic() + SECONDS
    while drift(cluster) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert drift(cluster) == expected


def is_attached(pin: Path) -> bool:
    """Whether a link is pinned there, and attached to something."""
    try:
        with Link.open(pin) as link:
            return link.info().target != 0
    except KernelError:
        return False


def test_pins_that_are_removed(cluster: Cluster, before: dict[str, int]) -> None:
    """A map's, a link's and a device's; the objects are the same as before."""
    device = next((cluster.bpffs / "devices").iterdir())
    removed = [cluster.bpffs / "maps" / "netns_info_map", cluster.bpffs / "links" / "connect4", device]
    ids = [each.id for each in read_report(Pins(cluster.bpffs)).maps]
    for pin in removed:
        pin.unlink()
    counted(cluster, before, pins=3)
    assert [each.id for each in read_report(Pins(cluster.bpffs)).maps] == ids
    assert all(is_attached(pin) for pin in removed[1:])


def test_a_map_under_anothers_name(cluster: Cluster, before: dict[str, int]) -> None:
    """The agent's own map is pinned there again."""
    path = cluster.bpffs / "maps" / "settings"
    path.unlink()
    with Map.create(layouts.settings.spec("settings")) as other:
        other.pin(path)
    counted(cluster, before, pins=1)
    with cluster.pinned(layouts.settings, "settings") as known:
        assert known.get(layouts.ZTUNNEL) is not None


@pytest.mark.parametrize("name", ATTACH_ORDER)
def test_a_program_that_is_detached(cluster: Cluster, before: dict[str, int], name: str) -> None:
    """It is attached again, under its old pin."""
    pin = cluster.bpffs / "links" / name
    with Link.open(pin) as link:
        link.detach()
    counted(cluster, before, programs=1)
    assert is_attached(pin)


def test_a_program_that_is_replaced(cluster: Cluster, before: dict[str, int]) -> None:
    """By another one through the pinned link: ours is put in place again."""
    pin = cluster.bpffs / "links" / "connect4"
    with Link.open(pin) as link, Program.load(compile_program(let_through)) as other:
        ours = link.info().program_id
        link.update(other)
        assert link.info().program_id != ours
        counted(cluster, before, programs=1)
        assert link.info().program_id == ours


def test_one_thing_that_cannot_be_put_right_keeps_no_other(cluster: Cluster, before: dict[str, int]) -> None:
    """A directory stands where a pin should be: it is told, and a program that is detached is attached again."""
    pin = cluster.bpffs / "maps" / "counters"
    pin.unlink()
    pin.mkdir()
    try:
        with Link.open(cluster.bpffs / "links" / "connect4") as link:
            link.detach()
        counted(cluster, before, programs=1)
        (line,) = [each for each in cluster.status()[1]["problems"] if "cannot pin" in each]
        assert str(pin) in line
        assert [path.name for path in cluster.bpffs.rglob("*-new")] == []
    finally:
        pin.rmdir()
    counted(cluster, before, programs=1, pins=1)


def test_entries_that_are_changed(cluster: Cluster, before: dict[str, int]) -> None:
    """One deleted, one altered, one added: all as they should be again."""
    with (
        cluster.pinned(layouts.netns_info_map, "netns_info_map") as netns,
        cluster.pinned(layouts.settings, "settings") as settings,
        cluster.pinned(state.pod_records, "pods") as records,
    ):
        known, ztunnel, pods = netns.read_all(), settings.read_all(), records.read_all()
        found = ztunnel[layouts.ZTUNNEL]
        netns.delete(max(known))
        netns.set(12345, known[min(known)])
        settings.set(layouts.ZTUNNEL, layouts.Ztunnel(netns_cookie=1, ip4=found.ip4, ip6=found.ip6))
        records.delete(next(iter(pods)))
        counted(cluster, before, entries=4)
        assert (netns.read_all(), settings.read_all(), records.read_all()) == (known, ztunnel, pods)


_WITHOUT_TCX = """
import sys
from merbridge.cli import main
from pybpfasm.kernel import features
kind = type(features.TCX_LINK)
supported = kind.supported
kind.supported = lambda self: self is not features.TCX_LINK and supported(self)
sys.exit(main(sys.argv[1:]))
"""


def tc(cluster: Cluster, *arguments: str) -> str:
    """What tc(8) says in the host's network namespace."""
    inside = ["nsenter", f"--net=/proc/{cluster.node.host().containers['app'].pid}/ns/net"]
    return subprocess.run([*inside, "tc", *arguments], capture_output=True, text=True, check=True).stdout


def devices_with_filters(cluster: Cluster) -> list[str]:
    """The host's devices with a program on its way to a pod."""
    names = re.findall(r"qdisc clsact \S+ dev (\S+)", tc(cluster, "qdisc", "show"))
    return [name for name in names if "to_pod" in tc(cluster, "filter", "show", "dev", name, "egress")]


def test_a_filter_that_is_removed(cluster: Cluster, agent: Agent) -> None:
    """Where kernels have no tcx links (before 6.6), a filter that somebody takes away is there again, and counted."""
    cluster.end_datapath()
    command = [sys.executable, "-c", _WITHOUT_TCX]
    running = subprocess.Popen([*command, "run", *cluster.settings()], stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_until(lambda: len(devices_with_filters(cluster)) == 2, "both enrolled pods' filters are there", SECONDS)
        assert not list((cluster.bpffs / "devices").iterdir())
        removed = devices_with_filters(cluster)[0]
        tc(cluster, "qdisc", "del", "dev", removed, "clsact")
        assert removed not in devices_with_filters(cluster)
        wait_until(lambda: removed in devices_with_filters(cluster), "it is there again", SECONDS)
        wait_until(lambda: drift(cluster)["programs"] == 2, "both directions are counted", SECONDS)
    finally:
        running.terminate()
        running.wait(20)
        host = str(cluster.node.host().containers["app"].pid)
        cleanup = [*command, "cleanup", "--bpffs", str(cluster.bpffs), "--host-pid", host]
        subprocess.run(cleanup, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    assert devices_with_filters(cluster) == []
    cluster.start_agent().ready()


def test_the_bpf_file_system_is_unmounted(cluster: Cluster, agent: Agent, before: dict[str, int]) -> None:
    """It is mounted again, everything is pinned in it, and no second agent can start beside this one."""
    pins = len(list((cluster.bpffs / "maps").iterdir())) + len(list((cluster.bpffs / "links").iterdir()))
    pins += len(list((cluster.bpffs / "devices").iterdir()))
    subprocess.run(["umount", "--lazy", str(cluster.bpffs)], check=True)
    wait_until(lambda: cluster.merbridge("status").returncode == 0, "all is pinned again", SECONDS)
    counted(cluster, before, pins=pins)
    second = cluster.start_agent()
    assert second.process.wait(20) == 1
    second.stop()
    assert "an agent runs already" in second.other_lines[0]


def test_routine_is_no_drift(cluster: Cluster, agent: Agent, before: dict[str, int], outside: PodSockets) -> None:
    """What pods, labels and connections change by themselves is not counted."""
    pod = cluster.node.add_pod("passing", namespace="shop")
    for label in ("ambient", "none", "ambient"):
        pod.labels["istio.io/dataplane-mode"] = label
        cluster.publish()
        in_mesh = label == "ambient"
        wait_until(
            lambda in_mesh=in_mesh: any(
                each.name == "passing" and each.in_mesh == in_mesh for each in read_report(Pins(cluster.bpffs)).pods
            ),
            "the label counts",
        )
        for _ in range(5):
            cluster.app.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    cluster.node.remove_pod(pod)
    cluster.publish()
    wait_until(lambda: all(each.name != "passing" for each in read_report(Pins(cluster.bpffs)).pods), "it is forgotten")
    assert drift(cluster) == before


def test_the_kernel_tells_of_processes(cluster: Cluster, agent: Agent) -> None:
    """An agent that is ready is told of them by tracepoints, a moment later, and says so."""
    assert agent is not None
    wait_until(lambda: read_report(Pins(cluster.bpffs)).process_events == "tracepoints", "it says so", SECONDS)
