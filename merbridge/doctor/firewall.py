"""Rules that istio-cni has left in pods' network namespaces, or on the host: chains whose names begin with ISTIO_."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from merbridge.config import Config
from merbridge.doctor.finding import Finding, note, ok, problem
from merbridge.errors import MerbridgeError
from merbridge.model import EnrolmentPolicy, Pod, Snapshot, enrolment, local_pods
from merbridge.watchers.netns import Netns, NetnsGoneError, in_netns_of
from merbridge.watchers.observe import NodeObservation

_PREFIX = "ISTIO_"
_ANY_FAMILY = 0


def look_for_rules(config: Config, snapshot: Snapshot, observation: NodeObservation) -> Iterator[Finding]:
    """Chains in the namespaces of enrolled pods and of the host; rules of the legacy kind can only be suspected."""
    found = False
    policy = EnrolmentPolicy(ztunnel_namespace=config.ztunnel_namespace)
    for name, netns in (("the host", observation.host), *_enrolled(config, snapshot, observation, policy)):
        chains = _istio_chains(netns, config.proc)
        if chains:
            found = True
            yield problem(
                "iptables",
                f"{name} has chains of istio-cni's: {', '.join(chains)}",
                "start the pod anew once istio-cni is gone" if netns != observation.host else "remove these chains",
            )
        legacy = _legacy_tables(netns, config.proc) if netns != observation.host else []
        if legacy:
            found = True
            yield note(
                "iptables",
                f"{name} has iptables rules of the legacy kind ({', '.join(legacy)}), which cannot be read here",
                f"see whether chains {_PREFIX}… are among them: nsenter -t {netns.pid} -n iptables-legacy-save",
            )
    if not found:
        yield ok("iptables", "no rules of istio-cni in enrolled pods or on the host")


def _enrolled(
    config: Config, snapshot: Snapshot, observation: NodeObservation, policy: EnrolmentPolicy
) -> Iterator[tuple[str, Netns]]:
    for pod in local_pods(snapshot, config.node_name):
        if enrolment(pod, snapshot.namespaces.get(pod.namespace, {}), policy).in_mesh:
            yield from ((f"pod {pod.full_name}", netns) for netns in _namespaces(pod, observation))


def _namespaces(pod: Pod, observation: NodeObservation) -> tuple[Netns, ...]:
    presence = observation.pods.get(pod.kubelet_uid)
    return presence.netns if presence else ()


def _istio_chains(netns: Netns, proc: Path) -> list[str]:
    try:
        return in_netns_of(netns, proc, _chains_of_this_thread)
    except NetnsGoneError:
        return []


def _chains_of_this_thread() -> list[str]:
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.nftables.main import NFTables

    try:
        with NFTables(nfgen_family=_ANY_FAMILY) as tables:
            chains: list[Any] = list(tables.get_chains())
    except (NetlinkError, OSError):  # a kernel without nftables has none of its rules
        return []
    names = {(each.get_attr("NFTA_CHAIN_TABLE"), str(each.get_attr("NFTA_CHAIN_NAME"))) for each in chains}
    return sorted(f"{name} (table {table})" for table, name in names if name.startswith(_PREFIX))


def _legacy_tables(netns: Netns, proc: Path) -> list[str]:
    found: list[str] = []
    for name in ("ip_tables_names", "ip6_tables_names"):
        with suppress(OSError, MerbridgeError):
            found += (proc / str(netns.pid) / "net" / name).read_text().split()
    return sorted(set(found))
