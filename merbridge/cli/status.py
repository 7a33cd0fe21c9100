"""`status`: what is attached, who is enrolled, where ztunnel is. Exit 0 healthy, 1 degraded, 2 cannot tell."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from merbridge import config
from merbridge.datapath.pins import Pins
from merbridge.observe.render import FORMS
from merbridge.observe.report import read_report

NAME = "status"
SUMMARY = "say what is attached, who is enrolled, where ztunnel is; exit 0 healthy, 1 degraded, 2 cannot tell"
FAILURE = 2

_SETTINGS = ("config", "bpffs")


def add_arguments(parser: ArgumentParser) -> None:
    """Where the pins are, and the form of the answer."""
    config.add_arguments(parser, _SETTINGS)
    parser.add_argument("-o", "--output", choices=tuple(FORMS), default="table", help="form of the answer")


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Print the report."""
    settings = config.load_config(arguments, environment, _SETTINGS)
    report = read_report(Pins(settings.bpffs))
    print(FORMS[arguments["output"]](report))
    return 1 if report.problems else 0
