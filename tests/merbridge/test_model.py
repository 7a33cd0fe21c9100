"""Who is in the mesh, and which ztunnel serves the node."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from itertools import permutations
from typing import Any

import pytest

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

AMBIENT = {"istio.io/dataplane-mode": "ambient"}
NONE = {"istio.io/dataplane-mode": "none"}
DISABLED = {"ambient.istio.io/redirection": "disabled"}
ZTUNNEL = {"app": "ztunnel"}


def pod(**changes: Any) -> Pod:
    """A running pod of node-1 outside the mesh, with changes."""
    fields: dict[str, Any] = {
        "uid": "0a1b2c3d-0000-4000-8000-000000000001",
        "namespace": "shop",
        "name": "web-0",
        "node_name": "node-1",
        "host_network": False,
        "labels": {},
        "annotations": {},
        "ip": IPv4Address("10.244.1.5"),
        "phase": "Running",
        "ready": True,
        "deleting": False,
        "created": "2026-08-01T10:00:00Z",
    }
    return Pod(**fields | changes)


def ztunnel(**changes: Any) -> Pod:
    """A ready ztunnel in the default namespace, with changes."""
    return pod(**{"namespace": "istio-system", "name": "ztunnel-a", "labels": ZTUNNEL} | changes)


@pytest.mark.parametrize(
    ("subject", "namespace_labels", "expected"),
    [
        (pod(), {}, Enrolment(False, "no label istio.io/dataplane-mode=ambient")),
        (pod(labels=AMBIENT), {}, Enrolment(True, "pod label istio.io/dataplane-mode=ambient")),
        (pod(), AMBIENT, Enrolment(True, "namespace label istio.io/dataplane-mode=ambient")),
        (pod(labels=NONE), AMBIENT, Enrolment(False, "pod label istio.io/dataplane-mode=none")),
        (pod(labels=AMBIENT), NONE, Enrolment(True, "pod label istio.io/dataplane-mode=ambient")),
        (
            pod(labels={"istio.io/dataplane-mode": "x"}),
            AMBIENT,
            Enrolment(True, "namespace label istio.io/dataplane-mode=ambient"),
        ),
        (pod(labels=AMBIENT, host_network=True), AMBIENT, Enrolment(False, "host network")),
        (pod(labels=AMBIENT, phase="Succeeded"), {}, Enrolment(False, "phase Succeeded")),
        (pod(labels=AMBIENT, phase="Failed"), {}, Enrolment(False, "phase Failed")),
        (
            pod(labels=AMBIENT, phase="Pending", ready=False, deleting=True),
            {},
            Enrolment(True, "pod label istio.io/dataplane-mode=ambient"),
        ),
        (pod(labels=AMBIENT, namespace="kube-system"), AMBIENT, Enrolment(False, "namespace kube-system is excluded")),
        (
            pod(labels=AMBIENT, annotations={"sidecar.istio.io/status": ""}),
            {},
            Enrolment(False, "annotation sidecar.istio.io/status: it has a sidecar"),
        ),
        (
            pod(labels=AMBIENT, annotations=DISABLED),
            {},
            Enrolment(False, "annotation ambient.istio.io/redirection=disabled"),
        ),
        (pod(labels=AMBIENT | DISABLED), {}, Enrolment(False, "label ambient.istio.io/redirection=disabled")),
        (ztunnel(labels=ZTUNNEL | AMBIENT), AMBIENT, Enrolment(False, "ztunnel itself")),
        (pod(labels=ZTUNNEL | AMBIENT), {}, Enrolment(True, "pod label istio.io/dataplane-mode=ambient")),
    ],
)
def test_enrolment(subject: Pod, namespace_labels: Mapping[str, str], expected: Enrolment) -> None:
    """Each rule gives its answer and its reason, and what keeps a pod out wins over every label."""
    assert enrolment(subject, namespace_labels, EnrolmentPolicy()) == expected


def test_excluded_namespaces_are_a_setting() -> None:
    """A policy of one's own replaces the default exclusion."""
    policy = EnrolmentPolicy(excluded_namespaces=frozenset({"shop"}))
    assert not enrolment(pod(labels=AMBIENT), {}, policy).in_mesh
    assert enrolment(pod(labels=AMBIENT, namespace="kube-system"), {}, policy).in_mesh


def test_is_ztunnel_only_in_its_namespace() -> None:
    """The label counts in the configured namespace alone, and not on the host's network."""
    policy = EnrolmentPolicy()
    assert is_ztunnel(ztunnel(), policy)
    assert not is_ztunnel(pod(labels=ZTUNNEL), policy)
    assert not is_ztunnel(ztunnel(labels={}), policy)
    assert not is_ztunnel(ztunnel(host_network=True), policy)
    assert is_ztunnel(pod(labels=ZTUNNEL), EnrolmentPolicy(ztunnel_namespace="shop"))


def test_choose_ztunnel_order() -> None:
    """Ready wins over staying, staying over newest, newest over the name, whatever the order they come in."""
    ranked = [
        ztunnel(name="b", created="2026-08-01T10:00:02Z"),
        ztunnel(name="a", created="2026-08-01T10:00:01Z"),
        ztunnel(name="c", created="2026-08-01T10:00:01Z"),
        ztunnel(name="d", created="2026-08-01T10:00:09Z", deleting=True),
        ztunnel(name="e", created="2026-08-01T10:00:10Z", ready=False),
    ]
    for first in range(len(ranked)):
        for order in permutations(ranked[first:]):
            assert choose_ztunnel(order) is ranked[first]


def test_choose_ztunnel_leaves_out_what_cannot_serve() -> None:
    """One without an address, or finished, is no ztunnel; with no other there is none."""
    old = ztunnel(name="old", deleting=True, ready=False)
    starting = ztunnel(name="new", ip=None, ready=False, created="2027-01-01T00:00:00Z")
    evicted = ztunnel(name="evicted", phase="Failed", ready=False)
    assert choose_ztunnel([starting, evicted, old]) is old
    assert choose_ztunnel([starting, evicted]) is None
    assert choose_ztunnel([]) is None


def test_local_pods() -> None:
    """Other nodes' pods are left out; a pod with no node is local."""
    here, there, anywhere = pod(), pod(node_name="node-2"), pod(node_name=None)
    assert local_pods(Snapshot({}, (here, there, anywhere)), "node-1") == (here, anywhere)


def test_kubelet_uid_of_static_pods() -> None:
    """A mirror pod's cgroups carry the manifest's hash; no other value of the annotation is believed."""
    digest = "0123456789abcdef0123456789abcdef"
    other_pod = "0a1b2c3d-0000-4000-8000-000000000002"
    assert pod(annotations={"kubernetes.io/config.hash": digest}).kubelet_uid == digest
    assert pod(annotations={"kubernetes.io/config.hash": other_pod}).kubelet_uid == pod().uid
    assert pod().kubelet_uid == pod().uid


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in ("1", "t", "true", "True", "TRUE")),
        *((value, False) for value in ("false", "0", "", "yes", " true")),
    ],
)
def test_annotations_are_true_where_istio_takes_them_so(value: str, expected: bool) -> None:
    """Both that ask for something of the datapath; without them it is not asked for."""
    assert pod(annotations={"ambient.istio.io/dns-capture": value}).captures_dns is expected
    assert pod(annotations={"ambient.istio.io/bypass-inbound-capture": value}).bypasses_inbound is expected
    assert not pod().captures_dns
    assert not pod().bypasses_inbound
