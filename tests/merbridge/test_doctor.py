"""What `doctor` finds: a node that is as it has to be, and each thing that is not, with what to do."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import ApiServer
from cluster import NODE_NAME, ROOT, SLOWNESS, Cluster, merbridge_command
from pyroute2.nftables.main import NFTables

import pybpfasm as bpf
from merbridge.config import load_config
from merbridge.demo.pod_list import namespace_object, pod_object
from merbridge.doctor.cluster import look_for_istio_cni
from merbridge.doctor.finding import Verdict
from pybpfasm import SockAddr
from pybpfasm.compiler import compile_program
from pybpfasm.kernel import Program, features
from pybpfasm.kernel.links import CgroupMode, attach_cgroup, attach_cgroup_directly, detach_cgroup_directly

Findings = list[dict[str, str]]


@bpf.connect4
def other(ctx: SockAddr) -> int:
    """Somebody else's program for connections, which lets all pass."""
    return 1


@pytest.fixture(scope="module", autouse=True)
def proxies(cluster: Cluster) -> None:
    """Ztunnel listens for connections out of pods and into them."""
    cluster.ztunnel.start_proxy()
    cluster.ztunnel.start_proxy(15006)


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    """Each test begins and ends with the usual list of pods, and without a datapath."""
    yield
    cluster.publish()
    if cluster.bpffs.exists():
        cluster.end_datapath()


@pytest.fixture
def other_program() -> Iterator[Program]:
    """It, loaded and attached nowhere."""
    spec = compile_program(other)
    with Program.load(spec) as program:
        yield program


def command_of(cluster: Cluster, *flags: str) -> list[str]:
    """The command line of `doctor` on the cluster's node, which has no kubelet."""
    own = () if "--exempt-cgroup" in flags else ("--exempt-cgroup", "none")
    return [*merbridge_command("doctor"), *cluster.settings(*own, *flags)]


def ended(line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=60 * SLOWNESS, check=False)


def findings_of(cluster: Cluster, *flags: str, prefix: tuple[str, ...] = ()) -> tuple[int, Findings]:
    """Exit status and findings of `doctor`."""
    done = ended([*prefix, *command_of(cluster, *flags), "-o", "json"])
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["healthy"] == (done.returncode == 0)
    return done.returncode, report["findings"]


def problems(findings: Findings, area: str) -> list[str]:
    """The problems of an area, with what to do."""
    return [
        f"{each['text']}: {each['remedy']}"
        for each in findings
        if each["verdict"] == "problem" and each["area"] == area
    ]


def notes(findings: Findings, area: str) -> list[str]:
    """What an area has that is worth knowing."""
    return [each["text"] for each in findings if each["verdict"] == "note" and each["area"] == area]


def rewrite(cluster: Cluster, change: Callable[[dict[str, Any]], None]) -> None:
    """Change ztunnel's object in the list of pods."""
    documents = list(yaml.safe_load_all(cluster.source.read_text()))
    (ztunnel,) = (
        each
        for document in documents
        for each in document.get("items", [])
        if each["kind"] == "Pod" and each["metadata"]["name"] == "ztunnel"
    )
    change(ztunnel)
    # As kubectl has it: the kind of a list comes behind its items, which shows that it is whole.
    cluster.source.write_text(yaml.safe_dump_all(documents))


def test_all_is_well(cluster: Cluster) -> None:
    """With an agent at work and nothing wrong: exit 0, no problem, in JSON and as a table; each area was looked at."""
    cluster.start_agent().ready()
    exit_status, findings = findings_of(cluster)
    assert (exit_status, [each for each in findings if each["verdict"] == "problem"]) == (0, [])
    areas = {each["area"] for each in findings}
    assert areas == {
        "kernel", "privileges", "cgroups", "processes", "pins", "hooks", "source", "ztunnel", "iptables", "istio-cni",
        "agent",
    }  # fmt: skip
    table = ended(command_of(cluster))
    assert table.returncode == 0
    assert table.stdout.splitlines()[-1] == "all well"
    assert "ok       ztunnel     istio-system/ztunnel listens at 15001 and 15006" in table.stdout.splitlines()


def test_before_the_first_start(cluster: Cluster) -> None:
    """A node that is ready for the agent has no problem, and `doctor` makes nothing there."""
    exit_status, findings = findings_of(cluster)
    assert (exit_status, notes(findings, "agent")) == (0, ["nothing is attached yet"])
    assert not cluster.bpffs.exists()


def test_a_datapath_without_an_agent_is_told(cluster: Cluster) -> None:
    """What `status` tells as a problem is one here."""
    cluster.start_agent().ready().kill()
    exit_status, findings = findings_of(cluster)
    assert exit_status == 1
    assert problems(findings, "agent") == ["no agent runs: the datapath works with what it knew last: "]


def test_a_node_is_looked_at_without_a_source(cluster: Cluster) -> None:
    """Without --source that is one problem, and the node is looked at all the same."""
    line = command_of(cluster, "-o", "json")
    at = line.index("--source")
    done = ended(line[:at] + line[at + 2 :])
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 1
    (text,) = problems(findings, "source")
    assert text.startswith("no source of pods is given: add --source")
    # Where functions cannot be traced, it says what is not told of.
    expected = ["ok"] if features.FENTRY.supported() else ["ok", "note"]
    assert [each["verdict"] for each in findings if each["area"] == "processes"] == expected


def test_other_settings_are_refused_in_a_line(cluster: Cluster) -> None:
    """A setting that is not allowed leaves nothing to look at: exit 2, one line."""
    done = ended(command_of(cluster, "--out-port", "0"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "merbridge doctor: flag --out-port: '0' is not allowed: give a TCP port, 1 to 65535\n"


def test_a_wrong_node_name_is_told(cluster: Cluster) -> None:
    """A node that the source has no pods of."""
    exit_status, findings = findings_of(cluster, "--node-name", "elsewhere")
    assert exit_status == 1
    assert problems(findings, "source") == ["no pod of node elsewhere is known: give the node's name with --node-name"]
    assert len(problems(findings, "ztunnel")) == 1


def test_ztunnels_init_container_is_told(cluster: Cluster) -> None:
    """The container that makes iptables rules in ztunnel's namespace has to go."""
    rewrite(cluster, lambda pod: pod["spec"].update(initContainers=[{"name": "istio-init"}]))
    exit_status, findings = findings_of(cluster)
    assert exit_status == 1
    (text,) = problems(findings, "ztunnel")
    assert text.startswith("istio-system/ztunnel has the init container istio-init, which makes iptables rules: remove")


def test_a_ztunnel_that_does_not_listen_is_told(cluster: Cluster) -> None:
    """Nobody is at the port that connections are sent to."""
    exit_status, findings = findings_of(cluster, "--out-port", "15999")
    assert exit_status == 1
    (text,) = problems(findings, "ztunnel")
    assert text.startswith("nobody listens at port 15999 (--out-port) in the namespace of istio-system/ztunnel")


def test_istio_cnis_pod_is_told(cluster: Cluster) -> None:
    """A pod of istio-cni's on this node."""
    rewrite(cluster, lambda pod: pod["metadata"]["labels"].update({"k8s-app": "istio-cni-node"}))
    exit_status, findings = findings_of(cluster)
    assert exit_status == 1
    (text,) = problems(findings, "istio-cni")
    assert text.startswith(
        "istio-system/ztunnel runs on this node, and redirects the same pods by iptables: disable it"
    )


def test_istio_cnis_plugin_is_told(tmp_path: Path) -> None:
    """The plugin in the CNI's configuration, found through PID 1's root; other plugins are nobody's concern."""
    folder = tmp_path / "1" / "root" / "etc" / "cni" / "net.d"
    folder.mkdir(parents=True)
    (folder / "05-bridge.conflist").write_text('{"plugins": [{"type": "bridge"}]}')
    settings = load_config({"source": "file:pods.yaml", "proc": str(tmp_path)}, {})
    assert [each.verdict for each in look_for_istio_cni(settings, None)] == [Verdict.OK]
    (folder / "10-kindnet.conflist").write_text('{"plugins": [{"type": "ptp"}, {"type": "istio-cni"}]}')
    (found,) = look_for_istio_cni(settings, None)
    assert found.verdict is Verdict.PROBLEM
    assert found.text.startswith("/etc/cni/net.d/10-kindnet.conflist names the plugin istio-cni")


def test_rules_left_in_a_pod_are_told(cluster: Cluster) -> None:
    """Chains of istio-cni's in an enrolled pod are told; in a pod outside the mesh they are a sidecar's."""

    def leave_chain() -> None:
        with NFTables(nfgen_family=2) as tables:
            tables.table("add", name="nat")
            tables.chain("add", table="nat", name="ISTIO_OUTPUT")

    def remove() -> None:
        with NFTables(nfgen_family=2) as tables:
            tables.table("del", name="nat")

    for pod in (cluster.app, cluster.outside):
        pod.in_netns(leave_chain)
    try:
        exit_status, findings = findings_of(cluster)
    finally:
        for pod in (cluster.app, cluster.outside):
            pod.in_netns(remove)
    assert exit_status == 1
    (text,) = problems(findings, "iptables")
    assert text.startswith("pod shop/app has chains of istio-cni's: ISTIO_OUTPUT (table nat): start the pod anew")


def test_other_programs_are_told(cluster: Cluster, other_program: Program) -> None:
    """A program beside ours is worth knowing, and no problem."""
    cluster.start_agent().ready()
    with attach_cgroup(other_program, cluster.node.cgroup_root):
        exit_status, findings = findings_of(cluster)
    assert exit_status == 0
    (text,) = notes(findings, "hooks")
    assert text.startswith(f"program other (id {other_program.info().id}) is at the hook of connect4 of ")


def test_a_program_in_the_way_is_told(cluster: Cluster, other_program: Program) -> None:
    """One that has our cgroup's hook for itself keeps the agent from attaching."""
    attach_cgroup_directly(other_program, cluster.node.cgroup_root, mode=CgroupMode.EXCLUSIVE).keep()
    try:
        exit_status, findings = findings_of(cluster)
    finally:
        detach_cgroup_directly(other_program, cluster.node.cgroup_root)
    assert exit_status == 1
    (text,) = problems(findings, "hooks")
    assert "has the hook of connect4 at" in text
    assert "merbridge cannot attach" in text


@pytest.mark.parametrize("name", ["net_admin", "sys_ptrace", "sys_admin"])
def test_a_missing_capability_is_told(cluster: Cluster, name: str) -> None:
    """Which one, what it is for, and what to do; what cannot be looked at without it is told in a line."""
    removed = f"-{name}"
    prefix = ("setpriv", f"--bounding-set={removed}", f"--inh-caps={removed}")
    exit_status, findings = findings_of(cluster, prefix=prefix)
    assert exit_status == 1
    (text,) = problems(findings, "privileges")
    assert text.startswith(f"CAP_{name.upper()} is missing, to " if name != "sys_admin" else "CAP_SYS_ADMIN is missing")
    assert text.endswith(f"add {name.upper()} to the container")


def test_a_cgroup_without_pods_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """A tree in which no pod is, and a folder that is no cgroup."""
    cgroup = cluster.app.cgroup_paths["app"]
    exit_status, findings = findings_of(cluster, "--cgroup-root", str(cgroup))
    assert exit_status == 1
    assert problems(findings, "cgroups")[0].startswith(f"{cgroup}: no pod's cgroup is below it")
    exit_status, findings = findings_of(cluster, "--cgroup-root", str(tmp_path))
    assert exit_status == 1
    assert problems(findings, "cgroups") == [f"{tmp_path}: no cgroup2 directory: see --cgroup-root: "]


def test_a_missing_exempt_cgroup_is_told(cluster: Cluster) -> None:
    """The kubelet's cgroup has another name: its probes go to ztunnel."""
    exit_status, findings = findings_of(cluster, "--exempt-cgroup", "kubelet.service")
    assert (exit_status, len(notes(findings, "cgroups"))) == (0, 1)
    assert notes(findings, "cgroups")[0].startswith("no cgroup of the host is named kubelet.service")


def test_a_place_for_pins_that_is_none_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """A folder that holds something else."""
    (tmp_path / "file").write_text("")
    exit_status, findings = findings_of(cluster, "--bpffs", str(tmp_path))
    assert exit_status == 1
    assert problems(findings, "pins")[0].startswith(f"{tmp_path} is something else than a bpf file system")


def test_what_the_api_does_not_allow_is_told(cluster: Cluster) -> None:
    """Each verb that the agent uses and its user lacks, the patch of the annotation too; with all, all is well."""
    kubeconfig = cluster.directory / "kubeconfig"
    with ApiServer() as api:
        for name, labels in cluster.node.namespaces.items():
            api.store.put(namespace_object(name, labels, cluster.app.created))
        for pod in cluster.node.pods:
            api.store.put(pod_object(pod, NODE_NAME))
        api.write_kubeconfig(kubeconfig)
        flags = ("--source", "kubernetes", "--kubeconfig", str(kubeconfig))
        exit_status, findings = findings_of(cluster, *flags)
        assert (exit_status, problems(findings, "source")) == (0, [])
        for verb, resource in (("patch", "pods"), ("list", "namespaces"), ("watch", "pods")):
            api.forbidden.add((verb, resource))
            exit_status, findings = findings_of(cluster, *flags)
            api.forbidden.clear()
            assert exit_status == 1
            (text,) = problems(findings, "source")
            assert f"not allowed to {verb} {resource}" in text
            assert "ClusterRole" in text
        api.forbidden.add(("patch", "pods"))
        assert findings_of(cluster, *flags, "--annotate", "off")[0] == 0


def test_an_api_that_does_not_answer_is_told(cluster: Cluster) -> None:
    """The server is gone: one line, and the rest is looked at."""
    kubeconfig = cluster.directory / "kubeconfig"
    with ApiServer() as api:
        api.write_kubeconfig(kubeconfig)
    exit_status, findings = findings_of(cluster, "--source", "kubernetes", "--kubeconfig", str(kubeconfig))
    assert exit_status == 1
    assert "Connection refused" in problems(findings, "source")[0]
    assert [each["verdict"] for each in findings if each["area"] == "hooks"] == ["ok"]
