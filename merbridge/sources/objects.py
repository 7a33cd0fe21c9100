"""Documents to a snapshot: Lists, Pods and Namespaces as the API prints them, each piece checked for its type."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import attrs

from merbridge.model import IpAddress, Pod, Snapshot
from merbridge.sources.errors import MalformedError

_LISTS = {"List": None, "PodList": "Pod", "NamespaceList": "Namespace"}
_WANTED = ("Pod", "Namespace")
_TYPE_NAMES = {dict: "a mapping", list: "a list", str: "a string", bool: "true or false"}


@attrs.frozen
class _Item:
    """One object of a file: `place` names it in errors until its own name is known."""

    place: str
    kind: str
    content: Mapping[str, Any]


def snapshot_of(documents: Iterable[Mapping[str, Any]]) -> Snapshot:
    """The pods and namespaces of the documents; objects of other kinds are ignored.

    Raises `MalformedError` that names the object for a missing or wrongly typed piece, and when no document could hold
    pods or namespaces at all: a wrong file must not look like an empty node.
    """
    documents = list(documents)
    if not any(document.get("kind") in (*_LISTS, *_WANTED) for document in documents):
        raise MalformedError(_no_list(documents))
    namespaces: dict[str, Mapping[str, str]] = {}
    pods: dict[str, Pod] = {}
    for item in _items(documents):
        if item.kind == "Namespace":
            _add_namespace(namespaces, item)
        elif item.kind == "Pod":
            _add_pod(pods, item)
    return Snapshot(namespaces=namespaces, pods=tuple(pods.values()))


def pod_of(content: Mapping[str, Any]) -> Pod:
    """The pod of one object of the API's; raises `MalformedError` that names it."""
    return _pod(_Item("a pod of the API", "Pod", content))


def namespace_labels_of(content: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of one namespace of the API's; raises `MalformedError` that names it."""
    return _namespace(_Item("a namespace of the API", "Namespace", content))[1]


def _no_list(documents: list[Mapping[str, Any]]) -> str:
    if any("items" in document for document in documents):
        return "a list without `kind: List`: half-written?"
    kinds = ", ".join(repr(document.get("kind")) for document in documents)
    return f"no List, Pod or Namespace in it (kind: {kinds}): half-written, or not the output of `kubectl get`?"


def _items(documents: Iterable[Mapping[str, Any]]) -> Iterator[_Item]:
    for number, document in enumerate(documents, 1):
        place = f"document {number}"
        kind = document.get("kind")
        if not isinstance(kind, str) or not kind:
            raise MalformedError(f"{place} has no kind: half-written?")
        if kind in _LISTS:
            yield from _list_items(place, document, _LISTS[kind])
        else:
            yield _Item(place, kind, document)


def _list_items(place: str, document: Mapping[str, Any], default_kind: str | None) -> Iterator[_Item]:
    items = document.get("items")
    if not isinstance(items, list):
        raise MalformedError(f"{place}: items is not a list: half-written?")
    for index, content in enumerate(items):
        item_place = f"{place}, items[{index}]"
        if not isinstance(content, dict):
            raise MalformedError(f"{item_place} is not an object: half-written?")
        # The API's own PodList leaves out its items' kind; kubectl's List never does.
        kind = content.get("kind", default_kind)
        if not isinstance(kind, str):
            raise MalformedError(f"{item_place} has no kind: half-written?")
        yield _Item(item_place, kind, content)


def _add_namespace(namespaces: dict[str, Mapping[str, str]], item: _Item) -> None:
    name, labels = _namespace(item)
    if name in namespaces:
        raise MalformedError(f"Namespace {name} is in the file twice")
    namespaces[name] = labels


def _namespace(item: _Item) -> tuple[str, Mapping[str, str]]:
    metadata = _Fields(item.place, "metadata", _required_mapping(item.place, item.content, "metadata"))
    name = metadata.required_text("name")
    return name, metadata.of(f"Namespace {name}").texts("labels")


def _add_pod(pods: dict[str, Pod], item: _Item) -> None:
    pod = _pod(item)
    other = pods.get(pod.uid)
    if other is not None:
        raise MalformedError(f"Pod {pod.full_name}: its uid {pod.uid} is also that of Pod {other.full_name}")
    pods[pod.uid] = pod


def _pod(item: _Item) -> Pod:
    metadata = _Fields(item.place, "metadata", _required_mapping(item.place, item.content, "metadata"))
    name = metadata.required_text("name")
    namespace = metadata.required_text("namespace")
    who = f"Pod {namespace}/{name}"
    metadata = metadata.of(who)
    spec = _Fields(who, "spec", _required_mapping(who, item.content, "spec"))
    status = _Fields(who, "status", _required_mapping(who, item.content, "status"))
    addresses = _addresses(who, status)
    return Pod(
        uid=metadata.required_text("uid").lower(),
        namespace=namespace,
        name=name,
        node_name=spec.text("nodeName") or None,
        host_network=spec.flag("hostNetwork"),
        labels=metadata.texts("labels"),
        annotations=metadata.texts("annotations"),
        ip=next((each for each in addresses if isinstance(each, IPv4Address)), None),
        ip6=next((each for each in addresses if isinstance(each, IPv6Address)), None),
        phase=status.text("phase"),
        ready=_is_ready(status),
        deleting=bool(metadata.text("deletionTimestamp")),
        created=metadata.text("creationTimestamp"),
        init_containers=tuple(each.text("name") for each in spec.mappings("initContainers")),
    )


def _is_ready(status: "_Fields") -> bool:
    return any(
        condition.text("type") == "Ready" and condition.text("status") == "True"
        for condition in status.mappings("conditions")
    )


def _addresses(who: str, status: "_Fields") -> list[IpAddress]:
    texts = [status.text("podIP"), *(entry.text("ip") for entry in status.mappings("podIPs"))]
    return [_address(who, text) for text in texts if text]


def _address(who: str, text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise MalformedError(f"{who}: status.podIP {text!r} is not an IP address") from None


@attrs.frozen
class _Fields:
    """A mapping of an object whose fields are read with their types; `who` and `path` name it in errors."""

    who: str
    path: str
    content: Mapping[str, Any]

    def of(self, who: str) -> "_Fields":
        return attrs.evolve(self, who=who)

    def required_text(self, key: str) -> str:
        text = self.text(key)
        if not text:
            raise MalformedError(f"{self.who} has no {self.path}.{key}: half-written?")
        # These texts go into logs and tables as they are.
        if not text.isprintable():
            raise MalformedError(f"{self.who}: {self.path}.{key} is {text!r}: it holds control characters")
        return text

    def text(self, key: str) -> str:
        """A string, "" where the field is missing or null."""
        value = self.content.get(key)
        return "" if value is None else str(self._typed(key, value, str))

    def flag(self, key: str) -> bool:
        value = self.content.get(key)
        return False if value is None else bool(self._typed(key, value, bool))

    def texts(self, key: str) -> Mapping[str, str]:
        """A mapping of strings to strings; one that is there but empty (null) is the mark of a cut file."""
        if key not in self.content:
            return {}
        mapping: dict[Any, Any] = self._typed(key, self.content[key], dict)
        for name, value in mapping.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise MalformedError(f"{self.who}: {self.path}.{key}: {name!r}: {value!r} is not a string: quote it")
        return mapping

    def mappings(self, key: str) -> list["_Fields"]:
        """A list of mappings, [] where the field is missing or null."""
        value = self.content.get(key)
        entries: list[Any] = [] if value is None else self._typed(key, value, list)
        return [
            _Fields(self.who, f"{self.path}.{key}[{index}]", self._typed(f"{key}[{index}]", entry, dict))
            for index, entry in enumerate(entries)
        ]

    def _typed(self, key: str, value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            raise MalformedError(f"{self.who}: {self.path}.{key} is {_shown(value)}, not {_TYPE_NAMES[kind]}")
        return value


def _required_mapping(who: str, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if content.get(key) is None:
        raise MalformedError(f"{who} has no {key}: half-written?")
    return _checked_mapping(who, key, content[key])


def _checked_mapping(who: str, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(f"{who}: {key} is {_shown(value)}, not a mapping")
    return value


def _shown(value: Any) -> str:
    return "empty (null)" if value is None else f"{value!r:.60}"
