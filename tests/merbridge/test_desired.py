"""What the maps should hold, as a pure function: no kernel, no node, only values."""

import random
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from merbridge.model import EnrolmentPolicy, Pod, Snapshot
from merbridge.reconcile.desired import (
    EXEMPTED,
    HOST,
    Desired,
    Membership,
    Remembered,
    ZtunnelPlace,
    desired,
    memory,
)
from merbridge.watchers import Netns, NodeObservation, PodPresence
from programs.maps import DNS, IN_MESH, IS_ZTUNNEL

HOST_COOKIE = 1
HOST_NETNS = Netns(1, HOST_COOKIE, frozenset())
NODE = "node-1"
WEB_IP, WEB_IP6 = IPv4Address("10.244.1.5"), IPv6Address("fd00::5")
ZTUNNEL_IP, ZTUNNEL_IP6 = IPv4Address("10.244.1.2"), IPv6Address("fd00::2")
HASH = "0123456789abcdef0123456789abcdef"

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
NONE = {"istio.io/dataplane-mode": "none"}


def pod(uid: str = "web", **changes: Any) -> Pod:
    """A running pod of this node that is in the mesh by its namespace, with changes."""
    fields: dict[str, Any] = {
        "uid": uid,
        "namespace": "shop",
        "name": uid,
        "node_name": NODE,
        "host_network": False,
        "labels": {},
        "annotations": {},
        "ip": WEB_IP,
        "phase": "Running",
        "ready": True,
        "deleting": False,
        "created": "2026-08-01T10:00:00Z",
    }
    return Pod(**fields | changes)


def ztunnel(uid: str = "ztunnel", **changes: Any) -> Pod:
    """A running ztunnel of this node, with changes."""
    fields = {"namespace": "istio-system", "labels": {"app": "ztunnel"}, "ip": ZTUNNEL_IP}
    return pod(uid, **fields | changes)


def netns(cookie: int, *addresses: IPv4Address | IPv6Address) -> Netns:
    """A network namespace with these addresses."""
    return Netns(inode=4_000_000 + cookie, cookie=cookie, addresses=frozenset(addresses))


def present(uid: str = "web", *namespaces: Netns, cgroups: Iterable[int] = ()) -> PodPresence:
    """What the node shows of the pod with this UID."""
    return PodPresence(uid, frozenset(cgroups), namespaces)


def wanted(
    pods: Iterable[Pod],
    presences: Iterable[PodPresence] = (),
    *,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
    policy: EnrolmentPolicy | None = None,
    remembered: Remembered | None = None,
) -> Desired:
    """The desired state of node-1, with namespace `shop` in the mesh unless the test says otherwise."""
    labels = {"shop": AMBIENT, "istio-system": {}} if namespaces is None else namespaces
    observation = NodeObservation({presence.uid: presence for presence in presences}, HOST_NETNS)
    return desired(Snapshot(labels, tuple(pods)), observation, NODE, policy or EnrolmentPolicy(), remembered or {})


def test_empty_node() -> None:
    """Without any pod the host's namespace is known, as outside the mesh, and nothing else is."""
    assert wanted([]) == Desired(
        netns={HOST_COOKIE: HOST},
        cgroups={},
        inbound=frozenset(),
        ztunnel=None,
        no_ztunnel="no pod of this node is labelled app=ztunnel in namespace istio-system",
        pods=(),
    )


def test_enrolled_pod_is_known_by_namespace_and_by_each_cgroup() -> None:
    """A pod in the mesh has an entry for its namespace and for each of its cgroups, all with its flags and address."""
    result = wanted([pod()], [present("web", netns(7, WEB_IP), cgroups=[70, 71, 72])])
    member = Membership(IN_MESH, WEB_IP)
    assert result.netns == {HOST_COOKIE: HOST, 7: member}
    assert result.cgroups == {70: member, 71: member, 72: member}


def test_addresses_of_both_families() -> None:
    """Both go to the datapath, and connections to both are the host's to redirect; ztunnel has either, or both."""
    both = {"ip": WEB_IP, "ip6": WEB_IP6}
    result = wanted([pod(**both), ztunnel(ip6=ZTUNNEL_IP6)], [present("web", netns(7)), present("ztunnel", netns(3))])
    assert result.netns[7] == Membership(IN_MESH, WEB_IP, WEB_IP6)
    assert result.inbound == {WEB_IP, WEB_IP6}
    assert result.ztunnel == ZtunnelPlace("istio-system/ztunnel", ZTUNNEL_IP, 3, ZTUNNEL_IP6)
    alone = wanted([pod(ip=None, ip6=WEB_IP6), ztunnel(ip=None, ip6=ZTUNNEL_IP6)], [present("ztunnel", netns(3))])
    assert alone.inbound == {WEB_IP6}
    assert alone.ztunnel == ZtunnelPlace("istio-system/ztunnel", None, 3, ZTUNNEL_IP6)


def test_before_the_api_knows_its_address_the_only_one_of_a_family_is_taken() -> None:
    """What the pod's namespace shows, unless it shows several."""
    others = IPv6Address("fd00::6"), IPv6Address("fd00::7")
    result = wanted([pod(ip=None)], [present("web", netns(7, WEB_IP, *others))])
    assert result.netns[7] == Membership(IN_MESH, WEB_IP)
    assert wanted([pod(ip=None)], [present("web", netns(7, WEB_IP6))]).netns[7] == Membership(IN_MESH, None, WEB_IP6)


def test_pod_outside_the_mesh_is_known_too() -> None:
    """A pod outside has entries without a flag, so that the datapath does not go on to ask by cgroup."""
    result = wanted([pod(labels=NONE)], [present("web", netns(7, WEB_IP), cgroups=[70])])
    assert (result.netns[7], result.cgroups[70]) == (Membership(0, WEB_IP), Membership(0, WEB_IP))


def test_pod_that_only_the_node_knows_has_no_entry() -> None:
    """Processes and cgroups of a pod that the API does not list are left alone."""
    result = wanted([], [present("stranger", netns(7, WEB_IP), cgroups=[70])])
    assert (result.netns, result.cgroups) == ({HOST_COOKIE: HOST}, {})


def test_pod_that_only_the_api_knows_is_listed_without_entries() -> None:
    """A pod not yet on the node has a record, with why it is in the mesh, and no entry in either map."""
    result = wanted([pod()])
    assert (result.netns, result.cgroups) == ({HOST_COOKIE: HOST}, {})
    assert [(each.pod.uid, each.enrolment.in_mesh, each.presence.netns) for each in result.pods] == [("web", True, ())]


def test_inbound_are_the_addresses_of_enrolled_pods() -> None:
    """Not of those outside, nor of one that asks to be left alone, nor of one without an address."""
    left_alone = {"ambient.istio.io/bypass-inbound-capture": "true"}
    result = wanted(
        [
            pod(),
            pod("out", labels=NONE, ip=IPv4Address("10.0.0.70")),
            pod("alone", annotations=left_alone, ip=IPv4Address("10.0.0.71")),
            pod("early", ip=None),
        ]
    )
    assert result.inbound == {WEB_IP}


def test_dns_is_captured_of_enrolled_pods_that_ask_for_it() -> None:
    """Not of those outside, and of none where it is switched off."""
    asks = {"ambient.istio.io/dns-capture": "true"}
    pods = [pod(annotations=asks), pod("other"), pod("out", labels=NONE, annotations=asks)]
    seen = [present("web", netns(7), cgroups=[70]), present("other", netns(8)), present("out", netns(9))]
    result = wanted(pods, seen)
    assert {cookie: result.netns[cookie].flags for cookie in (7, 8, 9)} == {7: IN_MESH | DNS, 8: IN_MESH, 9: 0}
    assert result.cgroups[70].flags == IN_MESH | DNS
    assert wanted(pods, seen, policy=EnrolmentPolicy(capture_dns=False)).netns[7].flags == IN_MESH


def test_exempt_cgroups_are_marked_but_never_instead_of_a_pods() -> None:
    """A pod's own cgroup stays the pod's, whatever it is called."""
    presences = {"web": present("web", netns(7, WEB_IP), cgroups=[70])}
    observation = NodeObservation(presences, HOST_NETNS, frozenset({70, 80}))
    result = desired(Snapshot({"shop": AMBIENT}, (pod(),)), observation, NODE, EnrolmentPolicy())
    assert result.cgroups == {70: Membership(IN_MESH, WEB_IP), 80: EXEMPTED}


def test_host_namespace_stays_outside_whatever_claims_it() -> None:
    """A process of an enrolled pod in the host's namespace does not enrol the host."""
    result = wanted([pod()], [present("web", netns(HOST_COOKIE, WEB_IP), netns(7, WEB_IP))])
    assert result.netns == {HOST_COOKIE: HOST, 7: Membership(IN_MESH, WEB_IP)}


def test_host_network_pod_has_no_namespace_and_no_address() -> None:
    """A hostNetwork pod that has entered another pod's namespace claims nothing there; its cgroups are outside."""
    agent = pod("agent", host_network=True, labels=AMBIENT, ip=IPv4Address("192.0.2.1"))
    result = wanted(
        [agent, pod()],
        [present("agent", netns(7, WEB_IP), cgroups=[50]), present("web", netns(7, WEB_IP))],
    )
    assert result.netns == {HOST_COOKIE: HOST, 7: Membership(IN_MESH, WEB_IP)}
    assert result.cgroups == {50: Membership(0)}


@pytest.mark.parametrize("order", [1, -1])
def test_shared_namespace_belongs_to_the_pod_whose_address_it_has(order: int) -> None:
    """Of two pods with processes in one namespace the address decides, whatever the order in the file."""
    owner = pod("owner", labels=NONE)
    visitor = pod("visitor", ip=IPv4Address("10.244.1.9"))
    shared = netns(7, WEB_IP)
    result = wanted([owner, visitor][::order], [present("owner", shared), present("visitor", shared)])
    assert result.netns[7] == Membership(0, WEB_IP)


@pytest.mark.parametrize("order", [1, -1])
def test_shared_namespace_without_an_owner_is_in_the_mesh(order: int) -> None:
    """Where no address decides, the claim of the pod in the mesh counts: in the clear is the worse failure."""
    inside = pod("a-inside", ip=None)
    outside = pod("z-outside", ip=None, labels=NONE)
    shared = netns(7, WEB_IP)
    result = wanted([inside, outside][::order], [present("a-inside", shared), present("z-outside", shared)])
    assert result.netns[7] == Membership(IN_MESH, WEB_IP)


def test_missing_address_is_taken_from_the_namespace() -> None:
    """Before the API knows a pod's address, the only one that its namespace has stands in."""
    result = wanted([pod(ip=None)], [present("web", netns(7, WEB_IP), cgroups=[70])])
    assert result.netns[7] == result.cgroups[70] == Membership(IN_MESH, WEB_IP)


@pytest.mark.parametrize(
    "namespaces",
    [(), (netns(7),), (netns(7, WEB_IP, IPv4Address("10.9.9.9")),)],
    ids=["no namespace", "no address", "two addresses"],
)
def test_unknown_address_does_not_keep_a_pod_out_of_the_mesh(namespaces: tuple[Netns, ...]) -> None:
    """A pod whose address cannot be told is enrolled all the same, with no address."""
    result = wanted([pod(ip=None)], [present("web", *namespaces, cgroups=[70])])
    assert result.cgroups == {70: Membership(IN_MESH)}
    assert all(result.netns[each.cookie] == Membership(IN_MESH) for each in namespaces)


def test_second_namespace_of_a_pod_is_the_pods_too() -> None:
    """A container that made a namespace of its own inside the pod does not leave the mesh by it."""
    result = wanted([pod()], [present("web", netns(7, WEB_IP), netns(8))])
    assert result.netns[8] == Membership(IN_MESH, WEB_IP)


def test_pods_of_other_nodes_are_ignored() -> None:
    """A pod of another node has neither entries nor a record here, and is no ztunnel of this node."""
    elsewhere = [pod(node_name="node-2"), ztunnel(node_name="node-2")]
    result = wanted(elsewhere, [present("web", netns(7, WEB_IP), cgroups=[70]), present("ztunnel", netns(3))])
    assert (result.netns, result.cgroups, result.pods, result.ztunnel) == ({HOST_COOKIE: HOST}, {}, (), None)


def test_pod_without_a_node_name_is_local() -> None:
    """Hand-written files leave nodeName out."""
    assert wanted([pod(node_name=None)], [present("web", netns(7, WEB_IP))]).netns[7].flags == IN_MESH


def test_excluded_namespace_stays_outside_even_when_labelled() -> None:
    """Neither the namespace's nor the pod's own label enrols a pod of an excluded namespace."""
    system = pod(namespace="kube-system", labels=AMBIENT)
    result = wanted([system], [present("web", netns(7, WEB_IP))], namespaces={"kube-system": AMBIENT})
    assert result.netns[7] == Membership(0, WEB_IP)
    assert result.pods[0].enrolment.reason == "namespace kube-system is excluded"


def test_namespace_that_is_not_listed_has_no_labels() -> None:
    """A pod whose Namespace object is missing counts by its own label alone."""
    result = wanted([pod(), pod("own", labels=AMBIENT)], namespaces={})
    assert [each.enrolment.in_mesh for each in result.pods] == [False, True]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pod_is_outside_and_its_address_is_another_pods(phase: str) -> None:
    """A finished pod does not take the namespace of the pod that has its address now."""
    old = pod("zz-old", phase=phase)
    result = wanted(
        [pod(), old],
        [present("web", netns(7, WEB_IP)), present("zz-old", netns(6), cgroups=[60])],
    )
    assert result.netns == {HOST_COOKIE: HOST, 7: Membership(IN_MESH, WEB_IP), 6: Membership(0, WEB_IP)}
    assert result.cgroups == {60: Membership(0, WEB_IP)}


def test_pod_without_processes_keeps_its_namespaces() -> None:
    """Between two containers a pod may have no process: its namespaces stay known, as it is enrolled now."""
    before = memory(wanted([pod()], [present("web", netns(7, WEB_IP))]), {})
    silent = wanted([pod()], [present("web", cgroups=[3])], remembered=before)
    assert silent.netns[7] == Membership(IN_MESH, WEB_IP)
    assert memory(silent, before) == before
    left = wanted([pod(labels=NONE)], remembered=before)
    assert left.netns[7] == Membership(0, WEB_IP)


def test_memory_gives_way() -> None:
    """What a pod has now counts, what another pod has now counts more, and pods that are gone are forgotten."""
    before = {"web": frozenset({7, HOST_COOKIE}), "gone": frozenset({9})}
    moved = wanted([pod()], [present("web", netns(8, WEB_IP))], remembered=before)
    assert set(moved.netns) == {8, HOST_COOKIE}
    assert memory(moved, before) == {"web": frozenset({8})}
    other_ip = IPv4Address("10.244.1.6")
    taken = wanted(
        [pod(), pod("other", ip=other_ip, labels=NONE)], [present("other", netns(7, other_ip))], remembered=before
    )
    assert taken.netns == {7: Membership(0, other_ip), HOST_COOKIE: HOST}


def test_own_uid_comes_before_the_manifests_hash() -> None:
    """A pod that annotates itself with a hash is still found by its own UID."""
    evading = pod("web", annotations={"kubernetes.io/config.hash": HASH})
    assert wanted([evading], [present("web", netns(7, WEB_IP))]).netns[7] == Membership(IN_MESH, WEB_IP)


def test_static_pod_is_found_by_its_manifests_hash() -> None:
    """A mirror pod's own UID is in no cgroup's name: the kubelet uses the hash."""
    static = pod("a-mirror", annotations={"kubernetes.io/config.hash": HASH})
    seen = [present(HASH, netns(7, WEB_IP), cgroups=[70])]
    result = wanted([static], seen)
    assert result.netns == {HOST_COOKIE: HOST, 7: Membership(IN_MESH, WEB_IP)}
    assert result.cgroups == {70: Membership(IN_MESH, WEB_IP)}


@pytest.mark.parametrize(
    "value", ["", "web", HASH.upper(), HASH[:-1], HASH + "0", "0a1b2c3d-0000-4000-8000-000000000001"]
)
def test_annotation_that_is_no_hash_does_not_claim_another_pods_cgroups(value: str) -> None:
    """Only a value of the hash's form stands for a UID; any other leaves the pod its own."""
    claimant = pod("claimant", annotations={"kubernetes.io/config.hash": value})
    result = wanted([claimant], [present(value, netns(7), cgroups=[70]), present("claimant", cgroups=[80])])
    assert result.cgroups == {80: Membership(IN_MESH, WEB_IP)}


def test_ztunnel_is_placed_and_outside_the_mesh() -> None:
    """Ztunnel's address and its namespace's cookie are known; its own connections are nobody's to redirect."""
    result = wanted([ztunnel(labels={"app": "ztunnel"} | AMBIENT)], [present("ztunnel", netns(3, ZTUNNEL_IP))])
    assert result.ztunnel is not None
    assert (result.ztunnel.name, result.ztunnel.ip, result.ztunnel.netns_cookie) == (
        "istio-system/ztunnel",
        ZTUNNEL_IP,
        3,
    )
    assert result.no_ztunnel == ""
    assert result.netns[3] == Membership(IS_ZTUNNEL, ZTUNNEL_IP)


def test_ztunnels_namespace_is_the_one_with_its_address() -> None:
    """Of several namespaces with ztunnel's processes the one that has its address is where connections arrive."""
    seen = present("ztunnel", netns(2), netns(3, ZTUNNEL_IP), netns(4, WEB_IP))
    result = wanted([ztunnel()], [seen])
    assert result.ztunnel is not None
    assert result.ztunnel.netns_cookie == 3


@pytest.mark.parametrize(
    ("candidate", "seen", "reason"),
    [
        (ztunnel(namespace="shop"), [], "no pod of this node is labelled app=ztunnel in namespace istio-system"),
        (ztunnel(host_network=True), [], "no pod of this node is labelled app=ztunnel in namespace istio-system"),
        (ztunnel(phase="Failed"), [], "no pod of this node is labelled app=ztunnel in namespace istio-system"),
        (ztunnel(ip=None), [netns(3)], "ztunnel's pod istio-system/ztunnel has no address yet"),
        (
            ztunnel(),
            [],
            "ztunnel's pod istio-system/ztunnel has no process in a network namespace of its own yet",
        ),
    ],
    ids=["other namespace", "host network", "finished", "no address", "no process"],
)
def test_no_ztunnel_says_why(candidate: Pod, seen: list[Netns], reason: str) -> None:
    """Where no pod can serve as ztunnel, there is none, and the reason is what an operator needs."""
    result = wanted([candidate], [present("ztunnel", *seen)])
    assert (result.ztunnel, result.no_ztunnel) == (None, reason)


def test_ztunnel_namespace_is_a_setting() -> None:
    """With another namespace configured, that one's pods count and istio-system's do not."""
    pods = [ztunnel(), ztunnel("mine", namespace="mesh", ip=WEB_IP)]
    seen = [present("ztunnel", netns(3, ZTUNNEL_IP)), present("mine", netns(4, WEB_IP))]
    result = wanted(pods, seen, policy=EnrolmentPolicy(ztunnel_namespace="mesh"))
    assert result.ztunnel is not None
    assert (result.ztunnel.name, result.ztunnel.netns_cookie) == ("mesh/mine", 4)


def test_new_ztunnel_does_not_serve_before_its_process_is_there() -> None:
    """In a rolling update the old one serves on until the new one is on the node, however ready the API calls it."""
    old = ztunnel("old", deleting=True, ready=False)
    new = ztunnel("new", ip=WEB_IP, created="2026-08-02T10:00:00Z")
    before = wanted([old, new], [present("old", netns(3, ZTUNNEL_IP))])
    after = wanted([old, new], [present("old", netns(3, ZTUNNEL_IP)), present("new", netns(4, WEB_IP))])
    assert before.ztunnel is not None
    assert after.ztunnel is not None
    assert (before.ztunnel.name, after.ztunnel.name) == ("istio-system/old", "istio-system/new")


def test_order_of_the_file_does_not_matter() -> None:
    """The same pods in any order give the same maps and the same ztunnel."""
    shared = netns(9)
    pods = [
        pod("a", ip=None),
        pod("b", ip=None, labels=NONE),
        pod("c", ip=IPv4Address("10.244.1.7")),
        pod("d", host_network=True),
        ztunnel("z1"),
        ztunnel("z2", created="2026-08-02T10:00:00Z"),
    ]
    seen = [
        present("a", shared, cgroups=[10]),
        present("b", shared, netns(10), cgroups=[11]),
        present("c", netns(11), shared, cgroups=[12, 13]),
        present("d", shared, cgroups=[14]),
        present("z1", netns(3, ZTUNNEL_IP)),
        present("z2", netns(4, ZTUNNEL_IP)),
    ]
    expected = wanted(pods, seen)
    shuffler = random.Random(1)  # noqa: S311  # the same shuffles each time
    for _ in range(50):
        shuffler.shuffle(pods)
        shuffler.shuffle(seen)
        result = wanted(pods, seen)
        assert (result.netns, result.cgroups, result.ztunnel) == (expected.netns, expected.cgroups, expected.ztunnel)


@pytest.mark.parametrize("order", [1, -1])
def test_two_objects_of_one_static_pod_agree_in_both_maps(order: int) -> None:
    """While an old and a new mirror of one manifest are listed, namespace and cgroup say the same."""
    annotations = {"kubernetes.io/config.hash": HASH}
    mirrors = [pod("old", annotations=annotations, labels=NONE), pod("new", annotations=annotations)][::order]
    result = wanted(mirrors, [present(HASH, netns(7, WEB_IP), cgroups=[70])])
    assert result.netns[7] == result.cgroups[70] == Membership(IN_MESH, WEB_IP)
