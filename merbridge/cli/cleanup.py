"""`cleanup`: take hooks and pins away."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from merbridge import config
from merbridge.datapath.pins import Pins
from merbridge.datapath.removal import remove_everything

NAME = "cleanup"
SUMMARY = "detach the programs and remove the pins; connections that pods have opened live on"
FAILURE = 1

_SETTINGS = ("config", "bpffs", "proc", "host-pid")


def add_arguments(parser: ArgumentParser) -> None:
    """Where the pins are, and what is outside them."""
    config.add_arguments(parser, _SETTINGS)


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Remove everything, unless an agent is running."""
    settings = config.load_config(arguments, environment, _SETTINGS)
    pins = Pins(settings.bpffs)
    pins.exist()  # complains where that cannot be seen
    removed = remove_everything(pins, settings.proc, settings.host_pid)
    print(f"removed {removed} pins from {pins.root}" if removed else f"nothing to remove in {pins.root}")
    return 0
