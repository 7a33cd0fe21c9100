"""The same command under several kernels, some at a time; results to files, and tables of them."""

import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import attrs

from tools.vm.programs import find_program
from tools.vm.summary import Summary, read_summary
from tools.vm.table import markdown

RESULTS = Path("build", "vm")
LOOK_SECONDS = 0.2
TAIL_LINES = 15


def run_matrix(kernels: Sequence[str], arguments: Sequence[str], jobs: int, results: Path | None) -> int:
    """Run `python -m tools.vm --kernel … ARGUMENTS` for each kernel and print the table; 0 if all went well, else 1."""
    directory = (results or RESULTS).absolute()
    waiting = deque(_Member(kernel, directory / Path(kernel).name) for kernel in dict.fromkeys(kernels))
    members = list(waiting)
    try:
        _run_all(waiting, arguments, max(1, jobs))
    finally:
        for member in members:
            member.stop()
    summaries = [member.summary() for member in members]
    (directory / "tests.md").write_text(tests_table(summaries))
    print(kernels_table(summaries), end="")
    print(f"each kernel's output, console and results: {directory}")
    return 0 if all(summary.is_good for summary in summaries) else 1


@attrs.define
class _Member:
    """One kernel's run, in a process of its own."""

    kernel: str
    results: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: Sequence[str]) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        for old in ("summary.json", "junit.xml"):
            (self.results / old).unlink(missing_ok=True)
        command = [find_program("setpriv"), "--pdeathsig", "TERM", "--", sys.executable, "-m", "tools.vm"]
        command += ["--kernel", self.kernel, "--results", str(self.results)]
        with (self.results / "output.txt").open("wb") as output:
            # A group of its own: Ctrl-C is for the matrix, which then ends its members.
            self.process = subprocess.Popen(
                [*command, *arguments],
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
        status = self.process.returncode if self.process else 1
        return read_summary(self.results, self.kernel, status)


def _run_all(waiting: deque[_Member], arguments: Sequence[str], jobs: int) -> None:
    running: list[_Member] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(waiting.popleft())
            running[-1].start(arguments)
        for member in [one for one in running if one.has_ended()]:
            running.remove(member)
            _announce(member)
        time.sleep(LOOK_SECONDS)


def _announce(member: _Member) -> None:
    """One line when it went well, the end of its output when not."""
    summary = member.summary()
    verdict = "ok" if summary.is_good else f"FAILED (exit status {summary.exit_status})"
    print(f"{member.kernel}: {verdict} in {summary.seconds:.0f} s", flush=True)
    if not summary.is_good:
        lines = (member.results / "output.txt").read_text(errors="replace").splitlines()
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
