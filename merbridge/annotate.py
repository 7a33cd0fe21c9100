"""Telling Istio: the annotation `ambient.istio.io/redirection=enabled` on the pods that are captured, and on no others.

Istiod sends HBONE to pods that carry it. What has to be written is decided anew at each look, from what the API says of
each pod; so nothing is lost by a failure, a restart, or a hand that changes the annotation.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import attrs

from merbridge.config import Config
from merbridge.model import REDIRECTION
from merbridge.reconcile.desired import KnownPod, Remembered
from merbridge.sources import KubernetesSource, Source
from merbridge.sources.kubernetes import Api
from merbridge.sources.kubernetes.backoff import Backoff
from merbridge.sources.kubernetes.errors import ApiError, UnreachableError, one_line

CAPTURED = "enabled"

# So long the watch may take to show what was written. If it does not, it is written again.
_ECHO_SECONDS = 5.0
_END_SECONDS = 0.2
# The pod is gone, or another pod has its name: the watch will say so.
_HARMLESS = (404, 409)
_UNAUTHORIZED, _TOO_MANY_REQUESTS = 401, 429


@attrs.frozen
class Patch:
    """An annotation to write onto a pod, or to take away from it where `value` is None."""

    uid: str
    namespace: str
    name: str
    value: str | None


def patches(pods: Iterable[KnownPod], remembered: Remembered, in_map: frozenset[int]) -> Iterator[Patch]:
    """What has to be written.

    A pod is captured once it is in the mesh and the map has a network namespace of it: `in_map` are the cookies of all.
    One that is in the mesh and not captured keeps what it has; values other than ours, like "disabled", are users'.
    """
    for known in pods:
        pod = known.pod
        value = pod.annotations.get(REDIRECTION)
        captured = known.enrolment.in_mesh and not remembered.get(pod.uid, frozenset()).isdisjoint(in_map)
        if captured and value != CAPTURED and not pod.deleting:
            yield Patch(pod.uid, pod.namespace, pod.name, CAPTURED)
        elif not known.enrolment.in_mesh and value == CAPTURED:
            yield Patch(pod.uid, pod.namespace, pod.name, None)


def annotator_for(source: Source, config: Config) -> "Annotator | None":
    """The annotator that the settings ask for; there is none without the API."""
    return Annotator(source.api) if isinstance(source, KubernetesSource) and config.annotate == "on" else None


class Annotator:
    """Writes patches in a thread of its own, so that a slow API never holds the datapath up."""

    def __init__(self, api: Api) -> None:
        """Nothing is written before `start`."""
        self._api = api
        self._backoff = Backoff(api.timing.first_pause_seconds, api.timing.longest_pause_seconds)
        self._thread = threading.Thread(target=self._run, name="annotate", daemon=True)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._problem = ""
        self._wanted: Mapping[str, Patch] = {}  # replaced as a whole
        self._written: dict[Patch, float] = {}  # when, by the monotonic clock; the thread's own

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write nothing any more."""
        self._stop.set()
        self._wake.set()

    def join(self) -> None:
        """Wait a moment for the thread; the API must be closed."""
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def want(self, wanted: Iterable[Patch]) -> None:
        """Take over all that has to be written, as it is known now; to be called again and again."""
        self._wanted = {patch.uid: patch for patch in wanted}
        self._wake.set()

    def problem(self) -> str:
        """Why something is not written, as one line; "" where nothing is left to write."""
        return f"annotations for Istio wait: {self._problem}" if self._problem and self._wanted else ""

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                self._problem = self._write_all()
            except (ApiError, UnreachableError) as error:
                # It will be the same for the other pods.
                if not self._stop.is_set():
                    self._problem = self._api.explain(error, "patch", "pods")
                    self._pause(error.retry_after_seconds if isinstance(error, ApiError) else 0.0)
            except Exception as error:  # noqa: BLE001  # a thread that ends unseen would write nothing any more
                self._problem = f"{type(error).__name__}: {one_line(str(error))}: please report this"
                self._pause(0.0)
            else:
                if self._problem:
                    self._pause(0.0)
                else:
                    self._backoff.reset()

    def _pause(self, at_least: float) -> None:
        self._stop.wait(self._backoff.next_seconds(at_least))
        self._wake.set()

    def _write_all(self) -> str:
        """Write what is due. A line on what is refused: that may be so in one namespace, or by one pod's webhook."""
        now = time.monotonic()
        self._written = {patch: at for patch, at in self._written.items() if now - at < _ECHO_SECONDS}
        problem = ""
        for patch in tuple(self._wanted.values()):
            if self._stop.is_set():
                break
            if patch in self._written or self._wanted.get(patch.uid) != patch:
                continue
            try:
                self._write(patch)
            except ApiError as error:
                if error.status in (_UNAUTHORIZED, _TOO_MANY_REQUESTS) or not 400 <= error.status < 500:
                    raise
                problem = self._api.explain(error, "patch", "pods")
            else:
                self._written[patch] = time.monotonic()
        return problem

    def _write(self, patch: Patch) -> None:
        # With another UID it would be another pod of the same name: then the API answers with 409.
        body = {"metadata": {"uid": patch.uid, "annotations": {REDIRECTION: patch.value}}}
        try:
            self._api.merge_patch(f"/api/v1/namespaces/{patch.namespace}/pods/{patch.name}", body)
        except ApiError as error:
            if error.status not in _HARMLESS:
                raise
