"""The table for a terminal: each Python line, below it its operations and instructions side by side, and the state."""

from itertools import zip_longest

from pybpfasm.explain.table import Explanation, Group

_WIDEST_OPERATION = 44
_WIDEST_INSTRUCTION = 44


def as_text(table: Explanation, *, color: bool = False) -> str:
    """The table as lines; `color` uses a terminal's bold and dim."""
    facts = ", ".join(f"{name} {value}" for name, value in table.facts)
    rows = [f"{table.name}: {table.slots} slots{', ' if facts else ''}{facts}"]
    width = _width(table)
    for group in table.groups:
        if group.function:
            rows += ["", f"{group.function}:"]
        rows.append(_styled(f"{group.file}:{group.line}  {group.text}" if group.file else "(no line)", "1", color))
        rows += _beside(group, width, color)
    return "\n".join(rows)


def _width(table: Explanation) -> int:
    lengths = [len(operation) for group in table.groups for operation in group.operations]
    return min(max(lengths, default=0), _WIDEST_OPERATION)


def _beside(group: Group, width: int, color: bool) -> list[str]:
    rows = []
    for operation, line in zip_longest(group.operations, group.lines):
        left = (operation or "").ljust(width)
        if line is None:
            rows.append(f"    {_styled(left.rstrip(), '2', color)}")
            continue
        right = f"{line.slot:4}: {line.text}"
        state = f"  ; {line.state}" if line.state else ""
        shown = f"{right:<{_WIDEST_INSTRUCTION}}{_styled(state, '2', color)}" if state else right
        rows.append(f"    {_styled(left, '2', color)}  {shown}" if width else f"    {shown}")
    return rows


def _styled(text: str, code: str, color: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if color and text else text
