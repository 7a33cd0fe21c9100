"""What a look at one thing has found."""

from enum import StrEnum

import attrs


class Verdict(StrEnum):
    """How it is: as it has to be, worth knowing, or in the way of the agent."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@attrs.frozen
class Finding:
    """One line: what was looked at, how it is, and what to do about it, "" where there is nothing to do."""

    area: str
    verdict: Verdict
    text: str
    remedy: str = ""


def ok(area: str, text: str) -> Finding:
    """It is as it has to be."""
    return Finding(area, Verdict.OK, text)


def note(area: str, text: str, remedy: str = "") -> Finding:
    """The agent works with it, and somebody may want to know."""
    return Finding(area, Verdict.NOTE, text, remedy)


def problem(area: str, text: str, remedy: str = "") -> Finding:
    """The agent does not work with it, or not as it should."""
    return Finding(area, Verdict.PROBLEM, text, remedy)
