"""A report as text, as JSON or as YAML."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import yaml

from merbridge.observe.report import PodReport, Report


def as_json(report: Report) -> str:
    """The report as one JSON object; its keys are the report's fields."""
    return json.dumps(_content(report), indent=2)


def as_yaml(report: Report) -> str:
    """The same as YAML."""
    return yaml.safe_dump(_content(report), sort_keys=False, allow_unicode=True).rstrip("\n")


def as_table(report: Report) -> str:
    """The report as tables for people."""
    return "\n".join(_lines(report, wide=False))


def as_wide_table(report: Report) -> str:
    """The same with what is for those who look closer: ids, UIDs, what was found of each pod on the node."""
    return "\n".join(_lines(report, wide=True))


FORMS = {"table": as_table, "wide": as_wide_table, "json": as_json, "yaml": as_yaml}


def _content(report: Report) -> dict[str, Any]:
    return {"healthy": not report.problems, **attrs.asdict(report)}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows as lines, in columns as wide as their widest cell."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _lines(report: Report, *, wide: bool) -> Iterator[str]:
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
    if any(report.drift.values()):
        changed = ", ".join(f"{number} {what}" for what, number in report.drift.items() if number)
        yield f"drift    put right since the agent's start: {changed}"
    if wide and report.process_events:
        yield f"events   of processes: {report.process_events}, {report.process_events_lost} lost"
    for header, rows in _tables(report, wide=wide):
        yield ""
        yield from table(header, rows)


def _tables(report: Report, *, wide: bool) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each table's header and rows."""
    extra = list if wide else _nothing
    yield (
        ["PROGRAM", "ATTACHED", "LINK", "PROGRAM ID", *extra(["TARGET"])],
        [
            [
                *(hook.name, "yes" if hook.attached else "NO", _number(hook.link_id), _number(hook.program_id)),
                *extra([_number(hook.target)]),
            ]
            for hook in report.hooks
        ],
    )
    yield (
        ["SOURCE", "SYNCED", "VERSION", "HEARD"],
        [
            [each.name, "yes" if each.synced else "NO", each.version or "-", _ago(each.heard_seconds_ago)]
            for each in report.sources
        ],
    )
    yield (
        [*("POD", "IP", "IN MESH", "INBOUND"), *extra(["DNS", "CGROUPS", "NETNS", "COOKIE", "UID"]), "WHY"],
        [
            [
                *(f"{pod.namespace}/{pod.name}", _addresses(pod), _yes(pod.in_mesh), _yes(pod.inbound)),
                *extra([_yes(pod.captures_dns), str(pod.cgroups), str(pod.network_namespaces)]),
                *extra([_number(pod.netns_cookie), pod.uid]),
                pod.reason,
            ]
            for pod in report.pods
        ],
    )
    yield (
        ["MAP", "ENTRIES", "OF", *extra(["ID"])],
        [[each.name, str(each.entries), str(each.max_entries), *extra([str(each.id)])] for each in report.maps],
    )
    yield ["COUNTER", "VALUE"], [[name, str(value)] for name, value in report.counters.items()]


def _nothing(columns: list[str]) -> list[str]:
    return columns[:0]


def _addresses(pod: PodReport) -> str:
    return ", ".join(each for each in (pod.ip, pod.ip6) if each) or "-"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _ago(seconds: int | None) -> str:
    return "never" if seconds is None else f"{seconds} s ago"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
