"""The figures as text."""

from collections.abc import Iterator

from benchmarks.codesize.figures import EACH_WANTED, TOTAL_WANTED, Figures, Program

_HEADING = f"{'':12} {'slots':>6} {'clang':>6} {'ratio':>6} {'wanted':>7}   {'verified':>8} {'clang':>6}"


def table(figures: Figures) -> str:
    """Slots and the verifier's work by program, instructions run by hot path."""
    return "\n".join([figures.rivals.name, *_programs(figures), "", *_paths(figures)])


def _programs(figures: Figures) -> Iterator[str]:
    yield _HEADING
    for each in figures.programs:
        yield _row(each, EACH_WANTED)
    yield _row(figures.total, TOTAL_WANTED)


def _row(each: Program, wanted: float) -> str:
    verified = f"{_number(each.processed):>8} {_number(each.twin_processed):>6}"
    return f"{each.name:12} {each.slots:6} {each.twin_slots:6} {each.ratio:6.3f} {wanted:7.2f}   {verified}"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _paths(figures: Figures) -> Iterator[str]:
    yield f"{'hot path':42} {'run':>5} {'clang':>6}"
    for path in figures.paths:
        mark = "" if path.ours <= path.twin else "  more"
        yield f"{path.program + ': ' + path.name:42} {path.ours:5} {path.twin:6}{mark}"
