"""`run`: the agent itself."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from merbridge import config
from merbridge.app import run as run_agent

NAME = "run"
SUMMARY = "follow the node's pods and keep the datapath true to them; it stays attached when the agent ends"
FAILURE = 1


def add_arguments(parser: ArgumentParser) -> None:
    """Every setting."""
    config.add_arguments(parser)


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Run until a signal ends it."""
    run_agent(lambda: config.load_config(arguments, environment))
    return 0
