"""What the maps should hold: a pure function of what is known."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import TypeVar

import attrs

from merbridge.model import (
    Enrolment,
    EnrolmentPolicy,
    IpAddress,
    Pod,
    Snapshot,
    choose_ztunnel,
    enrolment,
    is_ztunnel,
    local_pods,
)
from merbridge.watchers import Netns, NodeObservation, PodPresence
from programs.maps import DNS, EXEMPT, IN_MESH, IS_HOST, IS_ZTUNNEL

_Address = TypeVar("_Address", IPv4Address, IPv6Address)


@attrs.frozen
class Membership:
    """What the datapath is told of a namespace or a cgroup."""

    flags: int
    ip: IPv4Address | None = None
    ip6: IPv6Address | None = None


HOST = Membership(IS_HOST)
EXEMPTED = Membership(EXEMPT)


@attrs.frozen
class ZtunnelPlace:
    """Where ztunnel is; it has an address of one family at least."""

    name: str
    ip: IPv4Address | None
    netns_cookie: int
    ip6: IPv6Address | None = None


@attrs.frozen
class Interior:
    """A pod's network as far as packets to it are concerned.

    `enrolled` if it is in the mesh, `captured` if what is new of them is for ztunnel. `addresses` are those that the
    API gives it. `netns` is None while the pod has no process, though its namespace may live: `cookie` is that of the
    last one then.
    """

    name: str
    cookie: int
    netns: Netns | None
    addresses: frozenset[IpAddress]
    captured: bool
    enrolled: bool


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

    `inbound` are the addresses of enrolled pods that connections of the host go to ztunnel for, `callers` those of
    enrolled pods, as far as they are known before the API gives them; `interiors` the
    networks of all pods but ztunnels; `ztunnels` those that may have connections, first the one that serves.
    """

    netns: Mapping[int, Membership]
    cgroups: Mapping[int, Membership]
    inbound: frozenset[IpAddress]
    ztunnel: ZtunnelPlace | None
    no_ztunnel: str
    pods: tuple[KnownPod, ...]
    callers: frozenset[IpAddress] = frozenset()
    interiors: tuple[Interior, ...] = ()
    ztunnels: tuple[Interior, ...] = ()


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
    here = local_pods(snapshot, node_name)
    taken = observation.host.addresses.union(*(pod.addresses for pod in here))
    pods = [_known(pod, snapshot, observation, policy, taken) for pod in here]
    ztunnel, reason = _ztunnel(pods, policy)
    return Desired(
        netns={**_by_memory(pods, remembered), **_by_netns(pods, observation.host.cookie)},
        cgroups={**dict.fromkeys(sorted(observation.exempt_cgroups), EXEMPTED), **_by_cgroup(pods)},
        inbound=_inbound(pods),
        ztunnel=ztunnel,
        no_ztunnel=reason,
        pods=tuple(pods),
        callers=_callers(pods),
        interiors=tuple(_interiors((each for each in pods if not is_ztunnel(each.pod, policy)), remembered)),
        ztunnels=_serving_first(_interiors((each for each in pods if is_ztunnel(each.pod, policy)), {}), ztunnel),
    )


def memory(wanted: Desired, before: Remembered) -> Remembered:
    """What to remember of the pods that there are now."""
    seen = {each.pod.uid: frozenset(netns.cookie for netns in _namespaces_of(each)) for each in wanted.pods}
    return {uid: cookies or before.get(uid, frozenset()) for uid, cookies in seen.items()}


def _by_memory(pods: Iterable[KnownPod], remembered: Remembered) -> dict[int, Membership]:
    silent = [pod for pod in pods if not pod.presence.netns and not pod.pod.host_network]
    return {cookie: pod.membership for pod in silent for cookie in remembered.get(pod.pod.uid, frozenset())}


def _known(
    pod: Pod, snapshot: Snapshot, observation: NodeObservation, policy: EnrolmentPolicy, taken: frozenset[IpAddress]
) -> KnownPod:
    decision = enrolment(pod, snapshot.namespaces.get(pod.namespace, {}), policy)
    # The pod's own UID first: the other is an annotation, which anybody may write.
    absent = PodPresence(pod.uid, frozenset(), ())
    presence = observation.pods.get(pod.uid) or observation.pods.get(pod.kubelet_uid, absent)
    flags = (IN_MESH if decision.in_mesh else 0) | (IS_ZTUNNEL if is_ztunnel(pod, policy) else 0)
    flags |= DNS if decision.in_mesh and pod.captures_dns and policy.capture_dns else 0
    if pod.host_network:
        return KnownPod(pod, decision, presence, Membership(flags))
    if pod.addresses:
        return KnownPod(pod, decision, presence, Membership(flags, pod.ip, pod.ip6))
    seen = {address for netns in presence.netns for address in netns.addresses} - taken
    ip = _only(each for each in seen if isinstance(each, IPv4Address))
    ip6 = _only(each for each in seen if isinstance(each, IPv6Address))
    return KnownPod(pod, decision, presence, Membership(flags, ip, ip6))


def _only(addresses: Iterable[_Address]) -> _Address | None:
    """Before the API knows the pod's address: the only one of the family that its namespace has, and nobody else."""
    found = list(addresses)
    return found[0] if len(found) == 1 else None


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


def _inbound(pods: Iterable[KnownPod]) -> frozenset[IpAddress]:
    enrolled = [each.pod for each in pods if each.enrolment.in_mesh and not each.pod.bypasses_inbound]
    return frozenset(address for pod in enrolled if not pod.host_network for address in pod.addresses)


def _callers(pods: Iterable[KnownPod]) -> frozenset[IpAddress]:
    """Those that the API gives them. While it gives a pod none, what its namespace has, as it connects by then."""
    enrolled = [each.membership for each in pods if each.enrolment.in_mesh]
    return frozenset(address for each in enrolled for address in (each.ip, each.ip6) if address is not None)


def _interiors(pods: Iterable[KnownPod], remembered: Remembered) -> Iterator[Interior]:
    for each in pods:
        own = _own_netns(each)
        # Not those of its namespace: there a pod gives itself whichever it likes.
        addresses = each.pod.addresses
        cookie = own.cookie if own is not None else max(remembered.get(each.pod.uid, frozenset()), default=0)
        if cookie and addresses and not each.pod.finished:
            captured = each.enrolment.in_mesh and not each.pod.bypasses_inbound
            yield Interior(each.pod.full_name, cookie, own, addresses, captured, each.enrolment.in_mesh)


def _serving_first(ztunnels: Iterable[Interior], serving: ZtunnelPlace | None) -> tuple[Interior, ...]:
    """Nothing while none serves: then nobody may be sent to any."""
    if serving is None:
        return ()
    return tuple(sorted(ztunnels, key=lambda each: each.cookie != serving.netns_cookie))


def _own_netns(pod: KnownPod) -> Netns | None:
    """The namespace in which the pod has its addresses; else the first that it is in."""
    namespaces = _namespaces_of(pod)
    having = (netns for netns in namespaces if not pod.pod.addresses.isdisjoint(netns.addresses))
    return next(having, namespaces[0] if namespaces else None)


def _namespaces_of(pod: KnownPod) -> tuple[Netns, ...]:
    """The namespaces that are the pod's own: a pod on the host's network has none, whatever it has entered."""
    return () if pod.pod.host_network else pod.presence.netns


# By what is claimed: each pod that claims it, with the addresses that are found there.
_Claims = dict[int, list[tuple[KnownPod, frozenset[IpAddress]]]]


def _strongest(claims: _Claims) -> dict[int, Membership]:
    return {key: max(claim, key=_strength)[0].membership for key, claim in claims.items()}


def _strength(claim: tuple[KnownPod, frozenset[IpAddress]]) -> tuple[bool, bool, str]:
    """Of several pods' claims, that of the pod whose address is there; else of the one that is in the mesh."""
    pod, addresses = claim
    return (not pod.pod.addresses.isdisjoint(addresses), pod.enrolment.in_mesh, pod.pod.uid)


def _ztunnel(pods: Iterable[KnownPod], policy: EnrolmentPolicy) -> tuple[ZtunnelPlace | None, str]:
    candidates = {each.pod.uid: each for each in pods if is_ztunnel(each.pod, policy) and not each.pod.finished}
    if not candidates:
        return None, f"no pod of this node is labelled app=ztunnel in namespace {policy.ztunnel_namespace}"
    placed = {uid: place for uid, each in candidates.items() for place in _places(each)}
    chosen = choose_ztunnel(candidates[uid].pod for uid in placed)
    if chosen is not None:
        return placed[chosen.uid], ""
    first = next(iter(candidates.values())).pod
    missing = "has no address yet" if not first.addresses else "has no process in a network namespace of its own yet"
    return None, f"ztunnel's pod {first.full_name} {missing}"


def _places(candidate: KnownPod) -> Iterator[ZtunnelPlace]:
    pod, own = candidate.pod, _own_netns(candidate)
    if pod.addresses and own is not None:
        yield ZtunnelPlace(pod.full_name, pod.ip, own.cookie, pod.ip6)
