"""Pods that are captured are annotated for Istio, others are not: as a pure decision, and against an API that fails."""

import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import attrs
import pytest
from apiserver import ApiServer, Fault
from apiserver.objects import pod as api_pod
from cluster import SLOWNESS, wait_until

from merbridge.annotate import Annotator, Patch, patches
from merbridge.model import REDIRECTION, Enrolment, Pod
from merbridge.reconcile.desired import KnownPod, Membership
from merbridge.sources.kubernetes import Api, ApiPlace, Timing
from merbridge.sources.kubernetes.errors import ApiError
from merbridge.watchers import PodPresence

COOKIE = 7
QUICK = Timing(answer_seconds=0.5 * SLOWNESS, first_pause_seconds=0.02, longest_pause_seconds=0.2)


def known(*, in_mesh: bool, value: str | None = None, **changes: Any) -> KnownPod:
    """A pod as the agent knows it, with this value of the annotation."""
    pod = Pod(
        uid="uid",
        namespace="shop",
        name="web",
        node_name="node-1",
        host_network=False,
        labels={},
        annotations={} if value is None else {REDIRECTION: value},
        ip=IPv4Address("10.0.0.1"),
        phase="Running",
        ready=True,
        deleting=False,
        created="2026-08-01T10:00:00Z",
    )
    presence = PodPresence("uid", frozenset(), ())
    return KnownPod(attrs.evolve(pod, **changes), Enrolment(in_mesh, "why"), presence, Membership(0, IPv4Address(0)))


def decided(pod: KnownPod, cookies: frozenset[int] = frozenset({COOKIE})) -> list[str | None]:
    """The values to write, if any, where the map has the namespace COOKIE."""
    return [patch.value for patch in patches([pod], {"uid": cookies}, frozenset({COOKIE}))]


# --- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "pending"])
def test_captured_pod_gets_it(value: str | None) -> None:
    """A pod in the mesh whose namespace is in the map is annotated, whatever istio-cni had left there."""
    assert decided(known(in_mesh=True, value=value)) == ["enabled"]


def test_nothing_is_written_twice() -> None:
    """What is as it should be needs no patch."""
    assert decided(known(in_mesh=True, value="enabled")) == []
    assert decided(known(in_mesh=False)) == []


def test_pod_that_is_not_captured_yet_waits() -> None:
    """In the mesh by its labels, but without a namespace that the map has: nothing is claimed."""
    assert decided(known(in_mesh=True), frozenset()) == []
    assert decided(known(in_mesh=True), frozenset({COOKIE + 1})) == []


def test_pod_outside_loses_it() -> None:
    """A pod that has left the mesh loses our value; a user's opt-out stays."""
    assert decided(known(in_mesh=False, value="enabled")) == [None]
    assert decided(known(in_mesh=False, value="disabled")) == []


def test_pod_that_is_being_deleted_is_left_alone() -> None:
    """A pod on its way out is not annotated any more."""
    assert decided(known(in_mesh=True, deleting=True)) == []


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server with three pods."""
    with ApiServer() as started:
        for name in ("a", "b", "c"):
            started.store.put(api_pod(name))
        yield started


@pytest.fixture
def annotator(server: ApiServer, tmp_path: Path) -> Iterator[Annotator]:
    """A running annotator; afterwards its thread must have ended."""
    api = Api(ApiPlace(server.write_kubeconfig(tmp_path / "kubeconfig"), environment={}), QUICK)
    running = Annotator(api)
    running.start()
    yield running
    running.stop()
    api.close()
    running.join()
    wait_until(lambda: "annotate" not in {each.name for each in threading.enumerate()}, "its thread has ended")


def patch_of(server: ApiServer, name: str, value: str | None = "enabled") -> Patch:
    """A patch for a pod of the server's."""
    return Patch(server.store.get("pods", "shop", name)["metadata"]["uid"], "shop", name, value)


def value_of(server: ApiServer, name: str) -> str | None:
    """The annotation that a pod has in the API."""
    value: str | None = server.store.get("pods", "shop", name)["metadata"].get("annotations", {}).get(REDIRECTION)
    return value


def wait_for_value(server: ApiServer, name: str, value: str | None) -> None:
    """Wait until a pod has this value."""
    wait_until(lambda: value_of(server, name) == value, f"pod {name} has {value}")


def test_annotation_is_put_on_and_taken_off(server: ApiServer, annotator: Annotator) -> None:
    """Only this annotation is touched: others of the pod stay."""
    server.store.merge("pods", "shop", "a", {"metadata": {"annotations": {"other": "stays"}}})
    annotator.want([patch_of(server, "a"), patch_of(server, "b")])
    wait_for_value(server, "a", "enabled")
    wait_for_value(server, "b", "enabled")
    assert value_of(server, "c") is None
    annotator.want([patch_of(server, "a", None)])
    wait_for_value(server, "a", None)
    assert server.store.get("pods", "shop", "a")["metadata"]["annotations"] == {"other": "stays"}


def test_wanted_again_and_again_is_written_once(server: ApiServer, annotator: Annotator) -> None:
    """Until the watch shows what was written, the loop wants it still: that costs no further requests."""
    for _ in range(20):
        annotator.want([patch_of(server, "a")])
        time.sleep(0.01)
    wait_for_value(server, "a", "enabled")
    assert len(server.asked("patch", "pods")) == 1


@pytest.mark.parametrize("kind", ["status", "cut", "hang"])
def test_failures_are_retried_until_it_is_written(server: ApiServer, annotator: Annotator, kind: str) -> None:
    """5xx, a broken connection, no answer: told, and tried again without being asked again."""
    server.fail(Fault(kind, "patch", code=503, message="away", times=3))  # type: ignore[arg-type]  # one of the kinds
    annotator.want([patch_of(server, name) for name in ("a", "b", "c")])
    wait_until(annotator.problem, "it is told")
    assert annotator.problem().startswith(f"annotations for Istio wait: {server.url}: ")
    for name in ("a", "b", "c"):
        wait_for_value(server, name, "enabled")
    wait_until(lambda: not annotator.problem(), "the problem is over")


def test_retry_after_is_respected(server: ApiServer, annotator: Annotator) -> None:
    """429 with Retry-After holds the next patch back."""
    server.fail(Fault("status", "patch", code=429, message="slow down", retry_after=1))
    annotator.want([patch_of(server, "a")])
    wait_for_value(server, "a", "enabled")
    first, second = (each.moment for each in server.asked("patch", "pods"))
    assert second - first >= 1.0


def test_outage_delays_and_loses_nothing(server: ApiServer, annotator: Annotator) -> None:
    """What is wanted while the API is away is written when it is back."""
    server.stop()
    annotator.want([patch_of(server, "a")])
    wait_until(
        lambda: annotator.problem() == f"annotations for Istio wait: {server.url}: Connection refused", "it is told"
    )
    server.start()
    wait_for_value(server, "a", "enabled")


def test_missing_permission_is_told(server: ApiServer, annotator: Annotator) -> None:
    """403 names the verb to give; once it is given, the annotation is written."""
    server.forbidden.add(("patch", "pods"))
    annotator.want([patch_of(server, "a")])
    wait_until(annotator.problem, "it is told")
    assert annotator.problem().startswith(
        "annotations for Istio wait: not allowed to patch pods: give the agent's user a ClusterRole with the verb "
        "patch on pods (docs/agent.md): HTTP 403: "
    )
    server.forbidden.clear()
    wait_for_value(server, "a", "enabled")
    wait_until(lambda: not annotator.problem(), "the problem is over")


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_pod_that_is_refused_holds_up_no_other(
    server: ApiServer, annotator: Annotator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """An admission webhook may refuse one pod, as 400 when it gives no status: it is told, and tried again."""
    write, refusing = Annotator._write, [True]

    def write_or_be_refused(self: Annotator, patch: Patch) -> None:
        if patch.name == "a" and refusing:
            raise ApiError(status, 'admission webhook "w" denied the request')
        write(self, patch)

    monkeypatch.setattr(Annotator, "_write", write_or_be_refused)
    annotator.want([patch_of(server, name) for name in ("a", "b", "c")])
    wait_for_value(server, "b", "enabled")
    wait_for_value(server, "c", "enabled")
    assert "denied the request" in annotator.problem()
    refusing.clear()
    wait_for_value(server, "a", "enabled")


def test_pod_that_is_gone_or_another_is_harmless(server: ApiServer, annotator: Annotator) -> None:
    """A deleted pod (404) and a new pod of the same name (409) hold nothing up, and the new one gets nothing."""
    gone, replaced = patch_of(server, "a"), patch_of(server, "b")
    server.store.delete("pods", "shop", "a")
    server.store.delete("pods", "shop", "b")
    server.store.put(api_pod("b"))
    annotator.want([gone, replaced, patch_of(server, "c")])
    wait_for_value(server, "c", "enabled")
    assert annotator.problem() == ""
    assert value_of(server, "b") is None
    assert len(server.asked("patch", "pods")) == 3


def test_what_is_not_wanted_any_more_is_not_written(server: ApiServer, annotator: Annotator) -> None:
    """A pod that leaves the mesh before the API is back is never annotated."""
    server.stop()
    annotator.want([patch_of(server, "a"), patch_of(server, "b")])
    wait_until(annotator.problem, "the API is away")
    annotator.want([patch_of(server, "b")])
    server.start()
    wait_for_value(server, "b", "enabled")
    assert value_of(server, "a") is None


def test_what_changes_while_others_are_written_counts(
    server: ApiServer, annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that leaves the mesh while another's patch is on its way is not annotated by the same pass."""
    write = Annotator._write

    def write_and_change_mind(self: Annotator, patch: Patch) -> None:
        write(self, patch)
        self.want([patch_of(server, "c")])

    monkeypatch.setattr(Annotator, "_write", write_and_change_mind)
    annotator.want([patch_of(server, name) for name in ("a", "b", "c")])
    wait_for_value(server, "c", "enabled")
    assert value_of(server, "b") is None
