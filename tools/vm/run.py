"""One run from beginning to end: prepare disks, boot, pass the output on, watch the time, fetch the results."""

import contextlib
import os
import selectors
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import attrs

from tools.vm.cache import Cache
from tools.vm.disk import read_directory
from tools.vm.emulator import Hardware, Ports, emulator
from tools.vm.errors import VmError
from tools.vm.job_image import RESULTS, Job, make_job_image
from tools.vm.kernel import Kernel
from tools.vm.machine import Machine
from tools.vm.outcome import Outcome, read_outcome
from tools.vm.results import written

CHUNK = 1 << 16
LOOK_SECONDS = 0.5

Sink = Callable[[bytes], object]


@attrs.frozen
class Limits:
    """When a machine is given up: seconds in all, and seconds without a word from it."""

    total_seconds: float
    silent_seconds: float


@attrs.frozen
class Run:
    """All that one run is made from."""

    kernel: Kernel
    machine: Machine
    root: Path
    job: Job
    kvm: bool
    memory_mb: int
    limits: Limits
    results: Path | None  # a directory for the console, and for what the command leaves in /vm/results


def execute(run: Run, cache: Cache, sink: Sink) -> Outcome:
    """Run it; the command's output goes to `sink` as it comes.

    Raises VmError when the disks cannot be made, when their file system is full meanwhile, when results cannot be kept.
    """
    with contextlib.ExitStack() as held:
        with cache.filled():
            workspace = held.enter_context(cache.workspace())
            job = make_job_image(run.job, run.kernel, run.machine, workspace)
            ports = Ports.below(workspace)
        hardware = Hardware(run.machine, run.kernel.image, run.root, job, run.memory_mb, run.kvm)
        started = time.monotonic()
        with emulator(hardware, ports, workspace) as output:
            stopped = _pass_on(output, sink, ports, run.limits, cache)
        outcome = read_outcome(ports, stopped, time.monotonic() - started)
        if run.results is not None:
            _keep_results(run.results, job, ports, outcome)
        return outcome


def _pass_on(output: IO[bytes], sink: Sink, ports: Ports, limits: Limits, cache: Cache) -> str | None:
    """Pass output on until the machine ends; why it was given up, if it was."""
    started = heard = time.monotonic()
    console_size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            readable = selector.select(LOOK_SECONDS)
            if readable:
                chunk = os.read(output.fileno(), CHUNK)
                if not chunk:
                    return None
                sink(chunk)
            cache.check_room()
            now = time.monotonic()
            size = ports.console.stat().st_size
            if readable or size != console_size:
                heard, console_size = now, size
            if now - started > limits.total_seconds:
                return f"out of time: stopped after {limits.total_seconds:g} s (--timeout)"
            if now - heard > limits.silent_seconds:
                return f"hangs: stopped after {limits.silent_seconds:g} s without any output (--silence)"


def _keep_results(directory: Path, job: Path, ports: Ports, outcome: Outcome) -> None:
    with written(directory):
        shutil.copy(ports.console, directory / "console.txt")
        try:
            read_directory(job, RESULTS, directory)
        except (VmError, OSError):
            if outcome.is_complete:
                raise  # a machine that died may have left none; how it ended says so
