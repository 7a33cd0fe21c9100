"""`trace`: connections as they are made, and what becomes of each. Exit 0 when it is ended, 2 where it cannot look."""

import difflib
import json
import select
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from merbridge import config
from merbridge.datapath.pins import Pins
from merbridge.errors import MerbridgeError

if TYPE_CHECKING:
    from merbridge.observe.trace import Traced, Tracer

NAME = "trace"
SUMMARY = "show connections of enrolled pods and to them as they are made, until Ctrl-C; who does not look pays nothing"
FAILURE = 2

# How often it is looked whether the datapath is still the same.
_KEEP_UP_SECONDS = 1.0

_SETTINGS = ("config", "bpffs")
_MOST = 1_000_000_000


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise ArgumentTypeError(f"{text!r} is not allowed: give a number from 1 to {_MOST}")
    return int(text)


def add_arguments(parser: ArgumentParser) -> None:
    """Where the pins are, whose connections, and when it is enough."""
    config.add_arguments(parser, _SETTINGS)
    parser.add_argument("--pod", metavar="NAMESPACE/NAME", help="show those of this pod alone (default: of all)")
    parser.add_argument("--count", metavar="N", type=_positive, help="end after so many (default: never)")
    parser.add_argument("--seconds", metavar="N", type=_positive, help="end after so long (default: never)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of a line")


def run(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Print what comes."""
    # Late: other commands need no compiler.
    from merbridge.observe.trace import Tracer, as_text

    settings = config.load_config(arguments, environment, _SETTINGS)

    def shown(traced: "Traced") -> str:
        return json.dumps(attrs.asdict(traced)) if arguments["output"] == "json" else as_text(traced)

    with Tracer(Pins(settings.bpffs)) as tracer:
        if arguments["pod"] is not None:
            _check_pod(arguments["pod"], tracer.pods())
        print("tracing; Ctrl-C ends it", file=sys.stderr, flush=True)
        left = arguments["count"]
        try:
            for traced in _all(tracer, arguments["seconds"]):
                if arguments["pod"] in (None, traced.pod):
                    print(shown(traced), flush=True)
                    left = None if left is None else left - 1
                if left == 0:
                    break
        except KeyboardInterrupt:
            pass  # the usual end
        if tracer.lost:
            print(f"{tracer.lost} connections came too fast to be shown", file=sys.stderr)
    return 0


def _all(tracer: "Tracer", seconds: int | None) -> "Iterator[Traced]":
    end = float("inf") if seconds is None else time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        select.select([tracer.fileno()], [], [], min(left, _KEEP_UP_SECONDS))
        yield from tracer.read()
        yield from tracer.keep_up()


def _check_pod(name: str, known: tuple[str, ...]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
    raise MerbridgeError(f"--pod {name}: the agent knows no such pod on this node: {hint}")
