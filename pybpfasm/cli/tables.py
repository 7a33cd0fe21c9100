"""Tables and JSON, the two forms in which commands show what they found."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None) -> list[str]:
    """Rows as lines, with a heading, each column as wide as its longest cell; what is empty is a dash."""
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    cells = [names, *([cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def facts(row: Mapping[str, Any]) -> list[str]:
    """One row as lines, a line a fact; what is empty is left out."""
    shown = {name: cell(value) for name, value in row.items() if cell(value) != "-"}
    width = max(map(len, shown), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in shown.items()]


def cell(value: Any) -> str:
    """A value as a cell: lists by commas, truth as yes, nothing as a dash."""
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, list | tuple):
        return ",".join(map(cell, value)) or "-"
    if isinstance(value, dict):
        return ",".join(f"{name}={cell(each)}" for name, each in value.items()) or "-"
    return "-" if value is None or value == "" else str(value)


def json_text(value: Any) -> str:
    """A value as JSON, indented; bytes as hex."""
    return json.dumps(value, indent=2, default=lambda each: each.hex()) + "\n"
