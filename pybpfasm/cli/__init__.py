"""The command line: `python -m pybpfasm COMMAND`. It is described in docs/cli.md.

compile check explain                      Python files
asm dis run cfg elf btf                    programs and objects, on any machine
probe load attach prog map link            the running kernel
"""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from pybpfasm.cli import asm, attach, btf, cfg, check, dis, elf, explain, link, load, probe, prog, run
from pybpfasm.cli import compile as compile_
from pybpfasm.cli import map as map_
from pybpfasm.cli.errors import UsageError
from pybpfasm.scripts import complain, exit_status

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
    return exit_status("pybpfasm", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except UsageError as error:
        complain("pybpfasm", f"{error}: see python -m pybpfasm {parsed.command} --help")
        return 2
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
