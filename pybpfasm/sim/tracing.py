"""What a run did, instruction by instruction."""

from collections.abc import Callable, Mapping

import attrs

from pybpfasm.isa import Instruction


@attrs.frozen
class TraceEntry:
    """An instruction that ran: where, and which registers it changed, to what (None: they have no value any more)."""

    program: str
    slot: int
    instruction: Instruction | None
    changed: Mapping[int, int | None]

    def __str__(self) -> str:
        changes = ", ".join(
            f"r{register} = {'unset' if value is None else f'{value:#x}'}" for register, value in self.changed.items()
        )
        return f"{self.slot:4}: {self.instruction}{f'  ; {changes}' if changes else ''}"


class Trace:
    """Collects entries, or hands each to a function as it comes."""

    def __init__(self, callback: Callable[[TraceEntry], None] | None = None) -> None:
        self.entries: list[TraceEntry] = []
        self._note = self.entries.append if callback is None else callback

    def note(self, entry: TraceEntry) -> None:
        """Take one entry."""
        self._note(entry)
