"""The table that both forms show: groups of instructions, each with the Python line that they come from.

A group is a run of instructions of one line; a line that was split, or is reached in several ways, has several groups.
The IR's operations come in the order of the instructions made of them, so that both can be walked side by side.
"""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from pybpfasm.cfg.targets import targets_of
from pybpfasm.isa import Instruction, format_instruction
from pybpfasm.spec import ProgramSpec, SourceLine


@attrs.frozen
class Line:
    """An instruction. `target` is the slot that it may lead to, `state` what the verifier knew behind it."""

    slot: int
    text: str
    target: int | None = None
    state: str = ""


@attrs.frozen
class Group:
    """What became of a Python line, or of a part of it. `function` begins here, if it is named."""

    file: str
    line: int
    text: str
    operations: tuple[str, ...]
    lines: tuple[Line, ...]
    function: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """The line's file and number."""
        return self.file, self.line


@attrs.frozen
class Explanation:
    """A whole program. `slots` is its length; `facts` are pairs for the head: what, and how much."""

    name: str
    slots: int
    groups: tuple[Group, ...]
    facts: tuple[tuple[str, str], ...] = ()

    def slots_by_place(self) -> dict[tuple[str, int], int]:
        """How many slots each line takes, in the order of the program."""
        found: dict[tuple[str, int], int] = {}
        ends = [*(group.lines[0].slot for group in self.groups[1:]), self.slots]
        for group, end in zip(self.groups, ends, strict=True):
            found[group.place] = found.get(group.place, 0) + end - group.lines[0].slot
        return found


# An operation of the IR: its file and line, and its text.
PlacedOperation = tuple[str, int, str]


def explanation(
    spec: ProgramSpec,
    operations: Iterable[PlacedOperation] = (),
    states: Mapping[int, str] | None = None,
    facts: Iterable[tuple[str, str]] = (),
) -> Explanation:
    """The table of a program. `states` are texts by slot."""
    functions = {each.slot: each.name for each in spec.functions}
    runs = _runs(spec, functions)
    parts = _spread(list(operations), [(line.file, line.line) for line, _ in runs])
    groups = tuple(
        Group(
            line.file,
            line.line,
            line.text,
            part,
            tuple(_line(slot, instruction, states or {}) for slot, instruction in run),
            functions.get(run[0][0], ""),
        )
        for (line, run), part in zip(runs, parts, strict=True)
    )
    slots = sum(instruction.slots for instruction in spec.instructions)
    return Explanation(spec.name, slots, groups, tuple(facts))


Run = tuple[SourceLine, list[tuple[int, Instruction]]]


def _runs(spec: ProgramSpec, functions: Mapping[int, str]) -> list[Run]:
    """The instructions with their slots, cut where the Python line changes or a function begins."""
    unknown = SourceLine(0, "", 0, 0, "")
    lines = {line.slot: line for line in spec.lines}
    runs: list[Run] = []
    current, slot = unknown, 0
    for instruction in spec.instructions:
        following = lines.get(slot, current)
        starts = not runs or slot in functions or (following.file, following.line) != (current.file, current.line)
        if starts:
            runs.append((following, []))
        current = following
        runs[-1][1].append((slot, instruction))
        slot += instruction.slots
    return runs


def _line(slot: int, instruction: Instruction, states: Mapping[int, str]) -> Line:
    target = next((each.slot for each in targets_of(slot, instruction) or ()), None)
    return Line(slot, format_instruction(instruction), target, states.get(slot, ""))


def _spread(operations: Sequence[PlacedOperation], places: Sequence[tuple[str, int]]) -> list[tuple[str, ...]]:
    """The operations for each run: those of its line that come next; what no run is for goes with the run before."""
    parts: list[list[str]] = [[] for _ in places]
    at = 0
    for file, number, text in operations:
        following = next((index for index in range(at, len(places)) if places[index] == (file, number)), None)
        if following is not None:
            at = following
        if parts:
            parts[at].append(text)
    return [tuple(part) for part in parts]
