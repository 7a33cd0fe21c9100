"""Compile errors: file, line, column, the source line with a caret, and what to write instead."""

from collections.abc import Sequence

from pybpfasm.errors import BpfError
from pybpfasm.ir.operations import Location

TOO_DEEP = "the program is nested too deeply: split it, with locals or inline functions (each `elif` counts)"


class CompileError(BpfError):
    """A program that the compiler refuses. `location` says where, `reason` what is wrong and what to write instead.

    The text's first line is `file:line:column: reason`; the source line follows, with carets below the part that is
    meant. `others` are the further errors of the program, whose texts are in this one's, too.
    """

    def __init__(self, location: Location, reason: str, others: "Sequence[CompileError]" = ()) -> None:
        self.location = location
        self.reason = reason
        self.others = tuple(others)
        # The name of a pointer that is to be tested first: it is told once.
        self.untested: str | None = None
        super().__init__("\n".join([_told(location, reason), *(str(each) for each in others)]))


class SilentError(CompileError):
    """What follows from an error that has been told: nobody is told again."""


def _told(location: Location, reason: str) -> str:
    carets = " " * (location.column - 1) + "^" * max(location.end - location.column, 1)
    place = f"{location.file}:{location.line}:{location.column}"
    return f"{place}: {reason}\n    {location.text}\n    {carets}"


class Findings:
    """The errors of one compilation, one a place, in the order of the source."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int], CompileError] = {}
        # How many were met, also of those that are not told again.
        self.met = 0

    def add(self, error: CompileError) -> None:
        """Note an error, unless it follows from another or its place has one."""
        self.met += 1
        place = error.location
        if not isinstance(error, SilentError):
            self._found.setdefault((place.file, place.line, place.column), error)

    def check(self) -> None:
        """Raise what was found, as one error."""
        found = [error for _, error in sorted(self._found.items(), key=lambda each: each[0])]
        if found:
            raise CompileError(found[0].location, found[0].reason, found[1:])
