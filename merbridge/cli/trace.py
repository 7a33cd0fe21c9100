"""`trace`: connections as they are made, and what becomes of each. Exit 0 when it is ended, 2 where it cannot look."""

import difflib
import json
import select
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from merbridge import config
from merbridge.datapath.pins import Pins
from merbridge.errors import MerbridgeError

NAME = "trace"
SUMMARY = "show connections of enrolled pods and to them as they are made, until Ctrl-C; who does not look pays nothing"
FAILURE = 2

_SETTINGS = ("config", "bpffs")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not allowed: give a number from 1")
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
    from merbridge.observe.trace import Traced, Tracer, as_text

    settings = config.load_config(arguments, environment, _SETTINGS)

    def shown(traced: Traced) -> str:
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


def _all(tracer: Any, seconds: int | None) -> Iterator[Any]:
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        select.select([tracer.fileno()], [], [], None if end is None else end - time.monotonic())
        yield from tracer.read()


def _check_pod(name: str, known: tuple[str, ...]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
    raise MerbridgeError(f"--pod {name}: the agent knows no such pod on this node: {hint}")
