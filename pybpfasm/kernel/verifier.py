"""The verifier's rejection: one line that says what and where, the Python source line, the whole log on request.

A log, as Linux 5.10 to 7.x write it; the state of registers has many forms, which change from release to release:

    func#0 @0                                        a function                                  no reason
    0: R1=ctx(id=0,off=0,imm=0) R10=fp0              state, after or before an instruction       no reason
    ; count = ctx.type @ filter.py:12                a source line                               no reason
    0: (61) r0 = *(u32 *)(r1 +4)                     an instruction                              tells where
    from 3 to 7: R0=scalar() R10=fp0                 another path begins                         no reason
    mark_precise: frame0: last_idx 4 first_idx 0     how precision was tracked                   no reason
    R5 !read_ok                                      the verifier's sentence                     the reason
    Verification failed: Register Type Safety: …     a report, from Linux 7.3 (ce7c9f6c599b)     kept apart
    processed 5 insns (limit 1000000) …              statistics                                  no reason
"""

import re

from pybpfasm.errors import BpfError
from pybpfasm.kernel.advice import advice
from pybpfasm.spec import ProgramSpec, SourceLine

_INSTRUCTION = re.compile(r"^(\d+): \([0-9a-f]{2}\)")

# Lines that describe state, paths or statistics and never give the reason.
_NO_REASON = re.compile(
    r"""^\s*(
        $|;|\d+:\ |R\d+(_[rw]+)?=|fp-\d+(_[rw]+)?=|frame\d+:|Live\ reg
        |func\#|Validating\ .*func\#|Func\#\d+|\[\d+\]\ [A-Z_]+\b
        |from\ \d+\ to\ \d+|(cur|old)\ state:|caller:|callee:|returning\ from|to\ caller\ at|safe$|previous\ insn
        |mark_precise|propagating|regs=|parent\ |last_idx|first_idx|didn't\ have\ a\ parent
        |processed\ \d|verification\ time|stack\ depth|insns\ processed
    )""",
    re.VERBOSE,
)

# What was said last when the verifier gave up for the program's size; the line before tells more, if there is one.
_TOO_LARGE = re.compile(r"^BPF program is too large")

_REPORT = "Verification failed:"
_STATISTICS = re.compile(r"^processed \d+ insns")


class VerifierError(BpfError):
    """The kernel's verifier rejected a program.

    `reason` is the verifier's own sentence, `line` the source line of the instruction it stopped at (None if the log
    does not say), `slot` that instruction's, `log` the whole log. `report` is the explanation that Linux 7.3 and later
    give, with what led there and a suggestion, in several lines; empty before. `advice` says what usually mends it, in
    the program's own names; empty for a reason that is not known.
    """

    def __init__(
        self,
        program: str,
        reason: str,
        line: SourceLine | None,
        log: str,
        *,
        slot: int | None = None,
        report: str = "",
        advice: str = "",
    ) -> None:
        self.program = program
        self.reason = reason
        self.line = line
        self.log = log
        self.slot = slot
        self.report = report
        self.advice = advice
        where = f" at {line.file}:{line.line}:{line.column}, `{line.text}`" if line else ""
        mend = f": {advice}" if advice else ""
        super().__init__(f"the kernel rejected program {program}{where}: {reason}{mend}")


def rejection(spec: ProgramSpec, log: str, cause: str) -> VerifierError:
    """The error that a log tells of; `cause` is the system call's error, for a log that gives no reason."""
    rows = log.splitlines()
    start = next((index for index, row in enumerate(rows) if row.startswith(_REPORT)), len(rows))
    end = next((index for index in range(start, len(rows)) if _STATISTICS.match(rows[index])), len(rows))
    report = rows[start:end]
    slots = [int(found[1]) for row in rows[:start] if (found := _INSTRUCTION.match(row))]
    slot = slots[-1] if slots else None
    said = _reason(rows[:start], report)
    # Of two sentences the first one says what it is about, the second what is wrong with it.
    sentences = "\n".join(_sentences(rows[:start])[-2:]) if said else ""
    return VerifierError(
        spec.name,
        said or cause,
        None if slot is None else source_line(spec, slot),
        log,
        slot=slot,
        report="\n".join(report).strip(),
        advice=advice(spec, sentences or said, slot, _last_state(rows[:start])) if said else "",
    )


def _last_state(rows: list[str]) -> str:
    """All that was told of registers on the way to the last instruction, the latest first."""
    told: list[str] = []
    for row in reversed(rows):
        if row.startswith(("from ", "func#")):
            told.append(row)
            break
        if _STATE.match(row) or _BEHIND.match(row) or "R10=fp0" in row:
            told.append(row)
    return " ".join(told)


def _reason(rows: list[str], report: list[str]) -> str | None:
    """The verifier's sentence: the last line that is none of the known others, else what the report gives for one."""
    sentences = _sentences(rows)
    if sentences and _TOO_LARGE.match(sentences[-1]) and len(sentences) > 1:
        last = max(index for index, row in enumerate(rows) if row.strip() == sentences[-1])
        if rows[last - 1].strip() == sentences[-2]:
            return sentences[-2]
    if sentences:
        return sentences[-1]
    return _after(report, "Reason:") or (report[0].removeprefix(_REPORT).strip() if report else None)


def _sentences(rows: list[str]) -> list[str]:
    return [row.strip() for row in rows if not _NO_REASON.match(row)]


def _after(report: list[str], heading: str) -> str | None:
    """The text below a heading, in one line."""
    if heading not in report:
        return None
    below = report[report.index(heading) + 1 :]
    end = below.index("") if "" in below else len(below)
    return " ".join(row.strip() for row in below[:end]) or None


_STATE = re.compile(r"^(\d+): (R\d.*|frame\d+: R\d.*)$")
_BEHIND = re.compile(r"^(\d+): \([0-9a-f]{2}\) [^;]*;\s*(.*)$")
_PROCESSED = re.compile(r"^processed (\d+) insns", re.MULTILINE)


def states(log: str) -> dict[int, str]:
    """What the verifier knew behind each slot's instruction, the first time: of a log of instructions (log level 2).

    From Linux 5.18 on what an instruction changed stands behind it; before, all is told in front of the next one.
    """
    found: dict[int, str] = {}
    last: int | None = None
    for row in log.splitlines():
        if (behind := _BEHIND.match(row)) is not None:
            found.setdefault(int(behind[1]), behind[2].strip())
        elif (state := _STATE.match(row)) is not None and last is not None and last != int(state[1]):
            found.setdefault(last, state[2])
        instruction = _INSTRUCTION.match(row)
        last = int(instruction[1]) if instruction is not None else (None if row.startswith("from ") else last)
    return found


def processed(log: str) -> int | None:
    """How many instructions the verifier went through, by a log's statistics."""
    found = _PROCESSED.search(log)
    return None if found is None else int(found[1])


def source_line(spec: ProgramSpec, slot: int) -> SourceLine | None:
    """Where the instruction in a slot comes from."""
    before = [line for line in spec.lines if line.slot <= slot]
    return before[-1] if before else None
