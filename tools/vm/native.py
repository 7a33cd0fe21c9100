"""The running kernel as one of the kernels: the command is run right here, as root, in no machine."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.vm.errors import VmError
from tools.vm.outcome import TIMED_OUT, Outcome
from tools.vm.programs import ends_with_us, search_path
from tools.vm.results import REPORT

NATIVE = "native"
TIDY_SECONDS = 20.0  # for a command that is interrupted, as tests take down what they have set up


def run_natively(command: Sequence[str], variables: Mapping[str, str], seconds: float, results: Path | None) -> Outcome:
    """Run it, its output goes where ours does; pytest's report to `results`. Raises VmError when not root."""
    if os.geteuid() != 0:
        raise VmError(f"--kernel {NATIVE} runs the command on this kernel as root: be root, or leave it out")
    started = time.monotonic()
    process = subprocess.Popen(
        [*ends_with_us(), *command],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_environment(results), **variables},
        process_group=0,  # Ctrl-C is for the runner, which then ends the command
    )
    try:
        status = process.wait(seconds)
        trouble: tuple[str, ...] = ()
    except subprocess.TimeoutExpired:
        status, trouble = TIMED_OUT, (f"out of time: stopped after {seconds:g} s (--timeout)",)
    finally:
        _end(process)
    status = status if status >= 0 else 128 - status
    return Outcome(status, os.uname().release, trouble, (), time.monotonic() - started)


def _environment(results: Path | None) -> dict[str, str]:
    """As a guest's, where the kernel or the machine does not make the difference."""
    report = f"--junit-xml={results / REPORT}" if results else ""
    return {
        "PATH": f"{sys.prefix}/bin:{search_path()}",
        "PYTEST_ADDOPTS": f"{report} -p no:cacheprovider".strip(),
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt it, so that it can tidy up; kill what is left of it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TIDY_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
