"""The whole agent with `--source kubernetes`: what the API says takes effect on the node's real connections."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from apiserver import ApiServer, Fault
from apiserver.objects import pod as api_pod
from cluster import NODE_NAME, ROOT, SLOWNESS, Agent, Cluster, wait_until

import programs.maps
from merbridge.demo.pod import connect
from merbridge.demo.pod_list import namespace_object, pod_object
from merbridge.demo.workloads import Pod
from merbridge.model import REDIRECTION

PODS = 100
OTHER_NODES = ("node-2", "node-3")


class Api(ApiServer):
    """An API server that has the cluster's pods, and those of other nodes."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        self.kubeconfig = cluster.directory / "kubeconfig"

    def fill(self) -> None:
        """Put the cluster's namespaces and pods in, and so many of other nodes that there are 100."""
        node = self._cluster.node
        for name, labels in node.namespaces.items():
            self.store.put(namespace_object(name, labels, self._cluster.app.created))
        for each in node.pods:
            self.publish(each)
        for number in range(PODS - len(node.pods)):
            self.store.put(api_pod(f"far-{number}", node=OTHER_NODES[number % 2], ip=f"10.244.3.{number + 1}"))
        self.write_kubeconfig(self.kubeconfig)

    def publish(self, pod: Pod) -> None:
        """Put a pod of the cluster in as it is now."""
        self.store.put(pod_object(pod, NODE_NAME))

    def label_namespace(self, name: str, mode: str | None) -> None:
        """Set or take away the label that puts a namespace's pods into the mesh."""
        self.store.merge("namespaces", "", name, {"metadata": {"labels": {"istio.io/dataplane-mode": mode}}})


@pytest.fixture
def api(cluster: Cluster) -> Iterator[Api]:
    """A running API server with 100 pods; afterwards there is no datapath."""
    with Api(cluster) as started:
        started.fill()
        yield started
        if cluster.bpffs.exists():
            cluster.end_datapath()


@pytest.fixture(scope="module", autouse=True)
def proxy(cluster: Cluster) -> None:
    """Ztunnel's proxy."""
    cluster.ztunnel.start_proxy()


def start(cluster: Cluster, api: Api, *flags: str) -> Agent:
    """An agent that follows the API."""
    return cluster.start_agent("--source", "kubernetes", "--kubeconfig", str(api.kubeconfig), *flags)


def goes_by_ztunnel(cluster: Cluster, pod: Pod) -> bool:
    """Whether a pod's connection to the server is made by ztunnel."""
    result = pod.call(connect, cluster.server.ip, cluster.server_port, greeting=True)
    assert result["seen"] is not None, result
    return result["seen"]["peer_address"] == cluster.ztunnel.ip


def test_only_this_nodes_pods_count(cluster: Cluster, api: Api) -> None:
    """Of 100 pods in the API, status and maps have this node's alone; the source is told with its versions."""
    start(cluster, api).ready()
    exit_status, report = cluster.status()
    assert (exit_status, report["problems"]) == (0, [])
    assert {pod["name"] for pod in report["pods"]} == {"app", "second-app", "outside", "server", "ztunnel"}
    with cluster.pinned(programs.maps.netns_info_map, "netns_info_map") as memberships:
        assert len(memberships.read_all()) == 6  # and the host's
    assert [(each["name"], each["synced"], each["problem"]) for each in report["sources"]] == [
        ("pods", True, ""),
        ("namespaces", True, ""),
    ]
    assert all(int(each["version"]) <= api.store.version for each in report["sources"])
    assert all(each["heard_seconds_ago"] <= 5 * SLOWNESS for each in report["sources"])
    table = cluster.merbridge("status").stdout.splitlines()
    header = next(number for number, line in enumerate(table) if line.startswith("SOURCE"))
    assert table[header].split() == ["SOURCE", "SYNCED", "VERSION", "HEARD"]
    assert table[header + 1].split()[:2] == ["pods", "yes"]
    assert goes_by_ztunnel(cluster, cluster.app)
    assert not goes_by_ztunnel(cluster, cluster.outside)


def test_namespace_label_takes_effect(cluster: Cluster, api: Api) -> None:
    """A namespace's label puts its running pods into the mesh, and takes them out when it goes."""
    agent = start(cluster, api).ready()
    assert not goes_by_ztunnel(cluster, cluster.outside)
    api.label_namespace("elsewhere", "ambient")
    agent.wait_for("pod_in_mesh", pod="elsewhere/outside")
    wait_until(lambda: goes_by_ztunnel(cluster, cluster.outside), "the pod is in the mesh")
    mark = agent.mark()
    api.label_namespace("elsewhere", None)
    agent.wait_for("pod_outside_mesh", since=mark, pod="elsewhere/outside")
    wait_until(lambda: not goes_by_ztunnel(cluster, cluster.outside), "the pod has left the mesh")


def test_kubectl_label_takes_effect(cluster: Cluster, api: Api) -> None:
    """`kubectl label` on a pod takes it out of the mesh, as an operator would do it."""
    program = shutil.which("kubectl")
    assert program, "kubectl is missing, and the tests need it: tools/install-test-packages installs it"
    start(cluster, api).ready()
    assert goes_by_ztunnel(cluster, cluster.app)
    line = [program, "--kubeconfig", str(api.kubeconfig), "--cache-dir", str(cluster.directory / "kubectl")]
    try:
        subprocess.run(
            [*line, "label", "pod", "-n", "shop", "app", "istio.io/dataplane-mode=none"],
            check=True,
            capture_output=True,
            timeout=30 * SLOWNESS,
        )
        wait_until(lambda: not goes_by_ztunnel(cluster, cluster.app), "the pod has left the mesh")
    finally:
        shutil.rmtree(cluster.directory / "kubectl", ignore_errors=True)


def test_pods_come_and_go(cluster: Cluster, api: Api) -> None:
    """A pod is enrolled when the API names it, and forgotten when the API deletes it."""
    agent = start(cluster, api).ready()
    pod = cluster.node.add_pod("young", namespace="shop")
    try:
        api.publish(pod)
        agent.wait_for("pod_in_mesh", pod="shop/young")
        wait_until(lambda: goes_by_ztunnel(cluster, pod), "the new pod is in the mesh")
    finally:
        cluster.node.remove_pod(pod)
    api.store.delete("pods", "shop", "young")
    wait_until(lambda: "young" not in {each["name"] for each in cluster.status()[1]["pods"]}, "it is forgotten")
    with cluster.pinned(programs.maps.netns_info_map, "netns_info_map") as memberships:
        assert len(memberships.read_all()) == 6


def test_outage_changes_nothing(cluster: Cluster, api: Api) -> None:
    """While the API is away the mesh stays as it is and status says so; afterwards what changed is made true."""
    agent = start(cluster, api).ready()
    api.stop()
    event = agent.wait_for("source_failed")
    assert "Connection refused" in event["problem"]
    assert event["problem"].endswith("the last good state stays in force")
    exit_status, report = cluster.status()
    assert exit_status == 1
    assert event["problem"] in report["problems"]
    assert [each["synced"] for each in report["sources"]] == [True, True]
    assert all("Connection refused" in each["problem"] for each in report["sources"])
    api.label_namespace("shop", None)
    time.sleep(1.2)  # a look of the agent meanwhile
    assert goes_by_ztunnel(cluster, cluster.app)
    assert not goes_by_ztunnel(cluster, cluster.outside)
    api.start()
    wait_until(lambda: not goes_by_ztunnel(cluster, cluster.app), "what changed takes effect", 30.0)
    agent.wait_for("source_recovered", seconds=5.0)
    wait_until(lambda: cluster.status()[0] == 0, "status is healthy")


def test_deletion_during_an_outage_is_noticed(cluster: Cluster, api: Api) -> None:
    """A pod that is deleted while the API is away, and its history forgotten, is gone after the next list."""
    agent = start(cluster, api).ready()
    api.stop()
    agent.wait_for("source_failed")
    api.store.delete("pods", "elsewhere", "outside")
    api.store.forget_history()
    api.start()
    wait_until(lambda: "outside" not in {each["name"] for each in cluster.status()[1]["pods"]}, "it is gone", 30.0)
    assert goes_by_ztunnel(cluster, cluster.app)


def test_start_without_the_api_waits_and_touches_nothing(cluster: Cluster, api: Api) -> None:
    """An agent that starts while the API is away leaves what is attached as it is, ends at once, or goes on later."""
    start(cluster, api).ready().kill()
    api.stop()
    api.label_namespace("shop", None)
    waiting = start(cluster, api)
    event = waiting.wait_for("source_failed", seconds=10.0)
    assert event["problem"].endswith("nothing changes on this node until it is known")
    assert goes_by_ztunnel(cluster, cluster.app)
    assert seconds_to_stop(waiting) < 1.0 * SLOWNESS
    assert waiting.events[-1]["event"] == "stopped"
    second = start(cluster, api)
    second.wait_for("source_failed", seconds=10.0)
    api.start()
    second.wait_for("ready", seconds=40.0)
    assert not goes_by_ztunnel(cluster, cluster.app)


def test_sigterm_ends_the_agent_within_a_second(cluster: Cluster, api: Api) -> None:
    """Open watches do not hold the end up, and nothing is said about their breaking."""
    agent = start(cluster, api).ready()
    time.sleep(0.3)
    assert seconds_to_stop(agent) < 1.0 * SLOWNESS
    assert agent.other_lines == []
    assert [event for event in agent.events if "fail" in event["event"]] == []


def test_sigterm_ends_the_agent_though_the_api_hangs(cluster: Cluster, api: Api) -> None:
    """An API that takes requests and never answers, patches too, does not hold the end up."""
    api.fail(Fault("hang", "patch", times=1000))
    agent = start(cluster, api).ready()
    api.fail(Fault("hang", times=1000))
    api.cut_connections()
    wait_until(lambda: len(api.asked("watch", "pods")) >= 2, "a watch hangs")
    wait_until(lambda: len(api.asked("watch", "namespaces")) >= 2, "the other hangs, too")
    wait_until(lambda: api.asked("patch", "pods"), "and so does a patch")
    assert seconds_to_stop(agent) < 1.0 * SLOWNESS
    assert agent.other_lines == []


def seconds_to_stop(agent: Agent) -> float:
    """How long an agent lives after SIGTERM; it must end well."""
    began = time.monotonic()
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(30) == 0
    took = time.monotonic() - began
    agent.stop()
    return took


def test_missing_permission_is_in_log_and_status(cluster: Cluster, api: Api) -> None:
    """A right that is taken away is named in the log and by status; the mesh stays."""
    agent = start(cluster, api).ready()
    api.forbidden.add(("watch", "namespaces"))
    api.cut_connections()
    event = agent.wait_for("source_failed", seconds=5.0)
    assert event["problem"].startswith("not allowed to watch namespaces: give the agent's user a ClusterRole")
    assert cluster.status()[1]["problems"] == [event["problem"]]
    assert goes_by_ztunnel(cluster, cluster.app)
    api.forbidden.clear()
    agent.wait_for("source_recovered", seconds=30.0)


def test_unusable_kubeconfig_ends_the_start(cluster: Cluster, tmp_path: Path) -> None:
    """A kubeconfig that is not there is the user's to mend: exit 1 and one line."""
    agent = cluster.start_agent("--source", "kubernetes", "--kubeconfig", str(tmp_path / "none"))
    assert agent.process.wait(10 * SLOWNESS) == 1
    agent.stop()
    (line,) = agent.other_lines
    assert line == (
        f"merbridge run: kubeconfig {tmp_path / 'none'}: cannot be used to reach the Kubernetes API: no such file "
        "(--kubeconfig, --context)\n"
    )


# --- telling Istio ---------------------------------------------------------------------------------------------------


def annotation(api: Api, pod: Pod) -> str | None:
    """What a pod's annotation for Istio is in the API."""
    metadata = api.store.get("pods", pod.namespace, pod.name)["metadata"]
    value: str | None = metadata.get("annotations", {}).get(REDIRECTION)
    return value


def annotations(cluster: Cluster, api: Api) -> dict[str, str | None]:
    """The annotation of each of this node's pods."""
    return {pod.name: annotation(api, pod) for pod in cluster.node.pods}


def test_captured_pods_are_annotated(cluster: Cluster, api: Api) -> None:
    """Enrolled pods, no others, carry the annotation, from capture until they leave; a hand's change is repaired."""
    start(cluster, api).ready()
    expected: dict[str, str | None] = dict.fromkeys(("app", "second-app"), "enabled")
    expected |= dict.fromkeys(("outside", "server", "ztunnel"), None)
    wait_until(lambda: annotations(cluster, api) == expected, "the enrolled pods are annotated")
    api.label_namespace("shop", None)
    wait_until(lambda: set(annotations(cluster, api).values()) == {None}, "they have left the mesh")
    api.label_namespace("shop", "ambient")
    wait_until(lambda: annotations(cluster, api) == expected, "they are back", 15.0)
    api.store.merge("pods", "shop", "app", {"metadata": {"annotations": {REDIRECTION: None}}})
    wait_until(lambda: annotations(cluster, api) == expected, "what a hand has taken away is back", 15.0)
    api.store.merge("pods", "elsewhere", "outside", {"metadata": {"annotations": {REDIRECTION: "enabled"}}})
    wait_until(lambda: annotations(cluster, api) == expected, "what is not true is taken away", 15.0)
    far = [each for each in api.asked("patch", "pods") if each.name.startswith("far-")]
    assert far == [], "pods of other nodes are not this agent's"


def test_opt_out_is_respected(cluster: Cluster, api: Api) -> None:
    """A pod that says `disabled` leaves the mesh, and keeps its annotation."""
    start(cluster, api).ready()
    wait_until(lambda: annotation(api, cluster.app) == "enabled", "it is annotated")
    api.store.merge("pods", "shop", "app", {"metadata": {"annotations": {REDIRECTION: "disabled"}}})
    wait_until(lambda: not goes_by_ztunnel(cluster, cluster.app), "it has left the mesh")
    time.sleep(1.2)
    assert annotation(api, cluster.app) == "disabled"


def test_forbidden_patch_is_told_and_harms_nothing(cluster: Cluster, api: Api) -> None:
    """Without the right to patch, log and status name it, and interception works; with it, the rest is made up for."""
    api.forbidden.add(("patch", "pods"))
    agent = start(cluster, api).ready()
    event = agent.wait_for("annotate_failed", seconds=5.0)
    assert event["problem"].startswith(
        "annotations for Istio wait: not allowed to patch pods: give the agent's user a ClusterRole"
    )
    exit_status, report = cluster.status()
    assert exit_status == 1
    assert report["problems"][0].startswith("annotations for Istio wait: not allowed to patch pods: ")
    assert goes_by_ztunnel(cluster, cluster.app)
    api.forbidden.clear()
    wait_until(lambda: annotation(api, cluster.app) == "enabled", "it is annotated", 30.0)
    agent.wait_for("annotate_recovered", seconds=5.0)


def test_documented_role_is_what_is_used(cluster: Cluster, api: Api) -> None:
    """The ClusterRole of docs/agent.md has the verbs that the agent uses, and no more."""
    page = (ROOT / "docs" / "agent.md").read_text()
    (block,) = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", page, re.S)
    rules = yaml.safe_load(block)["rules"]
    documented = {(verb, name) for rule in rules for name in rule["resources"] for verb in rule["verbs"]}
    start(cluster, api).ready()
    wait_until(lambda: annotation(api, cluster.app) == "enabled", "it is annotated")
    wait_until(lambda: api.asked("watch", "namespaces") and api.asked("watch", "pods"), "both are watched")
    assert {(each.verb, each.resource) for each in api.requests} == documented


def test_annotate_off_writes_nothing(cluster: Cluster, api: Api) -> None:
    """With --annotate off the API is only read."""
    start(cluster, api, "--annotate", "off").ready()
    assert goes_by_ztunnel(cluster, cluster.app)
    time.sleep(0.5)
    assert api.asked("patch", "pods") == []
