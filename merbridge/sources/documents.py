"""Text to documents: YAML (one or many) or JSON, with the place of a syntax error and a check that the text is whole.

A cut file may still be valid YAML, so wholeness is shown by what a document ends with. kubectl prints a List's `kind`
after its `items`; JSON closes its braces. Any other document has no end of its own: then at least the last line must be
ended, or `10.0.0.12` could have become `10.0.0.1`. A cut exactly between two documents, or two items of a List whose
kind comes first, leaves a whole text: write such files under another name and rename them.
"""

import json
import re
from typing import Any

import yaml

from merbridge.sources.errors import MalformedError

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]  # the same interface, in Python

_HOW_TO_MAKE_IT = "`kubectl get namespaces,pods -A -o yaml` writes it"
# Kubernetes objects are some twenty levels deep; libyaml's composer recurses on the C stack without a limit.
_MAX_DEPTH = 200
_SEPARATOR = re.compile(r"\s*(?:---\s*)?")


class _Loader(_SafeLoader):
    """A safe loader that leaves dates and a lone `=` as the strings they are in Kubernetes."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML looks the table up by this name in the class
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
        for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Called on the way into each node: the one place where the depth can be limited."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {_MAX_DEPTH} levels deep")
        super().descend_resolver(current_node, current_index)

    def ascend_resolver(self) -> None:
        """Called on the way out of each node."""
        self.depth -= 1
        super().ascend_resolver()


def parse_documents(text: str) -> list[dict[str, Any]]:
    """The documents of `text`, each a mapping; raises `MalformedError` with line and column where they are known."""
    if not text.strip():
        raise MalformedError(f"the file is empty: half-written? {_HOW_TO_MAKE_IT}")
    documents = _json_documents(text) if text.lstrip().startswith("{") else _yaml_documents(text)
    for number, document in enumerate(documents, 1):
        if not isinstance(document, dict):
            raise MalformedError(f"document {number} is not a List, a Pod or a Namespace; {_HOW_TO_MAKE_IT}")
    return documents


def _json_documents(text: str) -> list[Any]:
    decoder = json.JSONDecoder()
    documents: list[Any] = []
    position = _after_separator(text, 0)
    try:
        while position < len(text):
            document, end = decoder.raw_decode(text, position)
            documents.append(document)
            position = _after_separator(text, end)
    except json.JSONDecodeError as err:
        raise MalformedError(f"line {err.lineno}, column {err.colno}: broken JSON: {err.msg}") from None
    except (RecursionError, ValueError) as err:
        raise MalformedError(f"broken JSON: {_one_line(err)}") from None
    return documents


def _after_separator(text: str, position: int) -> int:
    match = _SEPARATOR.match(text, position)
    return match.end() if match else position


def _yaml_documents(text: str) -> list[Any]:
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))  # a safe one
    except yaml.MarkedYAMLError as err:
        raise MalformedError(_marked(err)) from None
    except yaml.reader.ReaderError as err:
        raise MalformedError(f"broken YAML: {err.reason} at byte {err.position}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as err:
        raise MalformedError(f"broken YAML: {_one_line(err)}") from None
    _check_whole(text, documents)
    return [document for document in documents if document is not None]


def _marked(err: yaml.MarkedYAMLError) -> str:
    mark = err.problem_mark or err.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    context = f" ({err.context})" if err.context else ""
    return f"{place}broken YAML: {err.problem}{context}"


def _check_whole(text: str, documents: list[Any]) -> None:
    last = documents[-1] if documents else None
    if last is None:
        raise MalformedError(f"nothing follows the last `---` or comment: half-written? {_HOW_TO_MAKE_IT}")
    if not text.endswith("\n") and not _ends_itself(last):
        raise MalformedError(f"line {text.count(chr(10)) + 1}: the last line has no end: half-written?")


def _ends_itself(document: Any) -> bool:
    """Whether the document shows by its own end that no item is missing."""
    if not isinstance(document, dict) or "items" not in document:
        return False
    keys = list(document)
    return "kind" in keys[keys.index("items") :]


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split()) or "nested too deeply"
