"""One kind of objects kept as the API has it: listed once, then watched; listed again when the watch cannot go on.

The list is a consistent one (no resourceVersion), so it never goes back behind what was known. A watch that breaks goes
on from the version of its last event or bookmark. What is known stays in force, whatever happens, until the API tells
something else.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from merbridge.sources.errors import MalformedError
from merbridge.sources.kubernetes.api import Api
from merbridge.sources.kubernetes.backoff import Backoff
from merbridge.sources.kubernetes.errors import ApiError, UnreachableError, one_line
from merbridge.sources.source import SourceState

V = TypeVar("V")

_PAGE = 500
# A stream that lived so long has worked, even if it had nothing to tell.
_SETTLED_SECONDS = 1.5
_END_SECONDS = 0.2
_GONE = 410


@attrs.frozen
class Resource(Generic[V]):
    """What is reflected: `parse` makes a value of an object, or raises `MalformedError`."""

    name: str
    path: str
    selector: Mapping[str, str]
    parse: Callable[[Mapping[str, Any]], V]


class _BrokenStreamError(Exception):
    """A watch that ended as it should not: one line."""


class Reflector(Generic[V]):
    """The objects of one resource by `namespace/name`, kept by a thread of its own."""

    def __init__(self, api: Api, resource: Resource[V], changed: Callable[[], None]) -> None:
        """Nothing is asked yet. `changed` is called, in the thread, after each change of the objects or the state."""
        self._api = api
        self._resource = resource
        self._changed = changed
        self._backoff = Backoff(api.timing.first_pause_seconds, api.timing.longest_pause_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reflect-{resource.name}", daemon=True)
        # What follows is written by the thread alone; each is replaced as a whole, so that others may read it.
        self._objects: Mapping[str, V] | None = None
        self._malformed: Mapping[str, str] = {}
        self._version = ""  # "" asks for a list
        self._heard = 0
        self._trouble = ""
        self._expired = False
        self._opened: float | None = None

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ask nothing any more. What is asked already is ended by the API's `close`."""
        self._stop.set()

    def join(self) -> None:
        """Wait a moment for the thread, which may be in an attempt to connect."""
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)

    def objects(self) -> Mapping[str, V] | None:
        """The last known objects, None before the first list; the same mapping until something changes."""
        return self._objects

    def state(self) -> SourceState:
        """How well they are known."""
        return SourceState(
            name=self._resource.name,
            synced=self._objects is not None,
            version=self._version,
            heard=self._heard,
            problem=self._problem(),
        )

    def _problem(self) -> str:
        if self._trouble and not self._settled():
            return self._trouble
        return next(iter(self._malformed.values()), "")

    def _settled(self) -> bool:
        opened = self._opened
        return opened is not None and time.monotonic() - opened > _SETTLED_SECONDS

    # --- the thread ---

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
            except ApiError as error:
                pause = self._after_answer(error)
            except (UnreachableError, _BrokenStreamError) as error:
                # Our own `close` breaks connections, too.
                pause = 0.0 if self._stop.is_set() else self._after_break(str(error))
            except Exception as error:  # noqa: BLE001  # a thread that ends unseen would leave old news in force
                self._version = ""
                pause = self._after_surprise(error)
            else:
                pause = 0.0 if self._settled() else self._api.timing.first_pause_seconds
            self._opened = None
            self._stop.wait(pause)

    def _after_answer(self, error: ApiError) -> float:
        """What to do about an error that the API gave: the seconds to wait."""
        verb = "watch" if self._version else "list"
        if error.outdated:
            self._version = ""
        # That a version grows old is the ordinary course, once; after an outage, too.
        if error.status == _GONE and not self._expired:
            self._expired = True
            return self._api.timing.first_pause_seconds
        pause = self._next_pause(error.retry_after_seconds)
        self._tell(self._api.explain(error, verb, self._resource.name))
        return pause

    def _after_break(self, problem: str) -> float:
        """What to do about a connection that broke or never came: the seconds to wait."""
        was_open = self._opened is not None
        pause = self._next_pause()
        # A stream may break at any time; one that breaks again and again, or cannot be opened, is worth a word.
        if not (was_open and self._backoff.failures == 1):
            self._tell(problem)
        return pause

    def _after_surprise(self, error: Exception) -> float:
        """What to do about an error of our own: begin anew, and say so."""
        self._opened = None
        self._tell(f"{self._resource.name}: {type(error).__name__}: {one_line(str(error))}: please report this")
        return self._next_pause()

    def _next_pause(self, at_least: float = 0.0) -> float:
        if self._settled():
            self._worked()
        return self._backoff.next_seconds(at_least)

    def _tell(self, problem: str) -> None:
        if problem != self._trouble:
            self._trouble = problem
            self._changed()

    def _worked(self) -> None:
        self._backoff.reset()
        self._expired = False
        self._tell("")

    def _heard_now(self) -> None:
        self._heard = int(time.time())

    def _list(self) -> None:
        """Take the whole list, in pages; what is not in it is gone."""
        found: dict[str, V] = {}
        malformed: dict[str, str] = {}
        query = {**self._resource.selector, "limit": str(_PAGE)}
        while True:
            page = self._api.get(self._resource.path, query)
            metadata = page.get("metadata")
            items = page.get("items") or []
            if not isinstance(metadata, dict) or not isinstance(items, list):
                raise UnreachableError(f"{self._api.host}: what came is not a list: is this the Kubernetes API?")
            for item in items:
                self._put(found, malformed, item)
            token = metadata.get("continue")
            if not token:
                break
            query = {**self._resource.selector, "limit": str(_PAGE), "continue": str(token)}
        version = str(metadata.get("resourceVersion") or "")
        if not version:
            raise UnreachableError(f"{self._api.host}: a list without a resourceVersion: is this the Kubernetes API?")
        self._heard_now()
        changed = found != self._objects
        self._malformed = malformed
        if changed:
            self._objects = found
        self._version = version
        if changed:
            self._changed()

    def _watch(self) -> None:
        """Follow the changes until the server ends the watch in good order."""
        seconds = self._backoff.spread(self._api.timing.watch_seconds)
        query = {
            **self._resource.selector,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        with self._api.watch(self._resource.path, query) as events:
            self._opened = time.monotonic()
            self._heard_now()
            told = False
            for event in events:
                self._take(event)
                told = True
        if not told and not self._settled():
            raise _BrokenStreamError(f"{self._api.host}: the watch of {self._resource.name} ends as soon as it began")
        self._worked()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, item = event.get("type"), event.get("object")
        if not isinstance(item, dict):
            raise _BrokenStreamError(f"{self._api.host}: a watch event without an object")
        if kind == "ERROR":
            raise ApiError.from_status(item)
        version = _metadata(item).get("resourceVersion")
        if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(version, str) or not version:
            raise _BrokenStreamError(f"{self._api.host}: a watch event of type {kind!r} that cannot be followed")
        if kind != "BOOKMARK":
            self._change(str(kind), item)
        self._version = version
        self._heard_now()
        self._worked()

    def _change(self, kind: str, item: Mapping[str, Any]) -> None:
        objects = dict(self._objects or {})
        malformed = dict(self._malformed)
        if kind == "DELETED":
            objects.pop(_key(item), None)
            malformed.pop(_key(item), None)
        else:
            self._put(objects, malformed, item)
        self._malformed = malformed
        # Most events are of no interest: a pod's status has many fields.
        if objects != self._objects:
            self._objects = objects
            self._changed()

    def _put(self, objects: dict[str, V], malformed: dict[str, str], item: Any) -> None:
        if not isinstance(item, dict):
            raise UnreachableError(f"{self._api.host}: a list of {self._resource.name} with something else in it")
        key = _key(item)
        try:
            objects[key] = self._resource.parse(item)
        except MalformedError as error:
            malformed[key] = str(error)
            known = (self._objects or {}).get(key)
            if known is not None:
                objects[key] = known
        else:
            malformed.pop(key, None)


def _metadata(item: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = item.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _key(item: Mapping[str, Any]) -> str:
    metadata = _metadata(item)
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"
