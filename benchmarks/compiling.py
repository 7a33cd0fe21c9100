"""How long the compiler takes: from a new process to all programs loaded, beside clang; and for long functions.

python -m benchmarks.compiling [--rounds 15]

The programs are compiled and loaded by a new Python each time, which needs root, until it says that they are loaded;
clang compiles the twins one after the other, until it has ended; the two take turns. Python runs with -S: what an
environment's own start-up files import is no cost of this library. Functions of 500 and of 5,000 lines are compiled in
this process. Numbers are medians.
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.codesize.clang import SOURCES, Clang
from benchmarks.codesize.rivals import RIVALS
from benchmarks.long_functions import compiled

ROOT = Path(__file__).parent.parent
COLD = """
from programs import PROGRAMS
from pybpfasm.compiler import compile_collection
from pybpfasm.kernel import Collection, named_target
loaded = Collection.load(compile_collection(PROGRAMS, target=named_target("6.1")))
print("loaded", flush=True)
loaded.close()
"""
COLD_WANTED = 0.5
SHORT, LONG, LONG_WANTED = 500, 5000, 12.0


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cold() -> float:
    """How long a new Python takes until it has compiled all programs and loaded them."""
    path = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))
    # The library's bytecode is kept, as it is wherever it is installed: the round that is not counted writes it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-S", "-c", COLD]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**environment, "PYTHONPATH": path}) as process:
        assert process.stdout is not None  # noqa: S101 - as it was asked for
        said = process.stdout.readline()
        took = time.perf_counter() - start
    if said != b"loaded\n" or process.returncode != 0:
        raise SystemExit("the programs were not loaded")
    return took


def twins(clang: Clang) -> None:
    """Clang compiles all twins, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            clang.compile(source, Path(folder) / "twin.o")


def compare_with(clang: Clang, rounds: int) -> bool:
    """Print a line; whether it is as wanted. One round is not counted."""
    ours, theirs = [], []
    for _ in range(rounds + 1):
        ours.append(cold())
        theirs.append(seconds(lambda: twins(clang)))
    ratio = statistics.median(one / other for one, other in zip(ours[1:], theirs[1:], strict=True))
    first, second = (statistics.median(times[1:]) * 1e3 for times in (ours, theirs))
    print(f"cold start to loaded {first:7.0f} ms, {clang} {second:7.0f} ms: {ratio:.2f} (wanted {COLD_WANTED})")
    return ratio <= COLD_WANTED


def long_functions(rounds: int) -> bool:
    """Print a line; whether it is as wanted."""
    took: dict[int, list[float]] = {SHORT: [], LONG: []}
    for _ in range(rounds):
        for lines, times in took.items():
            gc.collect()
            times.append(compiled(lines))
    short, long = (statistics.median(times) for times in took.values())
    ratio = long / short
    print(f"{SHORT} lines {short * 1e3:7.0f} ms, {LONG} lines {long * 1e3:7.0f} ms: {ratio:.1f} (wanted {LONG_WANTED})")
    return ratio <= LONG_WANTED


def main() -> int:
    """Measure and print; status 1 if something is not as wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    found = [each.clang for each in RIVALS if each.clang.is_installed()]
    as_wanted = [compare_with(clang, rounds) for clang in found]
    as_wanted.append(long_functions(max(rounds // 5, 1)))
    return 0 if all(as_wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
