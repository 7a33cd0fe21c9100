"""The command line: `python -m merbridge run|status|trace|doctor|cleanup|demo`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from merbridge.cli import cleanup, demo, doctor, run, status, trace
from merbridge.errors import MerbridgeError
from pybpfasm.errors import BpfError

_COMMANDS = (run, status, trace, doctor, cleanup, demo)


class _Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, as everything else does."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and the reason."""
        self.exit(2, f"{self.prog}: {message}: see --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. A failure is one line on standard error."""
    parser = _Parser(prog="python -m merbridge", description="Steer enrolled pods' traffic to ztunnel.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.SUMMARY, description=command.SUMMARY)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, failure=command.FAILURE)
    parsed = parser.parse_args(arguments)
    failure: int = parsed.failure
    try:
        status_code: int = parsed.run(vars(parsed), os.environ)
        sys.stdout.flush()  # here, where a reader that has gone can be told from a failure
    except (MerbridgeError, BpfError) as error:
        print(f"merbridge {parsed.command}: {error}", file=sys.stderr)
        return failure
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # What the machine refuses at a place where nobody expected it: out of descriptors, an input/output error.
        where = f"{error.filename}: " if error.filename else ""
        print(f"merbridge {parsed.command}: {where}{error.strerror or error}", file=sys.stderr)
        return failure
    return status_code
