"""What the maps should hold: a pure function of what is known."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from types import MappingProxyType

import attrs

from merbridge.model import (
    Enrolment,
    EnrolmentPolicy,
    Pod,
    Snapshot,
    choose_ztunnel,
    enrolment,
    is_ztunnel,
    local_pods,
)
from merbridge.watchers import Netns, NodeObservation, PodPresence
from programs.maps import EXEMPT, IN_MESH, IS_HOST, IS_ZTUNNEL

_NO_ADDRESS = IPv4Address(0)


@attrs.frozen
class Membership:
    """What the datapath is told of a namespace or a cgroup."""

    flags: int
    ip: IPv4Address


HOST = Membership(IS_HOST, _NO_ADDRESS)
EXEMPTED = Membership(EXEMPT, _NO_ADDRESS)


@attrs.frozen
class ZtunnelPlace:
    """Where ztunnel is."""

    name: str
    ip: IPv4Address
    netns_cookie: int


@attrs.frozen
class KnownPod:
    """A pod of this node with all that is known of it."""

    pod: Pod
    enrolment: Enrolment
    presence: PodPresence
    membership: Membership


@attrs.frozen
class Desired:
    """The whole. `no_ztunnel` says why there is none; it is empty when there is one.

    `inbound` are the addresses of enrolled pods that connections of the host go to ztunnel for.
    """

    netns: Mapping[int, Membership]
    cgroups: Mapping[int, Membership]
    inbound: frozenset[IPv4Address]
    ztunnel: ZtunnelPlace | None
    no_ztunnel: str
    pods: tuple[KnownPod, ...]


# By pod UID: the namespaces that a pod was seen in. Their cookies are never given out again.
Remembered = Mapping[str, frozenset[int]]


def desired(
    snapshot: Snapshot,
    observation: NodeObservation,
    node_name: str,
    policy: EnrolmentPolicy,
    remembered: Remembered = MappingProxyType({}),
) -> Desired:
    """What should be, from the API's view, the node's view and the settings.

    A pod's namespace may outlive its processes, until a container starts in it again. So a pod of the API that has no
    process now keeps the namespaces that are `remembered` of it.
    """
    pods = [_known(pod, snapshot, observation, policy) for pod in local_pods(snapshot, node_name)]
    ztunnel, reason = _ztunnel(pods, policy)
    return Desired(
        netns={**_by_memory(pods, remembered), **_by_netns(pods, observation.host_netns_cookie)},
        cgroups={**dict.fromkeys(sorted(observation.exempt_cgroups), EXEMPTED), **_by_cgroup(pods)},
        inbound=_inbound(pods),
        ztunnel=ztunnel,
        no_ztunnel=reason,
        pods=tuple(pods),
    )


def memory(wanted: Desired, before: Remembered) -> Remembered:
    """What to remember of the pods that there are now."""
    seen = {each.pod.uid: frozenset(netns.cookie for netns in _namespaces_of(each)) for each in wanted.pods}
    return {uid: cookies or before.get(uid, frozenset()) for uid, cookies in seen.items()}


def _by_memory(pods: Iterable[KnownPod], remembered: Remembered) -> dict[int, Membership]:
    silent = [pod for pod in pods if not pod.presence.netns and not pod.pod.host_network]
    return {cookie: pod.membership for pod in silent for cookie in remembered.get(pod.pod.uid, frozenset())}


def _known(pod: Pod, snapshot: Snapshot, observation: NodeObservation, policy: EnrolmentPolicy) -> KnownPod:
    decision = enrolment(pod, snapshot.namespaces.get(pod.namespace, {}), policy)
    # The pod's own UID first: the other is an annotation, which anybody may write.
    absent = PodPresence(pod.uid, frozenset(), ())
    presence = observation.pods.get(pod.uid) or observation.pods.get(pod.kubelet_uid, absent)
    flags = (IN_MESH if decision.in_mesh else 0) | (IS_ZTUNNEL if is_ztunnel(pod, policy) else 0)
    return KnownPod(pod, decision, presence, Membership(flags, _address(pod, presence)))


def _address(pod: Pod, presence: PodPresence) -> IPv4Address:
    """The pod's address: the API's, or before the API knows it the only one that its namespace has."""
    if pod.host_network:
        return _NO_ADDRESS
    if pod.ip is not None:
        return pod.ip
    own = {address for netns in presence.netns for address in netns.addresses}
    return own.pop() if len(own) == 1 else _NO_ADDRESS


def _by_netns(pods: Iterable[KnownPod], host_cookie: int) -> dict[int, Membership]:
    claims: _Claims = {}
    for pod in pods:
        for netns in _namespaces_of(pod):
            claims.setdefault(netns.cookie, []).append((pod, netns.addresses))
    return {**_strongest(claims), host_cookie: HOST}


def _by_cgroup(pods: Iterable[KnownPod]) -> dict[int, Membership]:
    """Two pods claim one cgroup where both are a static pod's objects in the API: the old one and the new."""
    claims: _Claims = {}
    for pod in pods:
        addresses = frozenset(address for netns in _namespaces_of(pod) for address in netns.addresses)
        for id_ in pod.presence.cgroup_ids:
            claims.setdefault(id_, []).append((pod, addresses))
    return _strongest(claims)


def _inbound(pods: Iterable[KnownPod]) -> frozenset[IPv4Address]:
    addresses = (each.membership.ip for each in pods if each.enrolment.in_mesh and not each.pod.bypasses_inbound)
    return frozenset(address for address in addresses if address != _NO_ADDRESS)


def _namespaces_of(pod: KnownPod) -> tuple[Netns, ...]:
    """The namespaces that are the pod's own: a pod on the host's network has none, whatever it has entered."""
    return () if pod.pod.host_network else pod.presence.netns


# By what is claimed: each pod that claims it, with the addresses that are found there.
_Claims = dict[int, list[tuple[KnownPod, frozenset[IPv4Address]]]]


def _strongest(claims: _Claims) -> dict[int, Membership]:
    return {key: max(claim, key=_strength)[0].membership for key, claim in claims.items()}


def _strength(claim: tuple[KnownPod, frozenset[IPv4Address]]) -> tuple[bool, bool, str]:
    """Of several pods' claims, that of the pod whose address is there; else of the one that is in the mesh."""
    pod, addresses = claim
    return (pod.pod.ip in addresses, pod.enrolment.in_mesh, pod.pod.uid)


def _ztunnel(pods: Iterable[KnownPod], policy: EnrolmentPolicy) -> tuple[ZtunnelPlace | None, str]:
    candidates = {each.pod.uid: each for each in pods if is_ztunnel(each.pod, policy) and not each.pod.finished}
    if not candidates:
        return None, f"no pod of this node is labelled app=ztunnel in namespace {policy.ztunnel_namespace}"
    placed = {uid: place for uid, each in candidates.items() for place in _places(each)}
    chosen = choose_ztunnel(candidates[uid].pod for uid in placed)
    if chosen is not None:
        return placed[chosen.uid], ""
    first = next(iter(candidates.values())).pod
    missing = "has no IPv4 address yet" if first.ip is None else "has no process in a network namespace of its own yet"
    return None, f"ztunnel's pod {first.full_name} {missing}"


def _places(candidate: KnownPod) -> Iterator[ZtunnelPlace]:
    ip = candidate.pod.ip
    namespaces = _namespaces_of(candidate)
    if ip is None or not namespaces:
        return
    own = next((netns for netns in namespaces if ip in netns.addresses), namespaces[0])
    yield ZtunnelPlace(candidate.pod.full_name, ip, own.cookie)
