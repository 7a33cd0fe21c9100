"""Which instructions ran, which ways of each conditional jump were taken, and what that says of the source."""

from bisect import bisect_right
from collections.abc import Iterable

import attrs

from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import CALL, CALL_REGISTER, EXIT, JA, JA_LONG, JA_REGISTER, Class
from pybpfasm.spec import SourceLine

# Bits of an edge: the jump went to its target, or went on with the next instruction.
TAKEN = 1
NOT_TAKEN = 2

_NEVER_RAN = "never ran"
_MISSING = {TAKEN: "never fell through", NOT_TAKEN: "never taken"}
_UNCONDITIONAL = frozenset((CALL, CALL_REGISTER, EXIT, JA, JA_LONG, JA_REGISTER))


def source_line(lines: tuple[SourceLine, ...], slot: int) -> SourceLine | None:
    """The source line of a slot: the last that begins at or before it."""
    index = bisect_right(lines, slot, key=lambda line: line.slot)
    return lines[index - 1] if index else None


@attrs.frozen
class Missing:
    """Something that no run did: `what` is "never ran", "never taken" or "never fell through"."""

    slot: int
    instruction: str
    what: str
    line: SourceLine | None = None

    def __str__(self) -> str:
        where = f" ({self.line.file}:{self.line.line}: {self.line.text.strip()})" if self.line else ""
        return f"slot {self.slot}, {self.instruction}{where}: {self.what}"


@attrs.frozen
class Coverage:
    """What one or several runs of one program covered.

    `slots` are the first slots of the instructions that ran. `edges` has, for the slot of each conditional jump that
    ran, whether it was taken: {True}, {False} or both.
    """

    program: str
    instructions: tuple[Instruction, ...] = attrs.field(repr=False)
    lines: tuple[SourceLine, ...] = attrs.field(repr=False)
    slots: frozenset[int]
    edges: dict[int, frozenset[bool]]

    @classmethod
    def measured(
        cls,
        program: str,
        instructions: tuple[Instruction, ...],
        lines: tuple[SourceLine, ...],
        seen: bytearray,
        edges: bytearray,
    ) -> "Coverage":
        """What a machine noted: a byte a slot, and the bits of its edges."""
        ways = {
            slot: frozenset(taken for bit, taken in ((TAKEN, True), (NOT_TAKEN, False)) if bits & bit)
            for slot, bits in enumerate(edges)
            if bits
        }
        slots = frozenset(slot for slot, ran in enumerate(seen) if ran and slot < len(seen) - 1)
        return cls(program, instructions, lines, slots, ways)

    def __or__(self, other: "Coverage") -> "Coverage":
        """What both covered together. Raises `ValueError` for two different programs."""
        if self.instructions != other.instructions:
            raise ValueError(f"coverage of {self.program} and of {other.program}: they are not the same program")
        keys = self.edges.keys() | other.edges.keys()
        none: frozenset[bool] = frozenset()
        edges = {slot: self.edges.get(slot, none) | other.edges.get(slot, none) for slot in sorted(keys)}
        return attrs.evolve(self, slots=self.slots | other.slots, edges=edges)

    @classmethod
    def merged(cls, coverages: "Iterable[Coverage]") -> "Coverage":
        """What several runs of one program covered together; there must be one at least."""
        first, *others = coverages
        for each in others:
            first |= each
        return first

    @property
    def covered_lines(self) -> frozenset[tuple[str, int]]:
        """The source lines, by file and number, of which some instruction ran."""
        found = (source_line(self.lines, slot) for slot in self.slots)
        return frozenset((line.file, line.line) for line in found if line is not None)

    @property
    def missing_lines(self) -> frozenset[tuple[str, int]]:
        """The source lines, by file and number, of which no instruction ran."""
        return frozenset((line.file, line.line) for line in self.lines) - self.covered_lines

    def missing(self) -> list[Missing]:
        """What was not covered: instructions that never ran, and ways that a conditional jump never went."""
        found = []
        slot = 0
        for instruction in self.instructions:
            if slot not in self.slots:
                found.append(self._missing(slot, instruction, _NEVER_RAN))
            elif is_conditional(instruction) and len(self.edges.get(slot, ())) == 1:
                (taken,) = self.edges[slot]
                found.append(self._missing(slot, instruction, _MISSING[TAKEN if taken else NOT_TAKEN]))
            slot += instruction.slots
        return found

    def __str__(self) -> str:
        count = len(self.instructions)
        return f"{self.program}: {len(self.slots)} of {count} instructions, {len(self.missing())} things missing"

    def _missing(self, slot: int, instruction: Instruction, what: str) -> Missing:
        return Missing(slot, str(instruction), what, source_line(self.lines, slot))


def is_conditional(instruction: Instruction) -> bool:
    """Whether an instruction is a jump that may or may not be taken."""
    opcode = instruction.opcode
    return opcode & 7 in (Class.JMP, Class.JMP32) and opcode not in _UNCONDITIONAL
