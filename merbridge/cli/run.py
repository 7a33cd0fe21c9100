"""`run`: the agent itself."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from merbridge import config
from merbridge.app import run as run_agent
from merbridge.observe.logs import configure_log

NAME = "run"
SUMMARY = "follow the node's pods and keep the datapath true to them; it stays attached when the agent ends"
FAILURE = 1


def add_arguments(parser: ArgumentParser) -> None:
    """Every setting."""
    config.add_arguments(parser)


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Run until a signal ends it."""
    settings = config.load_config(arguments, environment)
    configure_log(settings.log_level, settings.log_format)
    run_agent(settings)
    return 0
