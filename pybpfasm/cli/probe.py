"""`probe`: what the running kernel can do."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from pybpfasm.cli.errors import UsageError
from pybpfasm.cli.streams import STANDARD, write_output
from pybpfasm.cli.tables import json_text, table

if TYPE_CHECKING:
    from pybpfasm.kernel.probes import Answer
    from pybpfasm.uapi import Helper, ProgramType

NAME = "probe"
SUMMARY = "try what the running kernel can do"
EPILOG = """\
examples:
  python -m pybpfasm probe
  python -m pybpfasm probe --helpers xdp
  python -m pybpfasm probe --json --helpers all > node.json

Everything is tried, nothing is attached, and nothing is left. A `?` is what the kernel does not say, for want of a
capability most often. `since` is the Linux version that a feature came in; distributions have some of them earlier.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """What to ask for, and the form of the answer."""
    parser.add_argument(
        "--helpers",
        metavar="PROGTYPE",
        help="the helpers that programs of this type can call: xdp; with --json: in addition, and all for all types",
    )
    parser.add_argument("--json", action="store_true", help="all answers as JSON")
    parser.add_argument("-o", "--output", default=STANDARD, metavar="OUT", help="default: standard output")


def run(arguments: Namespace) -> int:
    """Ask the kernel."""
    if arguments.json:
        write_output(arguments.output, json_text(_report(arguments.helpers)))
    elif arguments.helpers is not None:
        lines = [line for name, helpers in _helpers(arguments.helpers).items() for line in (f"{name}:", *helpers)]
        write_output(arguments.output, "".join(f"{line}\n" for line in lines))
    else:
        write_output(arguments.output, "".join(f"{line}\n" for line in _lines()))
    return 0


def _report(helpers: str | None) -> dict[str, Any]:
    import os

    from pybpfasm.kernel.probes import TABLES, probe

    tables = {
        title: {name: {"feature": feature.name, **_answer(probe(feature))} for name, feature in rows.items()}
        for title, rows in TABLES.items()
    }
    report = {"release": os.uname().release, "isa": _level(), "tables": tables}
    return report if helpers is None else {**report, "helpers": _helpers(helpers)}


def _level() -> int | None:
    """The level of instructions; None if the kernel does not say."""
    from pybpfasm.errors import KernelError
    from pybpfasm.kernel.probes import find_isa_level

    try:
        return int(find_isa_level())
    except KernelError:
        return None


def _answer(answer: "Answer") -> dict[str, Any]:
    return {"supported": answer.supported, "since": answer.since, "reason": answer.reason}


def _helpers(wanted: str) -> dict[str, list[str]]:
    from pybpfasm.kernel.probes import find_helpers

    types = _types() if wanted == "all" else [_type(wanted)]
    return {each.name.lower(): _names(find_helpers(each)) for each in types}


def _types() -> "list[ProgramType]":
    from pybpfasm.uapi import ProgramType

    return [each for each in ProgramType if each not in (ProgramType.UNSPEC, ProgramType.EXT)]


def _type(name: str) -> "ProgramType":
    by_name = {each.name.lower(): each for each in _types()}
    if name not in by_name:
        raise UsageError(f"--helpers {name}: programs have no such type: {', '.join(by_name)}, or all")
    return by_name[name]


def _names(helpers: "frozenset[Helper]") -> list[str]:
    return [f"bpf_{each.name.lower()}" for each in sorted(helpers)]


def _lines() -> list[str]:
    import os

    from pybpfasm.kernel.probes import TABLES, probe

    lines = [f"Linux {os.uname().release}, instructions of level v{_level() or '?'}"]
    marks = {True: "yes", False: "no", None: "?"}
    for title, features in TABLES.items():
        answers = {name: probe(feature) for name, feature in features.items()}
        rows = [
            {title: name, "here": marks[answer.supported], "since": answer.since, "why not": answer.reason}
            for name, answer in answers.items()
        ]
        lines += ["", *table(rows)]
    return lines
