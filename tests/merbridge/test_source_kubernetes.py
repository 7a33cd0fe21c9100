"""The source `kubernetes` follows the API through everything that it and the network between do."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from apiserver import ApiServer, Fault
from apiserver.certificates import server_context
from apiserver.objects import namespace, pod
from cluster import ROOT, SLOWNESS, wait_until

from merbridge.sources import KubernetesSource, SourceError
from merbridge.sources.kubernetes import Api, ApiPlace, Timing
from merbridge.sources.kubernetes.reflector import Reflector

QUICK = Timing(
    connect_seconds=2.0,
    answer_seconds=2.0 * SLOWNESS,
    watch_seconds=30.0,
    silence_seconds=20.0,
    first_pause_seconds=0.02,
    longest_pause_seconds=0.2,
)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A server with a namespace and two pods, one of which is of this node."""
    with ApiServer() as started:
        started.store.put(namespace("shop", {"istio.io/dataplane-mode": "ambient"}))
        started.store.put(pod("web"))
        started.store.put(pod("other", node="node-2"))
        yield started


@contextmanager
def following(server: ApiServer, directory: Path, timing: Timing = QUICK) -> Iterator[KubernetesSource]:
    """A source that follows the server, with a kubeconfig without credentials."""
    with opened(ApiPlace(server.write_kubeconfig(directory / "kubeconfig"), environment={}), timing) as source:
        yield source


@contextmanager
def opened(place: ApiPlace, timing: Timing = QUICK) -> Iterator[KubernetesSource]:
    """A source that follows the API at a place. Afterwards none of its threads may be left."""
    source = KubernetesSource(Api(place, timing), "node-1")
    source.start()
    try:
        yield source
    finally:
        source.close()
    wait_until(lambda: not reflecting(), "the source's threads have ended")


def reflecting() -> list[str]:
    """The names of the threads that follow the API."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reflect-")]


def names(source: KubernetesSource) -> set[str]:
    """The names of the pods that are known."""
    snapshot = source.latest()
    return {each.name for each in snapshot.pods} if snapshot else set()


def problems(source: KubernetesSource) -> list[str]:
    """What the source says is wrong."""
    return [state.problem for state in source.states() if state.problem]


def versions_watched(server: ApiServer) -> list[int]:
    """The versions from which pods were watched so far."""
    return [int(each.query["resourceVersion"]) for each in server.asked("watch", "pods")]


def wait_for_names(source: KubernetesSource, *expected: str) -> None:
    """Wait until these pods, and no others, are known."""
    wait_until(lambda: names(source) == set(expected), f"pods {expected} are known, not {names(source)}")


def wait_for_watch(server: ApiServer, count: int = 1) -> None:
    """Wait until pods have been watched so many times."""
    wait_until(lambda: len(server.asked("watch", "pods")) >= count, f"pods are watched {count} times")


# --- the ordinary course ---------------------------------------------------------------------------------------------


def test_pods_of_this_node_and_all_namespaces(server: ApiServer, tmp_path: Path) -> None:
    """Pods of this node alone are asked for, of namespaces all, with their labels."""
    server.store.put(namespace("empty"))
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        snapshot = source.latest()
        assert snapshot is not None
        assert {name: dict(labels) for name, labels in snapshot.namespaces.items()} == {
            "shop": {"istio.io/dataplane-mode": "ambient"},
            "empty": {},
        }
        assert str(snapshot.pods[0].ip) == "10.244.1.5"
        selectors = {each.query["fieldSelector"] for each in server.requests if each.resource == "pods"}
        assert selectors == {"spec.nodeName=node-1"}
        assert problems(source) == []


def test_changes_are_followed(server: ApiServer, tmp_path: Path) -> None:
    """Pods and labels that come, change and go are known without another list."""
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        server.store.put(pod("second"))
        wait_for_names(source, "web", "second")
        server.store.merge("namespaces", "", "shop", {"metadata": {"labels": {"istio.io/dataplane-mode": None}}})
        wait_until(lambda: (known := source.latest()) and not known.namespaces["shop"], "the label is gone")
        server.store.delete("pods", "shop", "web")
        wait_for_names(source, "second")
        assert len(server.asked("list", "pods")) == len(server.asked("watch", "pods")) == 1


def test_pod_enters_and_leaves_the_selection(server: ApiServer, tmp_path: Path) -> None:
    """A pod is known from when it is scheduled to this node."""
    server.store.put(pod("late", node=""))
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        server.store.merge("pods", "shop", "late", {"spec": {"nodeName": "node-1"}})
        wait_for_names(source, "web", "late")


def test_pod_that_is_made_again_is_another(server: ApiServer, tmp_path: Path) -> None:
    """A pod of the same name with another UID takes the first one's place, as a StatefulSet makes them."""
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        first = source.latest()
        server.store.delete("pods", "shop", "web")
        server.store.put(pod("web"))
        wait_until(lambda: names(source) and source.latest() is not first, "the new pod is known")
        wait_for_names(source, "web")
        second = source.latest()
        assert first is not None
        assert second is not None
        assert first.pods[0].uid != second.pods[0].uid


def test_the_snapshot_is_the_same_object_until_something_changes(server: ApiServer, tmp_path: Path) -> None:
    """What changes nothing of interest, like a container's status, wakes nobody."""
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        before = source.latest()
        version = server.store.merge("pods", "shop", "web", {"status": {"message": "x"}})["metadata"]["resourceVersion"]
        wait_until(lambda: source.states()[0].version == version, "the event was taken")
        assert source.latest() is before


def test_long_lists_come_in_pages(server: ApiServer, tmp_path: Path) -> None:
    """1,201 pods come in three pages of at most 500, as one list."""
    for number in range(1200):
        server.store.put(pod(f"pod-{number}"))
    with following(server, tmp_path) as source:
        wait_until(lambda: len(names(source)) == 1201, "all pods are known")
        assert [each.query["limit"] for each in server.asked("list", "pods")] == ["500"] * 3
        assert not any("resourceVersion" in each.query for each in server.asked("list", "pods"))


def test_list_that_expires_between_its_pages_begins_again(server: ApiServer, tmp_path: Path) -> None:
    """A continue token that is too old (410) starts the list anew; nothing is known before it is whole."""
    for number in range(600):
        server.store.put(pod(f"pod-{number}"))
    server.fail(Fault("status", "list", "pods", code=410, message="too old", after=1))
    with following(server, tmp_path) as source:
        wait_until(lambda: len(names(source)) == 601, "all pods are known")
        tokens = ["continue" in each.query for each in server.asked("list", "pods")]
        assert tokens == [False, True, False, True]


def test_bookmarks_move_the_version(server: ApiServer, tmp_path: Path) -> None:
    """Bookmarks carry the version over other nodes' changes: the next watch begins there."""
    server.bookmark_seconds = 0.05
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        for _ in range(5):
            changed = server.store.put(pod("other", node="node-2"))["metadata"]["resourceVersion"]
        wait_until(lambda: source.states()[0].version == changed, "a bookmark has moved the version")
        server.cut_connections()
        wait_for_watch(server, 2)
        assert versions_watched(server)[-1] == int(changed)
        assert all(each.query["allowWatchBookmarks"] == "true" for each in server.asked("watch", "pods"))


def test_watch_that_ends_in_good_order_goes_on(server: ApiServer, tmp_path: Path) -> None:
    """The server ends each watch after the time that was asked for; the next one goes on, and nothing is told."""
    with following(server, tmp_path, attrs.evolve(QUICK, watch_seconds=2.2)) as source:
        wait_for_names(source, "web")
        wait_for_watch(server, 2)
        server.store.put(pod("second"))
        wait_for_names(source, "web", "second")
        assert len(server.asked("list", "pods")) == 1
        assert problems(source) == []
        assert {each.query["timeoutSeconds"] for each in server.asked("watch", "pods")} <= {"2", "3"}


# --- the API is away, or answers with errors -----------------------------------------------------------------------


def test_outage_keeps_what_was_known(server: ApiServer, tmp_path: Path) -> None:
    """While nothing answers, the last state holds and the problem is told; what changed meanwhile comes afterwards."""
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        server.stop()
        refused = f"{server.url}: Connection refused"
        wait_until(lambda: problems(source) == [refused, refused], "both parts say that the API is away")
        server.store.put(pod("second"))
        server.store.delete("pods", "shop", "web")
        time.sleep(0.3)
        assert names(source) == {"web"}
        server.start()
        wait_for_names(source, "second")
        wait_until(lambda: not problems(source), "the problem is over")
        assert len(server.asked("list", "pods")) == 1, "the watch goes on, without a list"


def test_api_that_comes_up_later(server: ApiServer, tmp_path: Path) -> None:
    """Before the first list there is no snapshot, rather than an empty one."""
    server.stop()
    with following(server, tmp_path) as source:
        wait_until(lambda: len(problems(source)) == 2, "it is told")
        assert source.latest() is None
        assert not any(state.synced for state in source.states())
        server.start()
        wait_for_names(source, "web")


@pytest.mark.parametrize("as_status", [True, False], ids=["status", "event"])
def test_expired_version_lists_again(server: ApiServer, tmp_path: Path, as_status: bool) -> None:
    """410, as the answer or as an ERROR event, is answered by a list: pods that are not in it are gone."""
    server.expiry_as_status = as_status
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        server.stop()
        server.store.put(pod("second"))
        server.store.delete("pods", "shop", "web")
        server.store.forget_history()
        server.start()
        wait_for_names(source, "second")
        wait_until(lambda: not problems(source), "nothing is wrong afterwards")
        assert len(server.asked("list", "pods")) == 2
        server.store.put(pod("third"))
        wait_for_names(source, "second", "third")


def test_expiry_again_and_again_is_not_a_busy_loop(server: ApiServer, tmp_path: Path) -> None:
    """A server that has forgotten each version as soon as it gave it is asked less and less, and it is told."""
    server.fail(Fault("error-event", "watch", "pods", code=410, message="too old", times=10_000))
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        wait_until(lambda: problems(source) == [f"{server.url}: HTTP 410: too old"], "it is told")
        before = len(server.asked("list", "pods"))
        time.sleep(1.0)
        assert len(server.asked("list", "pods")) - before <= 12  # pauses of 0.1 to 0.2 s
        assert names(source) == {"web"}
        server.faults.clear()
        wait_until(lambda: not problems(source), "it heals")


def test_history_of_another_server_lists_again(server: ApiServer, tmp_path: Path) -> None:
    """A server that was set back (etcd from a backup) does not know our version: it is listed anew."""
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        server.stop()
        restored = ApiServer()
        restored.store.put(namespace("shop"))
        restored.store.put(pod("old"))
        server.store = restored.store
        server.start()
        wait_for_names(source, "old")


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_retry_after_is_respected(server: ApiServer, tmp_path: Path, verb: str) -> None:
    """429 with Retry-After: the next request comes when it is asked for, not before."""
    server.fail(Fault("status", verb, "pods", code=429, message="too many requests", retry_after=1))
    with following(server, tmp_path) as source:
        wait_until(lambda: len(server.asked(verb, "pods")) == 2, "it is tried again")
        first, second = (each.moment for each in server.asked(verb, "pods"))
        assert second - first >= 1.0
        wait_for_names(source, "web")
        wait_until(lambda: not problems(source), "it heals")


@pytest.mark.parametrize("code", [500, 502, 503, 504])
def test_server_errors_are_told_and_retried(server: ApiServer, tmp_path: Path, code: int) -> None:
    """5xx is told with its code and message, and tried again with growing pauses until it works."""
    timing = attrs.evolve(QUICK, first_pause_seconds=0.1, longest_pause_seconds=0.4)
    server.fail(Fault("status", "list", "pods", code=code, message="etcd is away", times=4))
    with following(server, tmp_path, timing) as source:
        told = f"{server.url}: HTTP {code}: etcd is away"
        wait_until(lambda: problems(source) == [told], "it is told")
        wait_for_names(source, "web")
        moments = [each.moment for each in server.asked("list", "pods")]
        pauses = [after - before for before, after in itertools.pairwise(moments)]
        assert len(pauses) == 4
        lower_bounds = (0.05, 0.1, 0.2, 0.2)
        assert all(pause >= bound for pause, bound in zip(pauses, lower_bounds, strict=True)), pauses


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("resource", ["pods", "namespaces"])
def test_missing_permission_is_told_with_what_to_do(
    server: ApiServer, tmp_path: Path, verb: str, resource: str
) -> None:
    """403 names verb and resource, and what to give; once it is given, all goes on without a restart."""
    server.forbidden.add((verb, resource))
    with following(server, tmp_path) as source:
        wait_until(lambda: problems(source), "it is told")
        (problem,) = problems(source)
        assert problem.startswith(
            f"not allowed to {verb} {resource}: give the agent's user a ClusterRole with the verb {verb} on "
            f'{resource} (docs/agent.md): HTTP 403: {resource} is forbidden: User "agent" cannot {verb}'
        )
        assert "\n" not in problem
        server.forbidden.clear()
        wait_for_names(source, "web")
        wait_until(lambda: not problems(source), "it heals")


# --- streams that break ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cut", "cut-mid-line"])
def test_cut_streams_lose_nothing(server: ApiServer, tmp_path: Path, kind: str) -> None:
    """A stream that is reset behind or within an event goes on from the last whole one; no list is needed."""
    server.fail(Fault(kind, "watch", "pods", times=3))  # type: ignore[arg-type]  # one of the kinds
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        for name in ("a", "b", "c", "d", "e"):
            server.store.put(pod(name))
        wait_for_names(source, "web", "a", "b", "c", "d", "e")
        assert len(server.asked("list", "pods")) == 1
        watched = versions_watched(server)
        assert watched == sorted(watched)


@pytest.mark.parametrize("kind", ["garbage", "end"])
def test_useless_streams_are_told_and_not_a_busy_loop(server: ApiServer, tmp_path: Path, kind: str) -> None:
    """A watch that gives no JSON, or ends as it begins, again and again: it is told, and tried seldom."""
    server.fail(Fault(kind, "watch", "pods", times=10_000))  # type: ignore[arg-type]  # one of the kinds
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        wait_until(lambda: problems(source), "it is told")
        expected = "is not JSON" if kind == "garbage" else "the watch of pods ends as soon as it began"
        assert expected in problems(source)[0]
        before = len(server.asked("watch", "pods"))
        time.sleep(1.0)
        assert len(server.asked("watch", "pods")) - before <= 12
        server.faults.clear()
        wait_until(lambda: not problems(source), "it heals")


def test_half_open_stream_is_noticed(server: ApiServer, tmp_path: Path) -> None:
    """A stream on which nothing comes any more, not even bookmarks, is given up; what was missed comes then."""
    server.fail(Fault("silence", "watch", "pods"))
    with following(server, tmp_path, attrs.evolve(QUICK, silence_seconds=0.5)) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        server.store.put(pod("second"))
        wait_for_names(source, "web", "second")
        assert len(server.asked("list", "pods")) == 1


def test_peer_that_is_gone_without_a_word_is_probed(server: ApiServer, tmp_path: Path) -> None:
    """The kernel probes idle connections and gives up unacknowledged ones, half a minute after the last word."""
    import socket

    place = ApiPlace(server.write_kubeconfig(tmp_path / "kubeconfig"), environment={})
    response = place.connect().pool.request("GET", server.url + "/version", preload_content=False)
    with socket.fromfd(response.fileno(), socket.AF_INET, socket.SOCK_STREAM) as connection:
        tcp = socket.IPPROTO_TCP
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [connection.getsockopt(tcp, option) for option in options] == [15, 5, 3, 30_000]
    response.close()


def test_no_answer_is_no_answer(server: ApiServer, tmp_path: Path) -> None:
    """A list to which nothing comes is given up, told, and tried again."""
    server.fail(Fault("hang", "list", "pods"))
    with following(server, tmp_path, attrs.evolve(QUICK, answer_seconds=0.5)) as source:
        wait_until(lambda: problems(source) == [f"{server.url}: no answer in time"], "it is told")
        wait_for_names(source, "web")


def test_watch_without_an_answer_is_given_up(server: ApiServer, tmp_path: Path) -> None:
    """A watch whose head does not come waits as long as any answer, not as long as an idle stream."""
    server.fail(Fault("hang", "watch", "pods"))
    with following(server, tmp_path, attrs.evolve(QUICK, answer_seconds=0.5)) as source:
        wait_for_names(source, "web")
        wait_for_watch(server, 2)
        first, second = (each.moment for each in server.asked("watch", "pods"))
        assert 0.5 <= second - first < 2.0 * SLOWNESS


def test_idle_stream_may_be_silent(server: ApiServer, tmp_path: Path) -> None:
    """A stream that has begun may be silent longer than an answer may take."""
    with following(server, tmp_path, attrs.evolve(QUICK, answer_seconds=0.3)) as source:
        wait_for_names(source, "web")
        time.sleep(1.0)
        assert len(server.asked("watch", "pods")) == 1


def test_error_of_our_own_is_told_and_begins_anew(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has thought of does not end the thread unseen: it is told, and everything is listed anew."""

    def fail(reflector: object, event: object) -> None:
        raise ZeroDivisionError

    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        with monkeypatch.context() as patched:
            patched.setattr(Reflector, "_take", fail)
            server.store.put(pod("second"))
            wait_until(lambda: problems(source), "it is told")
            assert problems(source)[0].startswith("pods: ZeroDivisionError: ")
        wait_for_names(source, "web", "second")
        wait_until(lambda: not problems(source), "it heals")


@pytest.mark.parametrize("kind", ["trickle", "plain"])
def test_slow_streams_are_understood(server: ApiServer, tmp_path: Path, kind: str) -> None:
    """Events that come in pieces of seven bytes, in chunks or without, are put together."""
    server.fail(Fault(kind, "watch", "pods"))  # type: ignore[arg-type]  # one of the kinds
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        for name in ("a", "b"):
            server.store.put(pod(name))
        wait_for_names(source, "web", "a", "b")
        assert len(server.asked("watch", "pods")) == 1


# --- odd objects -----------------------------------------------------------------------------------------------------


def test_malformed_pod_is_told_and_leaves_the_others(server: ApiServer, tmp_path: Path) -> None:
    """A pod that cannot be understood is named; the others are followed, and it is known once it is mended."""
    server.store.put(pod("odd", ip="not an address"))
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        assert problems(source) == ["Pod shop/odd: status.podIP 'not an address' is not an IP address"]
        server.store.put(pod("second"))
        server.store.put(pod("odd"))
        wait_for_names(source, "web", "second", "odd")
        assert problems(source) == []


def test_known_pod_that_becomes_malformed_stays_as_it_was(server: ApiServer, tmp_path: Path) -> None:
    """A pod whose new state cannot be understood is not lost: its last good one holds, through a list, too."""
    with following(server, tmp_path) as source:
        wait_for_names(source, "web")
        before = source.latest()
        server.store.put(pod("web", ip="not an address"))
        wait_until(lambda: problems(source), "it is told")
        assert source.latest() is before
        server.stop()
        server.store.forget_history()
        server.start()
        wait_until(lambda: len(server.asked("watch", "pods")) >= 3, "it is listed and watched again")
        assert names(source) == {"web"}
        wait_until(
            lambda: problems(source)[0].startswith("Pod shop/web: "), "the outage is over, the pod is not mended"
        )
        server.store.delete("pods", "shop", "web")
        wait_for_names(source)


def test_wrong_node_name_is_told(server: ApiServer, tmp_path: Path) -> None:
    """No pod at all on this node is most likely a wrong name, and told so."""
    server.store.delete("pods", "shop", "web")
    with following(server, tmp_path) as source:
        wait_until(lambda: source.latest() is not None, "the lists have come")
        assert problems(source) == [
            "the API has no pod on node node-1: is --node-name (NODE_NAME) a name of `kubectl get nodes`?"
        ]


# --- credentials -----------------------------------------------------------------------------------------------------


def test_token_is_read_again_from_its_file(server: ApiServer, tmp_path: Path) -> None:
    """A token that was replaced on disk is taken when the old one is refused, and nothing is told."""
    token = tmp_path / "token"
    token.write_text("first")
    server.tokens = {"first"}
    place = ApiPlace(server.write_kubeconfig(tmp_path / "kubeconfig", {"tokenFile": str(token)}), environment={})
    with opened(place) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        server.tokens = {"second"}
        token.write_text("second")
        server.cut_connections()
        wait_for_watch(server, 2)
        server.store.put(pod("second"))
        wait_for_names(source, "web", "second")
        assert problems(source) == []


def test_refused_credentials_are_told(server: ApiServer, tmp_path: Path) -> None:
    """401 names where the credentials come from; a kubeconfig that is replaced is taken without a restart."""
    server.tokens = {"right"}
    path = server.write_kubeconfig(tmp_path / "kubeconfig", {"token": "wrong"})
    with opened(ApiPlace(path, environment={})) as source:
        told = f"{server.url} does not accept the credentials of kubeconfig {path}: HTTP 401: Unauthorized: renew them"
        wait_until(lambda: problems(source) == [told, told], "it is told")
        server.write_kubeconfig(path, {"token": "right"})
        wait_for_names(source, "web")
        wait_until(lambda: not problems(source), "it heals")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[tuple[ApiServer, ApiPlace]]:
    """A server with TLS, and a pod's service account there."""
    with ApiServer(tls=server_context(tmp_path)) as server:
        server.tokens = {"account"}
        server.store.put(namespace("shop"))
        server.store.put(pod("web"))
        (tmp_path / "token").write_text("account")
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        yield server, ApiPlace(environment=environment, service_account=tmp_path)


def test_service_account_of_a_pod(account: tuple[ApiServer, ApiPlace], tmp_path: Path) -> None:
    """In a pod, the mounted token and authority are used, over TLS; a rotated token is taken."""
    server, place = account
    with opened(place) as source:
        wait_for_names(source, "web")
        wait_for_watch(server)
        server.tokens = {"rotated"}
        (tmp_path / "token").write_text("rotated")
        server.cut_connections()
        server.store.put(pod("second"))
        wait_for_names(source, "web", "second")
        # The two watches are on their own: that of namespaces may come back later than that of pods.
        wait_until(lambda: problems(source) == [], "both watches are there again")


def test_foreign_certificate_is_told(account: tuple[ApiServer, ApiPlace], tmp_path: Path) -> None:
    """A server whose certificate is of another authority gets no token, and it is told."""
    server, place = account
    (tmp_path / "other").mkdir()
    server_context(tmp_path / "other")
    (tmp_path / "other" / "token").write_text("account")
    with opened(attrs.evolve(place, service_account=tmp_path / "other")) as source:
        wait_until(lambda: problems(source), "it is told")
        assert problems(source)[0].startswith(f"{server.url}: its certificate is not trusted: ")
        assert source.latest() is None
        assert server.requests == []


KUBECONFIG_FAULTS = {
    "": "Invalid kube-config",
    "- a": "",
    "a: [": "",
    "clusters: []\ncontexts: []\n": "Expected key current-context",
    "current-context: x\nclusters: []\ncontexts: []\n": "Expected object with name x",
    "current-context: x\ncontexts: [{name: x, context: {cluster: y}}]\nclusters: 3\n": "",
}


@pytest.mark.parametrize("text", KUBECONFIG_FAULTS)
def test_bad_kubeconfigs_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    """A kubeconfig that cannot be used is named, with what is wrong and the flags."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(SourceError) as refused:
        Api(ApiPlace(path, environment={}))
    line = str(refused.value)
    assert line.startswith(f"kubeconfig {path}: cannot be used to reach the Kubernetes API: ")
    assert KUBECONFIG_FAULTS[text] in line
    assert line.endswith(" (--kubeconfig, --context)")
    assert "\n" not in line


def test_places(tmp_path: Path) -> None:
    """Flags come first, then a pod's service account, then $KUBECONFIG, then the home directory's file."""
    pod_environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBECONFIG": "/k"}
    assert ApiPlace(environment=pod_environment).origin.startswith("the service account in /var/run/secrets/")
    assert ApiPlace(Path("/flag"), environment=pod_environment).origin == "kubeconfig /flag"
    assert ApiPlace(context="x", environment=pod_environment).origin == "kubeconfig /k"
    assert ApiPlace(environment={}).origin == f"kubeconfig {Path('~/.kube/config').expanduser()}"
    with pytest.raises(SourceError, match=r"kubeconfig .*none: cannot be used .*: no such file \(--kubeconfig"):
        Api(ApiPlace(tmp_path / "none"))


def test_context_is_chosen(server: ApiServer, tmp_path: Path) -> None:
    """--context takes another context than the current one."""
    path = server.write_kubeconfig(tmp_path / "kubeconfig")
    path.write_text(path.read_text().replace('"current-context": "test"', '"current-context": "gone"'))
    with pytest.raises(SourceError, match="gone"):
        Api(ApiPlace(path))
    with opened(ApiPlace(path, "test")) as source:
        wait_for_names(source, "web")


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "silence", "hang"])
def test_close_ends_open_requests_at_once(server: ApiServer, tmp_path: Path, kind: str) -> None:
    """Watches that are open or dead, and answers that do not come, do not hold the end up."""
    if kind:
        server.fail(Fault(kind, "watch", "pods", times=10))  # type: ignore[arg-type]  # one of the kinds
    source = KubernetesSource(
        Api(ApiPlace(server.write_kubeconfig(tmp_path / "kubeconfig"), environment={}), QUICK), "node-1"
    )
    source.start()
    wait_for_watch(server)
    wait_until(lambda: server.asked("watch", "namespaces"), "namespaces are watched")
    time.sleep(0.1)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 0.9 * SLOWNESS
    server.stop()
    wait_until(lambda: not reflecting(), "the threads have ended")


def test_client_is_loaded_only_where_it_is_used() -> None:
    """An agent that follows a file pays nothing for the Kubernetes client: neither time nor memory."""
    script = "import sys, merbridge.cli; print({'kubernetes', 'urllib3'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
