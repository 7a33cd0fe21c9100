"""What no scene can show of the programs: ways of jumps that are there, and cannot be taken in the interpreter.

Each is one line of source. `check` refuses one that is not needed any more.
"""

from collections.abc import Iterable

import attrs

from pybpfasm.sim.coverage import Missing


@attrs.frozen
class Impossible:
    """A program's line, as it stands in the source, and why its jump goes one way only; `jumps` of a form have it."""

    program: str
    line: str
    why: str
    jumps: int = 1

    def explains(self, program: str, missing: Missing) -> bool:
        """Whether this is why something was not shown."""
        return program == self.program and missing.line is not None and missing.line.text.strip() == self.line


OURS = (
    Impossible(
        "sockops",
        "if call is None:",
        "the state's call lies at its start, and the state is there: the compiler does not see that",
    ),
)

# Where accepted sockets send past TCP, too.
BOTH = (
    Impossible(
        "sockops",
        "if slot is not None:",
        "`accepted_slot` returns a slot that it has looked into: the compiler does not see that it is there",
        jumps=2,
    ),
)

TWINS: tuple[Impossible, ...] = ()


def unexplained(reasons: Iterable[Impossible], program: str, missing: Iterable[Missing]) -> list[Missing]:
    """What a scene should have shown, and none has."""
    known = list(reasons)
    return [each for each in missing if not any(reason.explains(program, each) for reason in known)]


def unneeded(reasons: Iterable[Impossible], program: str, missing: Iterable[Missing]) -> list[Impossible]:
    """Those of a program's reasons that explain nothing: the line is gone, or was shown after all."""
    found = list(missing)
    own = (reason for reason in reasons if reason.program == program)
    return [reason for reason in own if not any(reason.explains(program, each) for each in found)]
