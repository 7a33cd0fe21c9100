"""A report in Prometheus' text format (version 0.0.4)."""

from collections.abc import Iterable, Iterator, Mapping

import attrs

from merbridge.observe.report import Report

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Counters of the programs, by family: the label, and for each of its values the counter's name in a report.
_COUNTERS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "merbridge_redirects_total": (
        "Connections that went to ztunnel, by where they came from.",
        "from",
        {"pod": "redirected", "host": "redirected_to_pod"},
    ),
    "merbridge_dns_questions_total": ("Questions by UDP that went to ztunnel.", "", {"": "dns_redirected"}),
    "merbridge_inbound_requests_total": ("Requests (SYN) for enrolled pods that went to ztunnel.", "", {"": "steered"}),
    "merbridge_dropped_total": (
        "Packets that were dropped, by cause.",
        "cause",
        {"no_ztunnel": "dropped_no_ztunnel", "direct": "dropped_direct", "tagged": "dropped_tagged"},
    ),
    "merbridge_refusals_total": (
        "Connections that were refused, by cause.",
        "cause",
        {"no_ztunnel": "refused_no_ztunnel", "no_address": "refused_no_address", "no_memory": "refused_no_memory"},
    ),
    "merbridge_passed_total": (
        "Connections that went out in the clear because fail-open is on, by cause.",
        "cause",
        {"no_ztunnel": "passed_no_ztunnel"},
    ),
    "merbridge_without_destination_total": (
        "Connections that reached ztunnel without their original destination, by cause.",
        "cause",
        {"map_full": "original_dst_full", "share_used_up": "share_used_up", "foreign_source": "foreign_source"},
    ),
    "merbridge_crowded_total": ("Connections whose slot was another's: they are slower.", "", {"": "crowded"}),
    "merbridge_spliced_total": ("Connections whose bytes may skip TCP.", "", {"": "spliced"}),
}


@attrs.define
class Timing:
    """How often something was done, and how long it took in all, in seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Once more."""
        self.count += 1
        self.seconds += seconds


def as_metrics(report: Report, reconciling: Timing) -> str:
    """The whole, as a scrape gets it."""
    return "\n".join([*_lines(report, reconciling), ""])


def _lines(report: Report, reconciling: Timing) -> Iterator[str]:
    for name, (text, label, names) in _COUNTERS.items():
        values = {value: report.counters.get(counter, 0) for value, counter in names.items()}
        yield from _family(name, "counter", text, label, values)
    yield from _family(
        "merbridge_map_entries", "gauge", "Entries of a map.", "map", {each.name: each.entries for each in report.maps}
    )
    sizes = {each.name: each.max_entries for each in report.maps}
    yield from _family("merbridge_map_max_entries", "gauge", "Entries that a map has room for.", "map", sizes)
    attached = {each.name: int(each.attached) for each in report.hooks}
    yield from _family("merbridge_program_attached", "gauge", "Whether a program is attached.", "program", attached)
    in_mesh = sum(pod.in_mesh for pod in report.pods)
    pods = {"true": in_mesh, "false": len(report.pods) - in_mesh}
    yield from _family("merbridge_pods", "gauge", "Pods of this node, by whether they are enrolled.", "in_mesh", pods)
    known = {"": int(bool(report.ztunnel_ip or report.ztunnel_ip6))}
    yield from _family("merbridge_ztunnel_known", "gauge", "Whether this node's ztunnel is known.", "", known)
    synced = {each.name: int(each.synced) for each in report.sources}
    yield from _family("merbridge_source_synced", "gauge", "Whether a part of the source is known.", "source", synced)
    ages = {each.name: each.heard_seconds_ago for each in report.sources if each.heard_seconds_ago is not None}
    yield from _family("merbridge_source_age_seconds", "gauge", "How long ago it was last heard of.", "source", ages)
    yield from _family(
        "merbridge_drift_total", "counter", "What somebody had changed, and was put right.", "what", report.drift
    )
    ways = {report.process_events: 1} if report.process_events else {}
    yield from _family("merbridge_process_events", "gauge", "How the agent learns of processes.", "way", ways)
    lost = {"": report.process_events_lost}
    yield from _family(
        "merbridge_process_events_lost_total", "counter", "Events of processes for which there was no room.", "", lost
    )
    problems = {"": len(report.problems)}
    yield from _family("merbridge_problems", "gauge", "Lines that status shows as problems.", "", problems)
    yield from _head("merbridge_reconcile_seconds", "summary", "Looks at the node, each with what it had to change.")
    yield f"merbridge_reconcile_seconds_sum {reconciling.seconds:.6f}"
    yield f"merbridge_reconcile_seconds_count {reconciling.count}"


def _family(name: str, kind: str, text: str, label: str, values: Mapping[str, int]) -> Iterator[str]:
    yield from _head(name, kind, text)
    yield from (f"{name}{_labels(label, value)} {number}" for value, number in values.items())


def _head(name: str, kind: str, text: str) -> Iterable[str]:
    return (f"# HELP {name} {text}", f"# TYPE {name} {kind}")


def _labels(name: str, value: str) -> str:
    if not name:
        return ""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{{{name}="{escaped}"}}'
