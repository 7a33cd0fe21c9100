"""The slots as a bar chart: SVG 1.1 without scripts or anything from outside."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.codesize.figures import Figures, Program

_WIDTH, _LEFT, _RIGHT = 720, 110, 120
_BAR, _GAP, _GROUP = 15, 3, 16
_TOP, _HEADING = 34, 30

_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}
.heading{font-weight:600}
.number{font-size:12px;fill:#57606a}
.ours{fill:#2da44e}
.clang{fill:#8c959f}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.number{fill:#9198a1}.clang{fill:#6e7781}}
"""


def chart(all_figures: Sequence[Figures]) -> str:
    """One block of bars a comparison, a pair of bars a program; lengths are comparable over the whole chart."""
    longest = max(max(each.slots, each.twin_slots) for figures in all_figures for each in figures.programs)
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    body: list[str] = []
    y = _TOP
    for figures in all_figures:
        body += [_text(10, y + 14, _title(figures), "heading")]
        y += _HEADING
        for program in figures.programs:
            body += _pair(program, y, scale)
            y += 2 * _BAR + _GAP + _GROUP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}">',
            "<title>Slots of the mesh's programs, ours and clang's</title>",
            f"<style>{_STYLE}</style>",
            *_legend(),
            *body,
            "</svg>",
            "",
        ]
    )


def _title(figures: Figures) -> str:
    total = figures.total
    return f"{figures.rivals.name}: {total.slots} and {total.twin_slots} slots in all, {total.ratio:.3f}"


def _legend() -> Iterator[str]:
    for index, name in enumerate(("ours", "clang")):
        x = 10 + 80 * index
        yield f'<rect class="{name}" x="{x}" y="10" width="12" height="12"/>'
        yield _text(x + 18, 21, name, "number")


def _pair(program: Program, y: int, scale: float) -> Iterator[str]:
    yield _text(10, y + _BAR + 4, program.name)
    for index, (name, slots) in enumerate((("ours", program.slots), ("clang", program.twin_slots))):
        top = y + index * (_BAR + _GAP)
        yield f'<rect class="{name}" x="{_LEFT}" y="{top}" width="{slots * scale:.1f}" height="{_BAR}"/>'
        ratio = f" ({program.ratio:.2f})" if name == "ours" else ""
        yield _text(_LEFT + slots * scale + 6, top + 12, f"{slots}{ratio}", "number")


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text{kind} x="{x:.1f}" y="{y}">{escape(text)}</text>'
