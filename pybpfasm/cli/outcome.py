"""What a run came to, as plain values and as text."""

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pybpfasm.errors import BpfError

if TYPE_CHECKING:
    from pybpfasm.sim import Map, Result


def entries_of(maps: "Mapping[str, Map]") -> dict[str, dict[str, str]]:
    """The entries of all maps that can be listed: keys and values as hex."""
    found: dict[str, dict[str, str]] = {}
    for name, each in maps.items():
        try:
            found[name] = {key.hex(): value.hex() for key, value in each.items()}
        except BpfError:  # rings, queues and the like have no entries
            continue
    return found


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys([*before, *after])
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def report_of(
    result: "Result",
    memory: bytes | None,
    fields_before: Mapping[str, Any],
    fields_after: Mapping[str, Any],
    entries_before: dict[str, dict[str, str]],
    entries_after: dict[str, dict[str, str]],
    arguments: Namespace,
) -> dict[str, Any]:
    """The result as plain values; of context, memory and maps what has changed, each as [before, after]."""
    report: dict[str, Any] = {
        "ret": result.ret,
        "signed": result.signed,
        "steps": result.steps,
        "ctx": _changes(fields_before, fields_after),
        "mem": [memory.hex(), result.mem.hex()] if memory is not None and memory != result.mem else None,
        "maps": {
            name: changed for name in entries_after if (changed := _changes(entries_before[name], entries_after[name]))
        },
        "printed": result.printed,
        "redirects": [str(each) for each in result.redirects],
        "events": [{"map": each.map, "cpu": each.cpu, "data": each.data.hex()} for each in result.events],
        "actions": [str(each) for each in result.actions],
    }
    if arguments.coverage:
        report["coverage"] = {"summary": str(result.coverage), "missing": [str(x) for x in result.coverage.missing()]}
    if arguments.trace and arguments.json:
        report["trace"] = [str(each) for each in result.trace]
    return report


def text_of(report: dict[str, Any]) -> str:
    """A report as lines: r0, then a line for each thing that has changed or that the program did."""
    lines = [f"r0 = {report['ret']:#x} ({report['ret']}{_signed(report)}), {report['steps']} steps"]
    lines += [f"ctx.{name}: {old} -> {new}" for name, (old, new) in report["ctx"].items()]
    if report["mem"] is not None:
        lines.append("mem: {} -> {}".format(*report["mem"]))
    for name, changes in report["maps"].items():
        lines += [f"map {name}[{key}]: {old or 'none'} -> {new or 'none'}" for key, (old, new) in changes.items()]
    lines += [f"printed: {line}" for line in report["printed"]]
    lines += [f"redirect: {each}" for each in report["redirects"]]
    lines += [f"event: map {each['map']}, cpu {each['cpu']}: {each['data']}" for each in report["events"]]
    lines += [f"action: {each}" for each in report["actions"]]
    if "coverage" in report:
        lines += [
            f"coverage: {report['coverage']['summary']}",
            *(f"  {each}" for each in report["coverage"]["missing"]),
        ]
    return "".join(line + "\n" for line in lines)


def _signed(report: dict[str, Any]) -> str:
    return f", {report['signed']}" if report["signed"] < 0 else ""
