"""`doctor`: what the node and the cluster have to be like. Exit 0 all so, 1 something is wrong, 2 cannot look."""

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from merbridge import config
from merbridge.config import SETTINGS, Config, ConfigError
from merbridge.doctor import Finding, Verdict, examine

NAME = "doctor"
SUMMARY = "look at what the agent needs of kernel, node and cluster; exit 0 all well, 1 not, 2 cannot look"
FAILURE = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Every setting, as the agent has it, and the form of the answer."""
    config.add_arguments(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the answer")


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Print what was found; nothing is changed."""
    settings, no_source = _settings(arguments, environment)
    findings = examine(settings, no_source)
    print(_as_json(findings) if arguments["output"] == "json" else _as_table(findings))
    return 1 if _wrong(findings) else 0


def _settings(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Config, str]:
    """The settings; and, as a node can be looked at without a source, what is wrong with that."""
    try:
        return config.load_config(arguments, environment), ""
    except ConfigError as error:
        others = [name for name in SETTINGS if name != "source"]
        return config.load_config(arguments, environment, others), str(error)


def _wrong(findings: Sequence[Finding]) -> int:
    return sum(each.verdict is Verdict.PROBLEM for each in findings)


def _as_json(findings: Sequence[Finding]) -> str:
    content = {"healthy": not _wrong(findings), "findings": [attrs.asdict(each) for each in findings]}
    return json.dumps(content, indent=2)


def _as_table(findings: Sequence[Finding]) -> str:
    lines = [
        f"{each.verdict:<8} {each.area:<11} {': '.join(filter(None, (each.text, each.remedy)))}" for each in findings
    ]
    wrong = _wrong(findings)
    return "\n".join([*lines, "", f"{wrong} {'problem' if wrong == 1 else 'problems'}" if wrong else "all well"])
