"""The cluster as the source shows it: whether it answers, ztunnel, and what is left of istio-cni."""

import select
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from merbridge.config import Config
from merbridge.doctor.finding import Finding, note, ok, problem
from merbridge.model import EnrolmentPolicy, Pod, Snapshot, choose_ztunnel, is_ztunnel, local_pods
from merbridge.sources import SourceState, choose_source
from merbridge.sources.kubernetes import KubernetesSource
from merbridge.watchers.observe import NodeObservation

_ANSWER_SECONDS = 10.0
_SETTLE_SECONDS = 0.5  # the watches follow the lists

_NODE_AGENT = {"k8s-app": "istio-cni-node"}
_LISTENING = "0A"


def look_at_source(config: Config) -> tuple[Snapshot | None, list[Finding]]:
    """What the source knows, and whether it may be asked all that the agent asks."""
    with closing(choose_source(config)) as source:
        source.start()
        deadline = time.monotonic() + _ANSWER_SECONDS
        while source.latest() is None and not _problems(source.states()) and time.monotonic() < deadline:
            select.select(source.descriptors(), [], [], 0.1)
        snapshot = source.latest()
        findings: list[Finding] = []
        if isinstance(source, KubernetesSource):
            time.sleep(_SETTLE_SECONDS if snapshot else 0.0)
            if snapshot and config.annotate == "on":
                findings += [problem("source", text) for text in source.annotation_denied()]
        findings += [problem("source", text) for text in _problems(source.states())]
    if snapshot is None:
        return None, findings or [problem("source", f"{config.source}: no answer in {_ANSWER_SECONDS:.0f} s")]
    local = local_pods(snapshot, config.node_name)
    if not local:
        findings.append(
            problem("source", f"no pod of node {config.node_name} is known", "give the node's name with --node-name")
        )
    return snapshot, findings or [ok("source", f"{len(local)} pods of node {config.node_name} are known")]


def _problems(states: Iterable[SourceState]) -> list[str]:
    return list(dict.fromkeys(each.problem for each in states if each.problem))


def look_at_ztunnel(config: Config, snapshot: Snapshot, observation: NodeObservation) -> Iterator[Finding]:
    """Whether there is one on this node, made as the agent needs it, and it listens."""
    policy = EnrolmentPolicy(ztunnel_namespace=config.ztunnel_namespace)
    candidates = [pod for pod in local_pods(snapshot, config.node_name) if is_ztunnel(pod, policy)]
    ztunnel = choose_ztunnel(candidates)
    if ztunnel is None:
        yield problem(
            "ztunnel",
            f"no pod labelled app=ztunnel of namespace {config.ztunnel_namespace} runs on node {config.node_name}",
            "enrolled pods are refused until there is one; see --ztunnel-namespace",
        )
        return
    for pod in candidates:
        if pod.init_containers:
            yield problem(
                "ztunnel",
                f"{pod.full_name} has the init container {', '.join(pod.init_containers)}, which makes iptables rules",
                "remove it from ztunnel's DaemonSet: the rules would catch what merbridge sends",
            )
    if not ztunnel.ready:
        yield problem("ztunnel", f"{ztunnel.full_name} is not ready", "look at its log")
    yield from _listeners(config, ztunnel, observation)


def _listeners(config: Config, ztunnel: Pod, observation: NodeObservation) -> Iterator[Finding]:
    presence = observation.pods.get(ztunnel.kubelet_uid)
    if presence is None or not presence.netns:
        yield problem("ztunnel", f"no process of {ztunnel.full_name} is seen on this node", "see `processes`")
        return
    ports = _listening_ports(config.proc / str(presence.netns[0].pid) / "net")
    wanted = {"--out-port": config.out_port, "--in-port": config.in_port}
    missing = [f"{port} ({flag})" for flag, port in wanted.items() if port not in ports]
    if missing:
        yield problem(
            "ztunnel",
            f"nobody listens at port {', '.join(missing)} in the namespace of {ztunnel.full_name}",
            "what is sent there is refused: look at its log, or give the port that it has",
        )
    else:
        yield ok("ztunnel", f"{ztunnel.full_name} listens at {config.out_port} and {config.in_port}")


def _listening_ports(folder: Path) -> frozenset[int]:
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            lines = (line.split() for line in (folder / name).read_text().splitlines()[1:])
            ports |= {int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == _LISTENING}
    return frozenset(ports)


def look_for_istio_cni(config: Config, snapshot: Snapshot | None) -> Iterator[Finding]:
    """Its pod on this node, and its entry in the CNI's configuration."""
    pods = local_pods(snapshot, config.node_name) if snapshot else ()
    running = [pod for pod in pods if pod.labels.items() >= _NODE_AGENT.items() and not pod.finished]
    for pod in running:
        yield problem(
            "istio-cni",
            f"{pod.full_name} runs on this node, and redirects the same pods by iptables",
            "disable it: install Istio with components.cni.enabled=false, or delete the DaemonSet istio-cni-node",
        )
    folder = config.proc / "1" / "root" / "etc" / "cni" / "net.d"
    try:
        left = [
            path
            for path in sorted(folder.iterdir())
            if path.is_file() and '"istio-cni"' in path.read_text(errors="replace")
        ]
    except (FileNotFoundError, NotADirectoryError):
        left = []
    except OSError as error:
        yield note("istio-cni", f"{error.filename}: the CNI's configuration cannot be read: {error.strerror}")
        left = []
    for path in left:
        yield problem(
            "istio-cni",
            f"/etc/cni/net.d/{path.name} names the plugin istio-cni, which makes rules in each new pod",
            "remove it from the list of plugins, as its DaemonSet does when it is deleted",
        )
    if not running and not left:
        yield ok("istio-cni", "does not run on this node")
