"""The command line: `python -m pybpfasm COMMAND`. It is described in docs/cli.md.

compile check explain                      Python files
asm dis run cfg elf btf                    programs and objects, on any machine
probe load attach prog map link            the running kernel
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pybpfasm.cli import asm, attach, btf, cfg, check, dis, elf, explain, link, load, probe, prog, run
from pybpfasm.cli import compile as compile_
from pybpfasm.cli import map as map_
from pybpfasm.cli.errors import UsageError
from pybpfasm.errors import BpfError

_COMMANDS = (compile_, check, explain, asm, dis, run, cfg, elf, btf, probe, load, attach, prog, map_, link)

_EPILOG = """\
`-` is standard input or output. Exit status: 0 it worked, 1 the input is bad (or the program that was run has a fault),
2 the command is, 130 Ctrl-C, 141 who reads the output has gone.
`python -m pybpfasm COMMAND --help` shows examples.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, as everything else does."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and the reason."""
        self.exit(2, f"pybpfasm: {message}: see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. A failure is one line on standard error, for text with the line it is in."""
    try:
        parsed = _parser().parse_args(arguments)
        status: int = parsed.run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that has gone can be told from a failure
    except UsageError as error:
        _complain(f"{error}: see python -m pybpfasm {parsed.command} --help")
        return 2
    except BrokenPipeError:
        _forget_output()
        return 141
    except KeyboardInterrupt:
        return 130
    except BpfError as error:
        _complain(str(error))
        return 1
    except MemoryError:
        _complain("there is not enough memory for this input")
        return 1
    except OSError as error:
        # What the machine refuses at a place where nobody expected it: a full disk, an input/output error.
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        _forget_output()
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pybpfasm",
        description="Compile, assemble, disassemble, run, load and look into eBPF programs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        sub = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def _complain(message: str) -> None:
    """Say it on standard error, without what a terminal would obey."""
    visible = "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in message)
    print(f"pybpfasm: {visible}", file=sys.stderr)


def _forget_output() -> None:
    """What is still in the buffer goes nowhere, or the interpreter would complain when it ends."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
