"""Records of BTF as lines of text and as JSON, with the names that `pybpfasm.btf.kinds` gives their fields."""

import json
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pybpfasm.btf import Btf

_REFERENCES = ("type_id", "index_type_id", "return_type_id")


def as_text(btf: "Btf", ids: Iterable[int]) -> str:
    """`[12] STRUCT 'name' size=8`, and below it, behind a tab each, members, enumerators, parameters, variables."""
    lines: list[str] = []
    for type_id in ids:
        record = btf.type(type_id)
        fields = _fields(record)
        name = fields.pop("name", "")
        lines.append(" ".join([f"[{type_id}]", _kind(record), f"'{name}'", *_words(fields)]))
        for elements in fields.values():
            if isinstance(elements, tuple):
                lines += ["\t" + _element(each) for each in elements]
    return "".join(line + "\n" for line in lines)


def as_json(btf: "Btf", ids: Iterable[int]) -> str:
    """`{"types": [{"id": 12, "kind": "STRUCT", "name": "name", "size": 8, "members": […]}, …]}`, a line a type."""
    types = [{"id": each, "kind": _kind(record := btf.type(each)), **_plain(_fields(record))} for each in ids]
    return '{"types": [\n' + ",\n".join(json.dumps(each) for each in types) + "\n]}\n"


def needed(btf: "Btf", roots: Iterable[int]) -> list[int]:
    """These types and all that they refer to, also from afar, in the order of their ids; without void."""
    found = set(roots)
    waiting = list(found)
    while waiting:
        for each in _references(btf.type(waiting.pop())):
            if each and each not in found:
                found.add(each)
                waiting.append(each)
    return sorted(found)


def _references(value: Any) -> Iterable[int]:
    for name, content in _fields(value).items():
        if name in _REFERENCES:
            yield content
        elif isinstance(content, tuple):
            for each in content:
                if not isinstance(each, int):
                    yield from _references(each)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__match_args__}


def _kind(record: Any) -> str:
    return record.kind.name if record.kind is not None else f"KIND_{record.number}"


def _element(element: Any) -> str:
    if isinstance(element, int):
        return f"{element:#010x}"
    fields = _fields(element)
    name = [f"'{fields.pop('name')}'"] if "name" in fields else []
    return " ".join([*name, *_words(fields)])


def _words(fields: dict[str, Any]) -> list[str]:
    """`size=4`; what is true by its name, what is false or unknown not at all, lists by their length."""
    words = []
    for name, value in fields.items():
        if isinstance(value, tuple):
            words.append(f"{name}={len(value)}")
        elif isinstance(value, bool):
            words += [name] if value else []
        elif isinstance(value, Enum):
            words.append(f"{name}={value.name.lower()}")
        elif value is not None:
            words.append(f"{name}={value}")
    return words


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [each if isinstance(each, int) else _plain(_fields(each)) for each in value]
        return value.name.lower() if isinstance(value, Enum) else value

    return {name: plain(value) for name, value in fields.items()}
