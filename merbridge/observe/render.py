"""A report as text, or as JSON."""

import json
from collections.abc import Iterable, Iterator, Sequence

import attrs

from merbridge.observe.report import PodReport, Report


def as_json(report: Report) -> str:
    """The report as one JSON object; its keys are the report's fields."""
    return json.dumps({"healthy": not report.problems, **attrs.asdict(report)}, indent=2)


def as_table(report: Report) -> str:
    """The report as tables for people."""
    return "\n".join(_lines(report))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, in columns as wide as their widest cell."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _lines(report: Report) -> Iterator[str]:
    yield f"health   {'degraded' if report.problems else 'healthy'}"
    for problem in report.problems:
        yield f"         - {problem}"
    yield f"agent    {'running' if report.agent_running else 'not running'} on node {report.node_name or 'unknown'}"
    yield f"cgroup   {report.cgroup_root or 'unknown'}"
    if report.ztunnel_ip or report.ztunnel_ip6:
        places = [report.ztunnel_ip or "", f"[{report.ztunnel_ip6}]" if report.ztunnel_ip6 else ""]
        yield f"ztunnel  {report.ztunnel} at {' and '.join(f'{each}:{report.out_port}' for each in places if each)}"
    else:
        yield "ztunnel  none"
    yield ""
    hooks = [
        [hook.name, "yes" if hook.attached else "NO", _number(hook.link_id), _number(hook.program_id)]
        for hook in report.hooks
    ]
    yield from table(["PROGRAM", "ATTACHED", "LINK", "PROGRAM ID"], hooks)
    yield ""
    sources = [
        [each.name, "yes" if each.synced else "NO", each.version or "-", _ago(each.heard_seconds_ago)]
        for each in report.sources
    ]
    yield from table(["SOURCE", "SYNCED", "VERSION", "HEARD"], sources)
    yield ""
    pods = [
        [f"{pod.namespace}/{pod.name}", _addresses(pod), _yes(pod.in_mesh), _yes(pod.inbound), pod.reason]
        for pod in report.pods
    ]
    yield from table(["POD", "IP", "IN MESH", "INBOUND", "WHY"], pods)
    yield ""
    yield from table(["MAP", "ENTRIES", "OF"], ([m.name, str(m.entries), str(m.max_entries)] for m in report.maps))
    yield ""
    yield from table(["COUNTER", "VALUE"], ([name, str(value)] for name, value in report.counters.items()))


def _addresses(pod: PodReport) -> str:
    return ", ".join(each for each in (pod.ip, pod.ip6) if each) or "-"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _ago(seconds: int | None) -> str:
    return "never" if seconds is None else f"{seconds} s ago"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
