"""Examples that look at the kernel or at processes at work: they see what the test's own processes do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running_example import Start, run

from pybpfasm.kernel import features

LINES_WITH_CALLS = "import ctypes, sys\nfor line in sys.stdin:\n    ctypes.CDLL(None).atoi(b'1')\n    print(flush=True)"


def libc() -> str:
    """The C library that this process runs."""
    rows = Path("/proc/self/maps").read_text().splitlines()
    return next(row.split()[-1] for row in rows if re.search(r"/libc[.-][^/]*$", row))


@pytest.mark.needs(features.ITERATORS)
def test_execsnoop(start: Start) -> None:
    """A program that is run is told with its parent and its arguments."""
    example = start("execsnoop")
    example.wait_for("^PID +PARENT +PROGRAM")
    mark = f"mark-{os.getpid()}"
    process = subprocess.Popen(["/bin/sh", "-c", "exit 0", mark, "two words"])
    process.wait()
    line = example.wait_for(mark)
    words = line.string.split(maxsplit=2)
    assert words == [str(process.pid), str(os.getpid()), f"/bin/sh -c exit 0 {mark} two words"]
    example.stop()


@pytest.mark.needs(features.ITERATORS)
def test_runqlat(start: Start) -> None:
    """Waits are counted: a process that sleeps fifty times is woken as often."""
    example = start("runqlat")
    example.wait_for("^measuring")
    subprocess.run([sys.executable, "-c", "import time\nfor _ in range(50): time.sleep(0.001)"], check=True)
    rows = re.findall(r"^ *(\d+) \.\. (\d+) +(\d+)", example.stop(), re.M)
    assert [int(row[0]) for row in rows[:3]] == [0, 2, 4]
    assert sum(int(row[2]) for row in rows) >= 50


@pytest.mark.needs(features.ITERATORS)
def test_ps() -> None:
    """This process is in the list, with its parent, its user, its threads and its name."""
    result = run("ps")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["PID", "PARENT", "USER", "THREADS", "NAME"]
    threads = len(os.listdir("/proc/self/task"))
    name = Path("/proc/self/comm").read_text().strip()
    found = next(line.split(maxsplit=4) for line in lines if line.split()[0] == str(os.getpid()))
    assert found == [str(os.getpid()), str(os.getppid()), str(os.getuid()), str(threads), name]


@pytest.mark.needs(features.UPROBES)
def test_count_calls(start: Start) -> None:
    """Three calls are three, those that were made before do not count."""
    command = [sys.executable, "-c", LINES_WITH_CALLS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None

        def call() -> None:
            caller.stdin.write(b"\n")
            caller.stdout.readline()

        call()
        example = start("count_calls", libc(), "atoi", "--pid", caller.pid)
        example.wait_for("^counting calls of atoi")
        for _ in range(3):
            call()
        table = example.stop()
        caller.stdin.close()
    assert re.fullmatch(rf" +3  \S+\[{caller.pid}\]\n", table), table


@pytest.mark.needs(features.UPROBES)
def test_a_function_that_the_library_has_not() -> None:
    """It is told in one line."""
    result = run("count_calls", libc(), "no_such_function")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"count_calls: .*no_such_function.*\n", result.stderr), result.stderr
