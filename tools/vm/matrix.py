"""The same command under several kernels, some at a time; results to files, and tables of them."""

import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from tools.vm.errors import VmError
from tools.vm.outcome import TIMED_OUT, VM_FAILED
from tools.vm.programs import ends_with_us
from tools.vm.results import remove_old_results, written
from tools.vm.summary import Summary, read_summary
from tools.vm.table import markdown

RESULTS = Path("build", "vm")
OUTPUT = "output.txt"
LOOK_SECONDS = 0.2
TAIL_LINES = 15


def run_matrix(
    kernels: Sequence[str], arguments: Sequence[str], jobs: int, total_seconds: float, directory: Path
) -> int:
    """Run `python -m tools.vm --kernel … ARGUMENTS` for each kernel and print the table; 0 if all went well, else 1.

    What has not ended after `total_seconds` is stopped and has failed. Raises VmError for kernels of the same name.
    """
    members = _members(kernels, directory)
    try:
        _run_all(deque(members), arguments, max(1, jobs), total_seconds)
    finally:
        for member in members:
            member.stop()
    summaries = [member.summary() for member in members]
    with written(directory):
        (directory / "tests.md").write_text(tests_table(summaries))
    print(kernels_table(summaries), end="")
    print(f"each kernel's output, console and results: {directory}", flush=True)
    return 0 if all(summary.is_good for summary in summaries) else 1


def _members(kernels: Sequence[str], directory: Path) -> "list[_Member]":
    names: dict[str, str] = {}
    for kernel in kernels:
        other = names.setdefault(Path(kernel).name, kernel)
        if other != kernel:
            raise VmError(f"{other} and {kernel} would write to the same results: give one of them another file name")
    return [_Member(kernel, directory / name) for name, kernel in names.items()]


@attrs.define
class _Member:
    """One kernel's run, in a process of its own."""

    kernel: str
    results: Path
    process: subprocess.Popen[bytes] | None = None
    trouble: str | None = None

    def start(self, arguments: Sequence[str]) -> None:
        with written(self.results):
            self.results.mkdir(exist_ok=True)
            remove_old_results(self.results)
            output = (self.results / OUTPUT).open("wb")
        command = [*ends_with_us("TERM"), sys.executable, "-m", "tools.vm", "--kernel", self.kernel]
        with output:
            # A group of its own: Ctrl-C is for the matrix, which then ends its members.
            self.process = subprocess.Popen(
                [*command, "--results", str(self.results), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def summary(self) -> Summary:
        """What it has left; of a member that was stopped, or never started, the reason."""
        if self.trouble is not None:
            return Summary(self.kernel, None, TIMED_OUT, 0.0, [self.trouble], {}, {})
        status = self.process.returncode if self.process else VM_FAILED
        return read_summary(self.results, self.kernel, status)


def _run_all(waiting: deque[_Member], arguments: Sequence[str], jobs: int, total_seconds: float) -> None:
    deadline = time.monotonic() + total_seconds
    running: list[_Member] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(waiting.popleft())
            running[-1].start(arguments)
        for member in [one for one in running if one.has_ended()]:
            running.remove(member)
            _announce(member)
        if time.monotonic() > deadline:
            _give_up(running, waiting, total_seconds)
            return
        time.sleep(LOOK_SECONDS)


def _give_up(running: Iterable[_Member], waiting: Iterable[_Member], total_seconds: float) -> None:
    limit = f"when {total_seconds:g} s were over for all kernels (--total)"
    for member in running:
        member.stop()
        member.trouble = f"stopped {limit}"
        _announce(member)
    for member in waiting:
        member.trouble = f"not started {limit}"
        _announce(member)


def _announce(member: _Member) -> None:
    """One line when it went well, the end of its output when not."""
    summary = member.summary()
    verdict = "ok" if summary.is_good else f"FAILED (exit status {summary.exit_status})"
    how = member.trouble or f"in {summary.seconds:.0f} s"
    print(f"{member.kernel}: {verdict} {how}", flush=True)
    if not summary.is_good and member.process is not None:
        lines = (member.results / OUTPUT).read_text(errors="replace").splitlines()
        print("\n".join(f"  | {line}" for line in lines[-TAIL_LINES:]), flush=True)


def kernels_table(summaries: Sequence[Summary]) -> str:
    """Kernel by result, as Markdown."""
    rows = [("kernel", "release", "passed", "failed", "unsupported", "time")]
    for one in summaries:
        counts = (str(one.count("passed")), str(one.count("failed")), str(one.count("unsupported")))
        rows.append((one.kernel, one.release or "-", *counts, f"{one.seconds:.0f} s"))
    return markdown(rows)


def tests_table(summaries: Sequence[Summary]) -> str:
    """Test by kernel, as Markdown, with the reasons of what did not pass below it."""
    names = sorted({name for one in summaries for name in one.tests})
    rows = [("test", *(one.kernel for one in summaries))]
    rows += [(name, *(one.tests.get(name, "-") for one in summaries)) for name in names]
    reasons = [f"* {one.kernel}, {name}: {reason}" for one in summaries for name, reason in one.reasons.items()]
    return markdown(rows) + "".join(f"{line}\n" for line in ("", *reasons))
