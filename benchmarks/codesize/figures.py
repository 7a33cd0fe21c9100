"""All figures of one comparison, and which of them miss what is wanted."""

from collections.abc import Iterator

import attrs

from benchmarks.codesize.paths import Path, paths
from benchmarks.codesize.rivals import Pair, Rivals, slots
from benchmarks.codesize.verified import processed

# Ours over clang's, in slots.
TOTAL_WANTED, EACH_WANTED = 0.95, 1.05


@attrs.frozen
class Program:
    """One program: slots, and instructions that the verifier processed (None where it was not asked)."""

    name: str
    slots: int
    twin_slots: int
    processed: int | None
    twin_processed: int | None

    @property
    def ratio(self) -> float:
        """Ours over the twin's, in slots."""
        return self.slots / self.twin_slots


@attrs.frozen
class Figures:
    """What was measured of ours and of one clang's twins."""

    rivals: Rivals
    programs: tuple[Program, ...]
    paths: tuple[Path, ...]

    @property
    def total(self) -> Program:
        """All programs together."""
        ours, twins = sum(each.slots for each in self.programs), sum(each.twin_slots for each in self.programs)
        return Program("total", ours, twins, self._sum("processed"), self._sum("twin_processed"))

    def _sum(self, field: str) -> int | None:
        values = [getattr(each, field) for each in self.programs]
        return None if None in values else sum(values)

    def missed(self) -> Iterator[str]:
        """What is not as wanted, a line each."""
        if self.total.ratio > TOTAL_WANTED:
            yield f"total: {self.total.ratio:.3f} of the twins' slots, wanted {TOTAL_WANTED}"
        for each in self.programs:
            if each.ratio > EACH_WANTED:
                yield f"{each.name}: {each.ratio:.3f} of the twin's slots, wanted {EACH_WANTED}"
            if (each.processed or 0) > (each.twin_processed or 0):
                yield f"{each.name}: the verifier processes {each.processed}, the twin's {each.twin_processed}"
        for path in self.paths:
            if path.ours > path.twin:
                yield f"{path.program}, {path.name}: {path.ours} instructions run, the twin's {path.twin}"


def measured(pair: Pair, *, kernel: bool) -> Figures:
    """Measure; `kernel` says whether to ask the running kernel's verifier, which needs root."""
    maps = pair.ours.maps
    ours = processed(pair.ours.programs, maps) if kernel else {}
    twins = processed(pair.twins, maps) if kernel else {}
    programs = tuple(
        Program(name, slots(spec), slots(pair.twins[name]), ours.get(name), twins.get(name))
        for name, spec in sorted(pair.ours.programs.items())
        if name in pair.twins  # those at devices have none
    )
    return Figures(pair.rivals, programs, tuple(paths(pair)))
