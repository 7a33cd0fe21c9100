"""The figures as a bar chart: each beside what is wanted of it. SVG 1.1 without scripts or anything from outside."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.agent.figure import Figure

_WIDTH, _LEFT, _UNIT = 760, 280, 240
_ROW, _BAR, _TOP = 26, 14, 44
_LONGEST = 1.6  # times what is wanted

_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}
.number{font-size:12px;fill:#57606a}
.kept{fill:#2da44e}
.missed{fill:#cf222e}
.wanted{stroke:#57606a;stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.number{fill:#9198a1}.wanted{stroke:#9198a1}}
"""


def chart(title: str, figures: Sequence[Figure]) -> str:
    """A bar for each figure of which something is wanted; the line is what is wanted."""
    rows = [each for each in figures if each.wanted is not None]
    height = _TOP + _ROW * len(rows) + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<text x="10" y="20">{escape(title)}</text>',
            *(line for number, each in enumerate(rows) for line in _row(each, _TOP + _ROW * number)),
            f'<line class="wanted" x1="{_LEFT + _UNIT}" x2="{_LEFT + _UNIT}" y1="{_TOP - 12}" y2="{height - 8}"/>',
            f'<text class="number" x="{_LEFT + _UNIT - 30}" y="{_TOP - 16}">wanted</text>',
            "</svg>",
            "",
        ]
    )


def _row(figure: Figure, y: int) -> Iterator[str]:
    assert figure.wanted is not None  # noqa: S101
    part = figure.value / figure.wanted
    kind = "kept" if part <= 1 else "missed"
    length = min(part, _LONGEST) * _UNIT
    yield f'<text x="10" y="{y + 12}">{escape(figure.name)}</text>'
    yield f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}"/>'
    text = f"{figure.value:.1f} of {figure.wanted:g} {figure.unit}"
    yield f'<text class="number" x="{_LEFT + length + 6:.1f}" y="{y + 12}">{escape(text)}</text>'
