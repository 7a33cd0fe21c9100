"""What importing costs, against an interpreter that does nothing.

python benchmarks/imports.py [--rounds 25]

Each command is started in turn, so that the machine's other work meets all alike; numbers are medians of wall time. The
interpreter runs with -I -S: what an environment's own start-up files import is no cost of this library, and hides it.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "pass": "pass",
    "import pybpfasm": "import pybpfasm",
    "Instruction": "from pybpfasm.isa import Instruction",
    "encode": "from pybpfasm.isa import encode",
    "parse": "from pybpfasm.isa import parse",
    "parse one line, kernel": "from pybpfasm.isa import parse; parse('exit')",
    "parse one line, llvm": "from pybpfasm.isa import parse; parse('exit', 'llvm')",
}
GOALS = {"Instruction": 3.0}


def seconds(code: str) -> float:
    """How long an interpreter takes for the code."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, code in COMMANDS.items():
            took[name].append(seconds(code))
    bare = statistics.median(took["pass"])
    print(f"{'':26} {'ms':>8} {'ratio':>7} {'wanted':>7}")
    for name, times in took.items():
        median = statistics.median(times)
        goal = GOALS.get(name)
        wanted = "" if goal is None else f"{goal:7.1f}{'' if median <= goal * bare else '  missed'}"
        print(f"{name:26} {median * 1e3:8.1f} {median / bare:7.2f} {wanted}")


if __name__ == "__main__":
    main()
