"""What one run leaves for the tables: summary.json in its results, with each test's outcome from pytest's junit.xml."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Literal

import attrs

from tools.vm.outcome import VM_FAILED, Outcome
from tools.vm.results import REPORT, SUMMARY, written

TestOutcome = Literal["passed", "failed", "unsupported"]

# The property by which a test says which feature of the kernel it misses, once a probe has agreed
# (tests/kernel_matrix/needs.py). To be skipped for any other reason is a failure here.
UNSUPPORTED = "unsupported"
EXPECTED_FAILURE = "pytest.xfail"  # strict: a limit that is known, and was met as expected


@attrs.frozen
class Summary:
    """One kernel's run."""

    kernel: str
    release: str | None
    exit_status: int
    seconds: float
    troubles: list[str]
    tests: dict[str, TestOutcome]
    reasons: dict[str, str]  # of each test that did not pass, its first line

    def count(self, outcome: TestOutcome) -> int:
        """How many tests ended so; a command that is not pytest counts as one test."""
        if self.tests:
            return sum(found == outcome for found in self.tests.values())
        return int(outcome == ("failed" if self.exit_status else "passed"))

    @property
    def is_good(self) -> bool:
        """The command succeeded, and no test failed or was skipped without naming a feature."""
        return self.exit_status == 0 and self.count("failed") == 0


def write_summary(results: Path, kernel: str, outcome: Outcome) -> None:
    """Write summary.json beside the run's other results."""
    tests, reasons = _read_junit(results / REPORT)
    seconds = round(outcome.seconds, 1)
    troubles = list(outcome.troubles)
    summary = Summary(kernel, outcome.release, outcome.exit_status, seconds, troubles, tests, reasons)
    with written(results):
        (results / SUMMARY).write_text(json.dumps(attrs.asdict(summary), indent=1) + "\n")


def read_summary(results: Path, kernel: str, exit_status: int) -> Summary:
    """What the run has left; without it, a summary that says no more than that it failed, whatever the exit status."""
    try:
        return Summary(**json.loads((results / SUMMARY).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Summary(kernel, None, exit_status or VM_FAILED, 0.0, [], {}, {})


def _read_junit(report: Path) -> tuple[dict[str, TestOutcome], dict[str, str]]:
    tests: dict[str, TestOutcome] = {}
    reasons: dict[str, str] = {}
    if not report.is_file():
        return tests, reasons
    try:
        cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 - it comes from our own guest
    except ElementTree.ParseError as error:
        return {REPORT: "failed"}, {REPORT: f"the report cannot be read: {error}"}
    for case in cases:
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        tests[name], reason = _outcome(case)
        if tests[name] != "passed":
            reasons[name] = reason
    return tests, reasons


def _outcome(case: ElementTree.Element) -> tuple[TestOutcome, str]:
    is_unsupported = any(each.get("name") == UNSUPPORTED for each in case.iter("property"))
    for child in case:
        message = (child.get("message") or "").strip()
        first = message.splitlines()[0] if message else child.tag
        if child.tag in ("failure", "error"):
            return "failed", _reason(child, first)
        if child.tag == "skipped" and child.get("type") != EXPECTED_FAILURE:
            return ("unsupported", first) if is_unsupported else ("failed", f"skipped without a feature: {first}")
    return "passed", ""


def _reason(child: ElementTree.Element, first: str) -> str:
    """pytest's message; of a failure in a fixture it says no more than that, and the text has the reason."""
    lines = [line.removeprefix("E").strip() for line in (child.text or "").splitlines() if line.strip()]
    errors = [line for line in (child.text or "").splitlines() if line.startswith("E  ")]
    if child.tag == "error" and lines:
        return errors[0].removeprefix("E").strip() if errors else lines[0]
    return first
