"""Objects, their versions, and the history of their changes."""

import copy
import itertools
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

Object = dict[str, Any]

_KINDS = {"pods": "Pod", "namespaces": "Namespace"}
_FIRST_VERSION = 1000


class RefusedError(Exception):
    """What the API answers with a Status of this code and reason."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@attrs.frozen
class Change:
    """One change. `before` is None for a new object, `after` for a deleted one; `version` is the change's own."""

    version: int
    resource: str
    before: Object | None
    after: Object | None


@attrs.frozen
class Selector:
    """A fieldSelector: fields as dotted paths, and the values that they must have."""

    fields: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Selector":
        """Read `a.b=c,d.e=f`; the fields that the real API knows for pods are taken."""
        fields = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in ("spec.nodeName", "metadata.name", "metadata.namespace"):
                raise RefusedError(400, "BadRequest", f"field label not supported: {name}")
            fields[name] = value.removeprefix("=")
        return cls(fields)

    def takes(self, item: Object | None) -> bool:
        """Whether the object is there and has these values."""
        return item is not None and all(_field(item, path) == value for path, value in self.fields.items())


class Store:
    """Pods and namespaces. Its methods may be called from several threads; `changed` is notified of each change."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._objects: dict[str, dict[tuple[str, str], Object]] = {resource: {} for resource in _KINDS}
        self._history: list[Change] = []
        self._version = _FIRST_VERSION
        self._oldest = _FIRST_VERSION  # changes up to this one are forgotten
        self._pages: dict[str, tuple[int, list[Object]]] = {}
        self._page_numbers = itertools.count(1)

    @property
    def version(self) -> int:
        """The last change's version."""
        return self._version

    @property
    def oldest(self) -> int:
        """The oldest version from which a watch can begin."""
        return self._oldest

    def put(self, item: Mapping[str, Any]) -> Object:
        """Create an object, or replace it whole; what the API itself writes into metadata is filled in."""
        resource = next(name for name, kind in _KINDS.items() if kind == item["kind"])
        fresh: Object = copy.deepcopy(dict(item))
        metadata = fresh["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        with self.changed:
            before = self._objects[resource].get(key)
            metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            return self._record(resource, key, before, fresh)

    def delete(self, resource: str, namespace: str, name: str) -> None:
        """Remove an object."""
        with self.changed:
            before = self._found(resource, namespace, name)
            self._record(resource, (namespace, name), before, None)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """One object."""
        with self.changed:
            return self._found(resource, namespace, name)

    def merge(self, resource: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Change an object by a merge patch (RFC 7386); a uid in it is a condition."""
        with self.changed:
            before = self._found(resource, namespace, name)
            uid = (patch.get("metadata") or {}).get("uid")
            if uid is not None and uid != before["metadata"]["uid"]:
                raise RefusedError(
                    409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": uid mismatch'
                )
            after = _merged(before, patch)
            return before if after == before else self._record(resource, (namespace, name), before, after)

    def page(
        self, resource: str, namespace: str, selector: Selector, limit: int, token: str
    ) -> tuple[int, list[Object], str]:
        """A part of the list as it was when its first part was asked for: version, objects, token of the next part."""
        with self.changed:
            if token:
                if token not in self._pages:
                    raise RefusedError(410, "Expired", "The provided continue parameter is too old")
                version, items = self._pages.pop(token)
            else:
                version = self._version
                items = [each for key, each in sorted(self._objects[resource].items()) if namespace in ("", key[0])]
                items = [each for each in items if selector.takes(each)]
            if not limit or len(items) <= limit:
                return version, items, ""
            following = f"page-{next(self._page_numbers)}"
            self._pages[following] = (version, items[limit:])
            return version, items[:limit], following

    def since(self, version: int) -> list[Change]:
        """The changes after a version; refuses with 410 where they are forgotten. The condition must be held."""
        if version < self._oldest:
            raise RefusedError(410, "Expired", f"too old resource version: {version} ({self._oldest})")
        return [change for change in self._history if change.version > version]

    def forget_history(self) -> None:
        """As etcd's compaction: watches and lists that began before cannot go on."""
        with self.changed:
            # The version of the compaction itself is one that no watch has seen.
            self._version += 1
            self._oldest = self._version
            self._history.clear()
            self._pages.clear()

    def _found(self, resource: str, namespace: str, name: str) -> Object:
        item = self._objects[resource].get((namespace, name))
        if item is None:
            raise RefusedError(404, "NotFound", f'{resource} "{name}" not found')
        return item

    def _record(self, resource: str, key: tuple[str, str], before: Object | None, after: Object | None) -> Object:
        self._version += 1
        item = copy.deepcopy(after if after is not None else before)
        assert item is not None
        item["metadata"]["resourceVersion"] = str(self._version)
        for name in ("annotations", "labels"):
            if not item["metadata"].get(name, True):
                del item["metadata"][name]
        if after is None:
            del self._objects[resource][key]
            self._history.append(Change(self._version, resource, item, None))
        else:
            self._objects[resource][key] = item
            self._history.append(Change(self._version, resource, before, item))
        self.changed.notify_all()
        return item


def events(changes: list[Change], resource: str, namespace: str, selector: Selector) -> Iterator[Object]:
    """What a watch is told of these changes: an object that leaves the selection is deleted, for the watch."""
    for change in changes:
        item = change.after or change.before
        assert item is not None
        if change.resource != resource or namespace not in ("", item["metadata"].get("namespace", "")):
            continue
        was, is_ = selector.takes(change.before), selector.takes(change.after)
        if is_:
            yield {"type": "MODIFIED" if was else "ADDED", "object": change.after}
        elif was:
            gone = copy.deepcopy(change.before)
            assert gone is not None
            gone["metadata"]["resourceVersion"] = str(change.version)
            yield {"type": "DELETED", "object": gone}


def _merged(target: Any, patch: Mapping[str, Any]) -> Object:
    result: Object = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merged(result.get(key), value)
        else:
            result[key] = value
    return result


def _field(item: Object, path: str) -> str:
    value: Any = item
    for name in path.split("."):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, str) else json.dumps(value) if value else ""
