"""The demo: real traffic through the datapath on a small node, checked against what should happen, as a table."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs

from merbridge.demo.agent_process import AgentProcess
from merbridge.demo.node import Node
from merbridge.demo.pod import ConnectResult, connect, listen
from merbridge.demo.proxy import Record
from merbridge.demo.proxy_process import ProxyProcess
from merbridge.demo.signals import exit_on_sigterm
from merbridge.demo.workloads import Pod, Workload
from merbridge.model import DATAPLANE_MODE
from merbridge.observe.render import table

_MESSAGE = "the bytes must come back as they were sent"
_OUT_PORT, _IN_PORT = 15001, 15006
_SETTLE_SECONDS = 5.0

_HEADER = ("WHO", "DIALLED", "ARRIVED AT", "ORIGINAL DESTINATION", "SOURCE", "EXPECTED", "VERDICT")


@attrs.frozen
class Outcome:
    """One connection: what was dialled, where it arrived, and what the proxy saw of it."""

    who: str
    dialled: str
    result: ConnectResult
    record: Record | None
    through_ztunnel: bool

    @property
    def arrived(self) -> str:
        """Where the connection arrived."""
        if self.result["error"]:
            return self.result["error"]
        if self.record:
            return f"ztunnel {self.record['local_address']}:{self.record['local_port']}"
        return f"{self.result['peer_address']}:{self.result['peer_port']}"

    @property
    def original(self) -> str | None:
        """Where the proxy learnt that it was meant to go."""
        return f"{self.record['original_address']}:{self.record['original_port']}" if self.record else None

    @property
    def as_expected(self) -> bool:
        """Whether it went the way it should, with the right addresses and bytes."""
        if self.result["error"] or self.result["received"] != _MESSAGE:
            return False
        if not self.through_ztunnel:
            return self.record is None and self.arrived == self.dialled
        source = self.result["local_address"]
        return self.record is not None and self.original == self.dialled and self.record["peer_address"] == source

    def row(self) -> list[str]:
        """The outcome for the table."""
        source = self.record["peer_address"] if self.record else "-"
        expected = "through ztunnel" if self.through_ztunnel else "direct"
        verdict = "ok" if self.as_expected else "WRONG"
        return [self.who, self.dialled, self.arrived, self.original or "-", source, expected, verdict]


@attrs.frozen
class Scene:
    """The node, with what the demo needs of it at hand."""

    node: Node
    pod_file: Path
    agent: AgentProcess
    proxies: tuple[ProxyProcess, ...]
    by_namespace: Pod
    by_label: Pod
    outside: Pod
    ztunnel: Pod
    server: Pod
    port: int

    def dial(self, who: Workload, *, through_ztunnel: bool, address: str | None = None) -> Outcome:
        """Connect to the server, or to another address at its port; send, and read the echo back."""
        address = address or self.server.ip
        result = who.call(connect, address, self.port, send=_MESSAGE, receive=len(_MESSAGE))
        record = self._record_of(result, expected=through_ztunnel)
        return Outcome(who.title, f"{address}:{self.port}", result, record, through_ztunnel)

    def _record_of(self, result: ConnectResult, *, expected: bool) -> Record | None:
        """What the proxy wrote of the connection; it writes before it relays, its pipe may lag a little behind."""
        deadline = time.monotonic() + (_SETTLE_SECONDS if expected and not result["error"] else 0.2)
        mine = (result["local_address"], result["local_port"])
        while True:
            for record in (each for proxy in self.proxies for each in proxy.records):
                if (record["peer_address"], record["peer_port"]) == mine:
                    return record
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)


def run_demo() -> int:
    """Run it and print the table. The exit status: 0 if all was as it should be, else 1."""
    with ExitStack() as stack:
        stack.enter_context(exit_on_sigterm())
        print("building a node of network namespaces and cgroups, starting the agent …", flush=True)
        scene = _build(stack)
        outcomes = list(_play(scene))
        report = scene.agent.status()
    print("\n".join(table(_HEADER, (outcome.row() for outcome in outcomes))))
    counters = report["counters"]
    redirected = counters["redirected"] + counters["redirected_to_pod"]
    print(f"\nredirected {redirected}, past TCP {counters['spliced']}; everything is taken down again")
    wrong = [outcome for outcome in outcomes if not outcome.as_expected]
    if wrong or report["problems"]:
        print(f"NOT as it should be: {len(wrong)} connections, problems: {report['problems'] or 'none'}")
        return 1
    print("all as it should be")
    return 0


def _build(stack: ExitStack) -> Scene:
    node = stack.enter_context(Node("demo"))
    # Above the node's end, so that the agent ends first; its folder goes when its mount is gone.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="merbridge-demo-")))
    node.namespaces["shop"] = {DATAPLANE_MODE: "ambient"}
    ztunnel = node.add_pod("ztunnel-1", namespace="istio-system", labels={"app": "ztunnel"})
    by_namespace = node.add_pod("cart", namespace="shop")
    by_label = node.add_pod("web", labels={DATAPLANE_MODE: "ambient"}, cgroup_driver="cgroupfs")
    outside = node.add_pod("legacy")
    server = node.add_pod("server")
    port = server.call(listen, greet=False)
    by_namespace.call(listen, "127.0.0.1", port, greet=False)
    by_namespace.call(listen, by_namespace.ip, port, greet=False)
    pod_file = folder / "pods.yaml"
    node.write_pod_list(pod_file)
    proxies = tuple(ztunnel.start_proxy(each) for each in (_OUT_PORT, _IN_PORT))
    agent = stack.enter_context(AgentProcess(node, pod_file, folder / "bpf"))
    agent.wait_for("ready")
    return Scene(node, pod_file, agent, proxies, by_namespace, by_label, outside, ztunnel, server, port)


def _play(scene: Scene) -> Iterator[Outcome]:
    yield scene.dial(scene.by_namespace, through_ztunnel=True)
    yield scene.dial(scene.by_label, through_ztunnel=True)
    yield scene.dial(scene.by_namespace, through_ztunnel=False, address="127.0.0.1")
    yield scene.dial(scene.outside, through_ztunnel=False)
    yield scene.dial(scene.ztunnel, through_ztunnel=False)
    yield scene.dial(scene.node.host(), through_ztunnel=False)
    yield scene.dial(scene.node.host(), through_ztunnel=True, address=scene.by_namespace.ip)
    yield scene.dial(scene.outside, through_ztunnel=True, address=scene.by_namespace.ip)
    del scene.by_label.labels[DATAPLANE_MODE]
    scene.node.write_pod_list(scene.pod_file)
    scene.agent.wait_for("pod_outside_mesh", pod="default/web")
    yield attrs.evolve(scene.dial(scene.by_label, through_ztunnel=False), who="pod default/web, label removed")
    yield scene.dial(scene.by_namespace, through_ztunnel=True)
