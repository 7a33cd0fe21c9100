"""What the agent reasons about: pods, which of them are in the mesh, and their ztunnel. Values and pure functions."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

import attrs

DATAPLANE_MODE = "istio.io/dataplane-mode"
REDIRECTION = "ambient.istio.io/redirection"
BYPASS_INBOUND = "ambient.istio.io/bypass-inbound-capture"
DNS_CAPTURE = "ambient.istio.io/dns-capture"
SIDECAR_STATUS = "sidecar.istio.io/status"

# What Istio takes for true in an annotation (Go's strconv.ParseBool).
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})

_CONFIG_HASH = "kubernetes.io/config.hash"
_STATIC_UID_LENGTH = 32

IpAddress = IPv4Address | IPv6Address


@attrs.frozen
class Pod:
    """A pod as the Kubernetes API shows it, cut down to what the mesh needs.

    `ip` and `ip6` are the addresses of `status.podIP`/`podIPs`, None where there is none of the family. `created` is
    the API's text (RFC 3339, UTC, whole seconds), so it sorts as a string. `init_containers` are their names.
    """

    uid: str
    namespace: str
    name: str
    node_name: str | None
    host_network: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    ip: IPv4Address | None
    phase: str
    ready: bool
    deleting: bool
    created: str
    ip6: IPv6Address | None = None
    init_containers: tuple[str, ...] = ()

    @property
    def addresses(self) -> frozenset[IpAddress]:
        """Those that it has."""
        return frozenset(each for each in (self.ip, self.ip6) if each is not None)

    @property
    def full_name(self) -> str:
        """`namespace/name`, as kubectl's users write it."""
        return f"{self.namespace}/{self.name}"

    @property
    def kubelet_uid(self) -> str:
        """The UID in the names of the pod's cgroups.

        A static pod's object in the API is a mirror with a UID of its own; the kubelet uses the manifest's hash.
        Only a value of the hash's form counts, so that no ordinary pod can claim another ordinary pod's cgroup.
        """
        digest = self.annotations.get(_CONFIG_HASH, "")
        is_hash = len(digest) == _STATIC_UID_LENGTH and set(digest) <= set("0123456789abcdef")
        return digest if is_hash else self.uid

    @property
    def finished(self) -> bool:
        """Whether the pod's containers have ended for good; its address may belong to another pod by now."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def bypasses_inbound(self) -> bool:
        """Whether connections to the pod are to be left alone."""
        return self.annotations.get(BYPASS_INBOUND) in _TRUE

    @property
    def captures_dns(self) -> bool:
        """Whether the pod's questions to DNS servers are to go to ztunnel, if it is enrolled."""
        return self.annotations.get(DNS_CAPTURE) in _TRUE


@attrs.frozen
class Snapshot:
    """All that a source knows at one time. `namespaces` maps each namespace's name to its labels."""

    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[Pod, ...]


@attrs.frozen
class EnrolmentPolicy:
    """The settings that decide who can be in the mesh, and whether DNS can be captured."""

    excluded_namespaces: frozenset[str] = frozenset({"kube-system"})
    ztunnel_namespace: str = "istio-system"
    capture_dns: bool = True


@attrs.frozen
class Enrolment:
    """Whether a pod is in the mesh, and the short reason that `status` and the log show."""

    in_mesh: bool
    reason: str


def enrolment(pod: Pod, namespace_labels: Mapping[str, str], policy: EnrolmentPolicy) -> Enrolment:
    """Decide whether `pod` is in the mesh: what keeps it out comes first, then its own label, then its namespace's."""
    obstacle = _obstacle(pod, policy)
    if obstacle is not None:
        return Enrolment(False, obstacle)
    own_mode = pod.labels.get(DATAPLANE_MODE)
    if own_mode in ("ambient", "none"):
        return Enrolment(own_mode == "ambient", f"pod label {DATAPLANE_MODE}={own_mode}")
    if namespace_labels.get(DATAPLANE_MODE) == "ambient":
        return Enrolment(True, f"namespace label {DATAPLANE_MODE}=ambient")
    return Enrolment(False, f"no label {DATAPLANE_MODE}=ambient")


def _obstacle(pod: Pod, policy: EnrolmentPolicy) -> str | None:
    if pod.finished:
        return f"phase {pod.phase}"
    if pod.host_network:
        return "host network"
    if is_ztunnel(pod, policy):
        return "ztunnel itself"
    if pod.namespace in policy.excluded_namespaces:
        return f"namespace {pod.namespace} is excluded"
    if SIDECAR_STATUS in pod.annotations:
        return f"annotation {SIDECAR_STATUS}: it has a sidecar"
    if pod.annotations.get(REDIRECTION) == "disabled":
        return f"annotation {REDIRECTION}=disabled"
    if pod.labels.get(REDIRECTION) == "disabled":
        return f"label {REDIRECTION}=disabled"
    return None


def is_ztunnel(pod: Pod, policy: EnrolmentPolicy) -> bool:
    """Whether `pod` is a ztunnel of this mesh; a pod that carries the label in another namespace is an ordinary pod."""
    return pod.labels.get("app") == "ztunnel" and pod.namespace == policy.ztunnel_namespace and not pod.host_network


def choose_ztunnel(candidates: Iterable[Pod]) -> Pod | None:
    """The ztunnel that serves the node, None when no candidate has an address and still runs.

    Ready comes before not ready, staying before being deleted, then the newest, then the first by name: the order of a
    rolling update, in which the old one serves until the new one is ready.
    """
    usable = sorted((pod for pod in candidates if pod.addresses and not pod.finished), key=_name_order)
    newest_first = sorted(usable, key=lambda pod: pod.created, reverse=True)
    return min(newest_first, key=lambda pod: (not pod.ready, pod.deleting), default=None)


def _name_order(pod: Pod) -> tuple[str, str]:
    return (pod.name, pod.uid)


def local_pods(snapshot: Snapshot, node_name: str) -> tuple[Pod, ...]:
    """The pods of this node; one with no nodeName counts as local, as hand-written files leave it out."""
    return tuple(pod for pod in snapshot.pods if pod.node_name in (None, node_name))
