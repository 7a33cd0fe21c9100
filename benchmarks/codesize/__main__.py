"""Ours and clang's code for the mesh's programs, compared.

python -m benchmarks.codesize [--chart FILE.svg] [--scenes 500] [--no-kernel]

First both are run in the interpreter on the same scenes, which take both ways of each of their jumps: they must do the
same. Ends with status 1 if a figure misses what is wanted, or none of the clangs is installed.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.codesize.chart import chart
from benchmarks.codesize.equality import check
from benchmarks.codesize.figures import Figures, measured
from benchmarks.codesize.rivals import RIVALS
from benchmarks.codesize.table import table


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.codesize", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="write the slots as a bar chart")
    parser.add_argument("--scenes", type=int, default=500, metavar="N", help="random scenes a program (default 500)")
    parser.add_argument("--no-kernel", action="store_true", help="do not ask the kernel's verifier, which needs root")
    arguments = parser.parse_args()
    found = [each for each in RIVALS if each.clang.is_installed()]
    for each in RIVALS:
        print(each.clang.version() if each in found else f"{each.clang.command} is not installed: it is left out")
    if not found:
        return 1
    pairs = [each.programs() for each in found]
    for line in check(pairs, arguments.scenes):
        print(line)
    figures = [measured(pair, kernel=not arguments.no_kernel) for pair in pairs]
    for each_figures in figures:
        print(f"\n{table(each_figures)}")
    if arguments.chart is not None:
        arguments.chart.write_text(chart(figures))
    return _verdict(figures)


def _verdict(figures: list[Figures]) -> int:
    missed = [f"{each.rivals.name}: {line}" for each in figures for line in each.missed()]
    print("\nmissed:\n  " + "\n  ".join(missed) if missed else "\nall as wanted")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
