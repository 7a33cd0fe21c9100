"""How a run ended, read from what the guest wrote to its status port and to its console."""

import re
from collections.abc import Iterable
from pathlib import Path

import attrs

from tools.vm.emulator import Ports

TIMED_OUT = 124
VM_FAILED = 125
TAIL_LINES = 30
PANIC = re.compile(r"Kernel panic - not syncing: .*")


@attrs.frozen
class Outcome:
    """The exit status to pass on, the guest's kernel release if it came up, and a line for each trouble."""

    exit_status: int
    release: str | None
    troubles: tuple[str, ...]
    console_tail: tuple[str, ...]
    seconds: float
    is_complete: bool = False  # the command ran to its end, and the guest wrote its disks


def read_outcome(ports: Ports, stopped: str | None, seconds: float) -> Outcome:
    """What became of a machine that has ended; `stopped` is why the runner ended it, if it did."""
    report = _Report.parse(ports.status.read_text(errors="replace"))
    console = ports.console.read_text(errors="replace").splitlines()
    full = tuple(f"the guest's disk is full at {path}: the command may have failed for that" for path in report.full)
    if stopped is not None:
        return Outcome(TIMED_OUT, report.release, (stopped, *full), _tail(console), seconds)
    if report.exit_status is not None:
        return Outcome(report.exit_status, report.release, full, (), seconds, is_complete=True)
    cause = _cause(report, console, ports.complaints)
    return Outcome(VM_FAILED, report.release, (cause,), _tail(console), seconds)


@attrs.frozen
class _Report:
    """The status port's lines, as guest_init.py writes them."""

    release: str | None
    is_started: bool
    exit_status: int | None
    full: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "_Report":
        lines = [line.partition(" ") for line in text.splitlines(keepends=True) if line.endswith("\n")]
        values = {word.strip(): value.strip() for word, _, value in lines}
        full = tuple(value.strip() for word, _, value in lines if word == "full")
        status = int(values["exit"]) if "exit" in values else None
        return cls(values.get("release"), "started" in values, status, full)


def _cause(report: _Report, console: Iterable[str], complaints: Path) -> str:
    said = complaints.read_text(errors="replace").strip().splitlines()
    panic = [found[0] for line in console if (found := PANIC.search(line))]
    init = [line.removeprefix("init: ") for line in console if line.startswith("init: ")]
    if panic:
        return f"the guest's kernel died: {panic[0].strip()}"
    if report.is_started:
        return "the machine ended before the command did (powered off or reset by it?)"
    if init:
        return f"the guest could not be set up: {init[-1]}"
    if said:
        # The first line has the reason, others may be hints on it; warnings come before.
        reason = next((line for line in said if "warning:" not in line), said[0])
        return f"QEMU ended before the kernel came up: {reason}"
    return "the kernel did not come up: is it an image for this machine, with ext4 and NVMe built in?"


def _tail(console: list[str]) -> tuple[str, ...]:
    """The last lines; after a panic all from it on, for its trace may be longer than those."""
    panic = next((place for place, line in enumerate(console) if PANIC.search(line)), len(console))
    return tuple(console[min(panic, max(0, len(console) - TAIL_LINES)) :])
