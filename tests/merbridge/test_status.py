"""What `status` says: healthy, degraded and why, or that it cannot tell; in a table and in JSON alike."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import ROOT, Cluster, merbridge_command, wait_until

import programs.maps as layouts
from merbridge.datapath.hooks import ATTACH_ORDER
from merbridge.datapath.pins import Pins
from merbridge.demo.pod import connect
from merbridge.observe.report import Report, read_report
from pybpfasm import HashMap, Struct, u32
from pybpfasm.kernel import Link, Map
from pybpfasm.kernel import sys as kernel
from pybpfasm.kernel.maps import possible_cpus
from pybpfasm.uapi import Command

NO_AGENT = "no agent runs: the datapath works with what it knew last"


class OtherValue(Struct):
    """A value that none of the datapath's maps has."""

    number: u32


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends without a datapath."""
    yield
    if cluster.bpffs.exists():
        cluster.end_datapath()


@pytest.fixture
def stopped(cluster: Cluster, clean: None) -> Cluster:
    """The cluster with a datapath that an agent, ended since, has left."""
    cluster.start_agent().ready().kill()
    return cluster


def report_of(cluster: Cluster) -> Report:
    """The report, read in this process: the command itself takes a third of a second to start."""
    return read_report(Pins(cluster.bpffs))


def problems(cluster: Cluster) -> list[str]:
    """The problems that the report tells, that no agent runs aside."""
    return [line for line in report_of(cluster).problems if line != NO_AGENT]


def attached(cluster: Cluster) -> list[str]:
    """The programs that the report calls attached."""
    return [hook.name for hook in report_of(cluster).hooks if hook.attached]


def not_attached(*names: str) -> list[str]:
    """How the report tells that these programs are not attached."""
    return [f"program {name} is not attached: start the agent" for name in ATTACH_ORDER if name in names]


# --- the three answers -----------------------------------------------------------------------------------------------


def test_healthy_node(cluster: Cluster) -> None:
    """With an agent, its datapath and a ztunnel, exit 0 and no problem; the report tells what there is."""
    cluster.start_agent().ready()
    exit_status, report = cluster.status()
    assert (exit_status, report["healthy"], report["problems"]) == (0, True, [])
    assert (report["agent_running"], report["node_name"]) == (True, cluster.node.name)
    assert report["cgroup_root"] == str(cluster.node.cgroup_root)
    assert (report["ztunnel"], report["ztunnel_ip"], report["out_port"]) == (
        "istio-system/ztunnel",
        cluster.ztunnel.ip,
        15001,
    )
    assert [(hook["name"], hook["attached"]) for hook in report["hooks"]] == [(name, True) for name in ATTACH_ORDER]
    pods = {f"{pod['namespace']}/{pod['name']}": (pod["ip"], pod["in_mesh"]) for pod in report["pods"]}
    assert pods == {
        "shop/app": (cluster.app.ip, True),
        "shop/second-app": (cluster.second_app.ip, True),
        "elsewhere/outside": (cluster.outside.ip, False),
        "elsewhere/server": (cluster.server.ip, False),
        "istio-system/ztunnel": (cluster.ztunnel.ip, False),
    }
    assert all(pod["reason"] and pod["known_to_datapath"] for pod in report["pods"])


def test_no_datapath_cannot_tell(cluster: Cluster) -> None:
    """Where nothing is pinned, exit 2 and a line that says where it was looked for."""
    done = cluster.merbridge("status")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"merbridge status: nothing is pinned in {cluster.bpffs}: no agent has run here, or it has another --bpffs\n"
    )


@pytest.mark.parametrize("flags", [["-o", "xml"], ["--bpffs", "relative"], ["--config", "/nonexistent"], ["--nope"]])
def test_wrong_flags_cannot_tell(cluster: Cluster, flags: list[str]) -> None:
    """A command line that is wrong ends as "cannot tell", in one line, never as degraded."""
    done = cluster.merbridge("status", *flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_no_privilege_cannot_tell(stopped: Cluster) -> None:
    """As another user than root, exit 2 and a line that says so."""
    stopped.directory.chmod(0o755)
    line = ["setpriv", "--reuid=65534", "--clear-groups", *merbridge_command("status"), "--bpffs", str(stopped.bpffs)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"merbridge status: {stopped.bpffs}: permission denied: run as root\n"


_WITHOUT_PRIVILEGE = """
import sys
from merbridge.cli import main
from pybpfasm.kernel import sys as kernel
from pybpfasm.uapi import Command
real = kernel.bpf
def bpf(command, attributes, attempted):
    if command == Command.OBJ_GET:
        raise kernel.failure(1, attempted)
    return real(command, attributes, attempted)
kernel.bpf = bpf
sys.exit(main(sys.argv[1:]))
"""


def test_bpf_refused_cannot_tell(stopped: Cluster) -> None:
    """Where the kernel refuses bpf() to the caller, exit 2 and a line with the privilege: not "degraded"."""
    line = [sys.executable, "-c", _WITHOUT_PRIVILEGE, "status", "--bpffs", str(stopped.bpffs)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "CAP_BPF" in done.stderr


# --- two forms -------------------------------------------------------------------------------------------------------


def section(table: str, header: str) -> list[list[str]]:
    """The rows below the header that begins so, up to the next empty line, each in its columns."""
    lines = table.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(header))
    rows = lines[start + 1 :]
    return [row.split(None, 3) for row in (rows[: rows.index("")] if "" in rows else rows)]


def yes(is_so: bool) -> str:
    """As the table has it."""
    return "yes" if is_so else "no"


def test_table_and_json_agree(cluster: Cluster) -> None:
    """The table says what the JSON says, for a report with a problem in it."""
    cluster.start_agent().ready().kill()
    done = cluster.merbridge("status")
    exit_status, report = cluster.status()
    assert done.returncode == exit_status == 1
    table = done.stdout.rstrip("\n")
    head = table.split("\n")
    assert head[:2] == ["health   degraded", f"         - {report['problems'][0]}"]
    assert f"ztunnel  {report['ztunnel']} at {report['ztunnel_ip']}:{report['out_port']}" in head
    assert section(table, "PROGRAM") == [
        [hook["name"], "yes", str(hook["link_id"]), str(hook["program_id"])] for hook in report["hooks"]
    ]
    assert section(table, "POD") == [
        [
            f"{pod['namespace']}/{pod['name']}",
            pod["ip"],
            yes(pod["in_mesh"]),
            f"{yes(pod['inbound']):7}  {pod['reason']}",
        ]
        for pod in report["pods"]
    ]
    assert section(table, "MAP") == [
        [each["name"], str(each["entries"]), str(each["max_entries"])] for each in report["maps"]
    ]
    assert section(table, "COUNTER") == [[name, str(value)] for name, value in report["counters"].items()]


def test_wide_table_and_yaml(stopped: Cluster) -> None:
    """The wide table has ids, UIDs and what was found of each pod; YAML has what JSON has."""
    report = stopped.status()[1]
    as_yaml = yaml.safe_load(stopped.merbridge("status", "-o", "yaml").stdout)
    for each in (as_yaml, report):
        del each["sources"]  # they have an age
    assert as_yaml == report
    wide = stopped.merbridge("status", "-o", "wide").stdout.rstrip("\n")
    assert f"events   of processes: {report['process_events']}, 0 lost" in wide.splitlines()
    hooks = {row[0]: row[3].split() for row in section(wide, "PROGRAM")}
    assert hooks["connect4"][1] == str(stopped.node.cgroup_root.stat().st_ino)
    pods = {row[0]: row[3].split(None, 6) for row in section(wide, "POD")}
    (app,) = (pod for pod in report["pods"] if pod["name"] == "app")
    assert (app["cgroups"], app["network_namespaces"], app["captures_dns"]) == (3, 1, False)
    assert pods["shop/app"] == ["yes", "no", "3", "1", str(app["netns_cookie"]), app["uid"], app["reason"]]
    maps = {row[0]: row[3] for row in section(wide, "MAP")}
    assert maps == {each["name"]: str(each["id"]) for each in report["maps"]}


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml"])
def test_reader_that_has_gone_is_no_failure(stopped: Cluster, form: str) -> None:
    """Into a pipe that nobody reads, status ends without a word, like other programs."""
    reading, writing = os.pipe()
    os.close(reading)
    line = [*merbridge_command("status"), "--bpffs", str(stopped.bpffs), "-o", form]
    try:
        done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# --- problems --------------------------------------------------------------------------------------------------------


def test_no_agent_is_a_problem(stopped: Cluster) -> None:
    """Without an agent all is told from the pins, and that none runs is the one problem."""
    exit_status, report = stopped.status()
    assert (exit_status, report["agent_running"], report["problems"]) == (1, False, [NO_AGENT])
    assert report["ztunnel_ip"] == stopped.ztunnel.ip
    assert len(report["pods"]) == 5


def test_missing_link_is_a_problem(stopped: Cluster) -> None:
    """A link whose pin is gone is told as a program that is not attached, for each of the programs."""
    gone: list[str] = []
    for name in ATTACH_ORDER:
        (stopped.bpffs / "links" / name).unlink()
        gone.append(name)
        assert problems(stopped) == not_attached(*gone)
    assert stopped.status()[0] == 1
    assert all(hook.link_id is None for hook in report_of(stopped).hooks)


def test_detached_link_is_a_problem(stopped: Cluster) -> None:
    """A link detached by hand, though it is pinned, is told; the next run attaches anew."""
    cluster = stopped
    detached: list[str] = []
    for name in ATTACH_ORDER:
        with Link.open(cluster.bpffs / "links" / name) as link:
            # BPF_LINK_DETACH takes the link's descriptor alone, which is the first field here.
            kernel.bpf(Command.LINK_DETACH, kernel.new("link_update", link_fd=link.fd), f"detach link {name}")
        detached.append(name)
        assert problems(cluster) == not_attached(*detached)
    assert cluster.status()[0] == 1
    cluster.start_agent().ready()
    assert (cluster.status()[0], attached(cluster)) == (0, list(ATTACH_ORDER))


def test_unknown_ztunnel_is_a_problem(cluster: Cluster) -> None:
    """Without a ztunnel the reason is told, with the number of connections refused so far."""
    cluster.ztunnel.labels["app"] = "other"
    cluster.publish()
    try:
        cluster.start_agent().ready()
        for _ in range(3):
            assert cluster.app.call(connect, cluster.server.ip, cluster.server_port)["error"] == "EPERM"
        assert problems(cluster) == [
            "no ztunnel is known, connections of enrolled pods are refused (3 so far): "  # noqa: ISC004  # one line
            "no pod of this node is labelled app=ztunnel in namespace istio-system"
        ]
        assert cluster.status()[1]["ztunnel_ip"] is None
    finally:
        cluster.ztunnel.labels["app"] = "ztunnel"
        cluster.publish()
    wait_until(lambda: cluster.status()[0] == 0, "ztunnel is known")


def test_map_without_room_is_a_problem(cluster: Cluster) -> None:
    """Where the pods have no room in the maps, the map, its size and the flag are told."""
    cluster.start_agent("--max-pods", "2").ready()
    (line,) = problems(cluster)
    # Five pods and the host; each pod has three cgroups.
    assert "map netns_info_map is full (2 entries), 4 more have no place: raise --max-pods" in line
    assert "map cgroup_info_map is full (8 entries), 7 more have no place: raise --max-pods" in line
    assert "map pods is full (2 entries), 3 more have no place: raise --max-pods" in line


def test_full_map_of_connections_is_a_problem(stopped: Cluster) -> None:
    """That connections found no room is told from its counter, with the flag to raise."""
    with stopped.pinned(layouts.counters, "counters") as counters:
        key = kernel.buffer(int(layouts.Count.ORIGINAL_DST_FULL).to_bytes(4, sys.byteorder))
        per_cpu = kernel.buffer((3).to_bytes(8, sys.byteorder) + bytes(8 * (possible_cpus() - 1)))
        places = {"key": kernel.address(key), "value_or_next_key": kernel.address(per_cpu)}
        element = kernel.new("map_elem", map_fd=counters.map.fd, **places)
        kernel.bpf(Command.MAP_UPDATE_ELEM, element, "set the counter")
    assert problems(stopped) == ["map original_dst was full 3 times: raise --max-connections"]


def test_failing_look_is_a_problem_while_it_lasts(cluster: Cluster) -> None:
    """When the agent cannot look at the node any more, status says so at once, and no longer once it can again."""
    proc = cluster.directory / "proc"
    proc.symlink_to("/proc")
    agent = cluster.start_agent("--proc", str(proc)).ready()
    assert cluster.status()[0] == 0
    proc.unlink()
    try:
        agent.wait_for("reconcile_failed", seconds=3.0)
        wait_until(lambda: problems(cluster), "status tells it", 1.0)
        (line,) = problems(cluster)
        assert str(proc) in line
        assert len(cluster.status()[1]["pods"]) == 5
    finally:
        proc.symlink_to("/proc")
    agent.wait_for("reconcile_recovered", seconds=3.0)
    assert cluster.status()[0] == 0
    proc.unlink()


# --- pins that are not what they should be ---------------------------------------------------------------------------


def test_missing_map_is_a_problem(stopped: Cluster) -> None:
    """Each map whose pin is gone is told by its path; the rest of the report stays."""
    gone = []
    for name in ("pods", "original_dst", "cgroup_info_map", "netns_info_map", "counters", "settings", "agent"):
        gone.append(stopped.bpffs / "maps" / name)
        gone[-1].unlink()
        told = problems(stopped)
        assert all(any(str(path) in line for line in told) for path in gone)
        assert attached(stopped) == list(ATTACH_ORDER)
    assert stopped.status()[0] == 1


def refusal(cluster: Cluster) -> str:
    """The one line of an agent that does not start."""
    agent = cluster.start_agent()
    agent.process.wait(10)
    assert agent.stop() == 1
    (line,) = agent.other_lines
    return line


def test_map_of_another_shape_is_a_problem(stopped: Cluster) -> None:
    """Another map under a name is told by its path and by what differs; run puts its own in its place."""
    for name in ("counters", "netns_info_map", "settings", "agent"):
        path = stopped.bpffs / "maps" / name
        path.unlink()
        with Map.create(HashMap[u32, OtherValue](max_entries=7).spec("other")) as other:
            other.pin(path)
        told = [line for line in problems(stopped) if str(path) in line]
        assert [line for line in told if line.startswith(f"the pinned map {path} is another than wanted: ")]
    assert stopped.status()[0] == 1
    stopped.start_agent().ready()
    assert problems(stopped) == []


def test_other_object_under_a_maps_name_is_a_problem(stopped: Cluster) -> None:
    """A link under a map's name is told by its path, without a traceback, by status and by run."""
    for name in ("netns_info_map", "agent", "settings"):
        path = stopped.bpffs / "maps" / name
        path.unlink()
        with Link.open(stopped.bpffs / "links" / "sockops") as link:
            link.pin(path)
        assert any(str(path) in line for line in problems(stopped))
    assert str(stopped.bpffs / "maps") in refusal(stopped)


def test_directory_in_a_folder_of_pins_is_no_traceback(stopped: Cluster) -> None:
    """A directory that somebody made among the pins is told in a line by cleanup, which takes the pins away."""
    strange = stopped.bpffs / "maps" / "strange"
    strange.mkdir()
    try:
        done = stopped.merbridge("cleanup")
        assert "Traceback" not in done.stderr
        assert str(strange) in done.stderr
        assert done.returncode == 1
        assert list((stopped.bpffs / "links").glob("*")) == []
    finally:
        strange.rmdir()


# --- beside others ---------------------------------------------------------------------------------------------------


_STATUS_AGAIN_AND_AGAIN = """
import sys, time
from merbridge.cli import main
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    if main(["status", "--bpffs", sys.argv[2]]) not in (0, 1, 2):
        sys.exit("another exit status")
"""


def test_status_while_the_datapath_comes_and_goes(cluster: Cluster) -> None:
    """Asked all the time, status never fails in another way than it says, nor keeps run or cleanup from their work."""
    asking = subprocess.Popen(
        [sys.executable, "-c", _STATUS_AGAIN_AND_AGAIN, "3", str(cluster.bpffs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        for _ in range(2):
            cluster.start_agent().ready().stop()
            assert cluster.merbridge("cleanup").returncode == 0
        _, said = asking.communicate(timeout=20)
    finally:
        asking.kill()
        asking.wait()
    assert "Traceback" not in said, said[-2000:]
    assert asking.returncode == 0, said[-2000:]


_WITHOUT_SOCKMAP_LINKS = """
import sys
from merbridge.cli import main
from pybpfasm.kernel import features, sys as kernel
from pybpfasm.kernel.links import sockmap
def create(program, target, attempted, **fields):
    raise kernel.failure(22, attempted)
sockmap.create = create
sockmap.lacks = lambda feature: feature is features.SOCKMAP_LINK
sys.exit(main(sys.argv[1:]))
"""


def test_kernel_without_sockmap_links_is_healthy(cluster: Cluster) -> None:
    """On a kernel where the sk_msg program is attached without a link, status does not call it missing."""
    line: list[Any] = ["run", "--source", f"file:{cluster.source}", "--cgroup-root", str(cluster.node.cgroup_root)]
    line += ["--bpffs", str(cluster.bpffs), "--node-name", cluster.node.name, "--log-format", "json"]
    line += ["--host-pid", str(cluster.node.host().containers["app"].pid)]
    agent = subprocess.Popen(
        [sys.executable, "-c", _WITHOUT_SOCKMAP_LINKS, *line], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert agent.stderr is not None
        wait_until(lambda: json.loads(agent.stderr.readline())["event"] == "ready", "it is ready")  # type: ignore[union-attr]
        assert cluster.status()[1]["problems"] == []
    finally:
        agent.terminate()
        agent.communicate(timeout=10)


def test_report_is_read_without_leaving_descriptors(stopped: Cluster) -> None:
    """Reading the report gives back every descriptor, whether or not the pins are whole."""
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    report_of(stopped)
    (stopped.bpffs / "maps" / "settings").unlink()
    (stopped.bpffs / "links" / "sockops").unlink()
    report_of(stopped)
    assert len(list(descriptors.iterdir())) == before
