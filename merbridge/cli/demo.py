"""`demo`: a small node of namespaces and cgroups, the agent, real traffic, and a table of what happened."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

NAME = "demo"
SUMMARY = "build a small node out of network namespaces and cgroups, run the agent on it, and show what traffic does"
FAILURE = 1


def add_arguments(parser: ArgumentParser) -> None:
    """The demo takes none."""
    del parser


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Run the demo: 0 only if all was as it should be."""
    from merbridge.demo.scenario import run_demo

    del arguments, environment
    return run_demo()
