"""The verifier's rejection: one line that says what and where, the Python source line, the whole log on request."""

import re

from pybpfasm.errors import BpfError
from pybpfasm.spec import ProgramSpec, SourceLine

_INSTRUCTION = re.compile(r"^(\d+): \([0-9a-f]{2}\)")

# Lines that describe state or statistics and never give the reason.
_NO_REASON = re.compile(
    r"^(\d+: |;|processed \d|verification time|stack depth|from \d+ to \d+|func#|R\d+(_w)?=|Live regs|mark_precise"
    r"|propagating|regs=|parent |last_idx|BPF program is too large|$)"
)


class VerifierError(BpfError):
    """The kernel's verifier rejected a program.

    `reason` is the verifier's own sentence, `line` the source line of the instruction it stopped at (None if the log
    does not say), `log` the whole log.
    """

    def __init__(self, program: str, reason: str, line: SourceLine | None, log: str) -> None:
        self.program = program
        self.reason = reason
        self.line = line
        self.log = log
        where = f" at {line.file}:{line.line}:{line.column}, `{line.text}`" if line else ""
        super().__init__(f"the kernel rejected program {program}{where}: {reason}")


def rejection(spec: ProgramSpec, log: str, cause: str) -> VerifierError:
    """The error that a log tells of; `cause` is the system call's error, for a log that gives no reason."""
    rows = log.splitlines()
    numbers = [int(found[1]) for row in rows if (found := _INSTRUCTION.match(row))]
    line = source_line(spec, numbers[-1]) if numbers else None
    reasons = [row.strip() for row in rows if not _NO_REASON.match(row)]
    return VerifierError(spec.name, reasons[-1] if reasons else cause, line, log)


def source_line(spec: ProgramSpec, slot: int) -> SourceLine | None:
    """Where the instruction in a slot comes from."""
    before = [line for line in spec.lines if line.slot <= slot]
    return before[-1] if before else None
