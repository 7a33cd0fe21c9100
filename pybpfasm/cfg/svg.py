"""A graph drawn as SVG 1.1, one document without scripts or anything from outside."""

from collections.abc import Iterator
from math import hypot
from xml.sax.saxutils import escape, quoteattr

from pybpfasm.cfg.drawing import Box, Drawing, lay_out
from pybpfasm.cfg.graph import Block, ControlFlowGraph, Edge, EdgeKind
from pybpfasm.cfg.routes import Point
from pybpfasm.cfg.targets import is_conditional
from pybpfasm.cfg.text import heading_of, lines_of
from pybpfasm.isa import Syntax

# The widest of the usual monospaced fonts have 0.602 em a character.
_FONT_SIZE, _CHARACTER, _LINE = 12, 7.23, 16.0
_PADDING_X, _PADDING_Y = 10.0, 6.0
_CORNER = 5.0
_HEADING_CHARACTER = 9.0

_NOTE = "unreachable"

# Colours of lines are legible on white and on black; blocks bring their own background.
_COLOURS = {"taken": "#2da44e", "next": "#848d97", "not-taken": "#e5534b", "call": "#4c8dff"}
_STYLE = """
.frame{fill:#8b949e;fill-opacity:.07;stroke:#8b949e;stroke-opacity:.45}
.heading{font:600 13px system-ui,sans-serif;fill:#7a828e}
.block rect{fill:#fbfcfe;stroke:#6e7781}
.block text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1f2328}
.block .slot{fill:#818b98}
.unreachable rect{stroke:#e5534b;stroke-dasharray:5 3}
.unreachable text{fill:#6e7781}
.unreachable .note{fill:#e5534b}
.edge{fill:none;stroke-width:1.4}
.back{stroke-dasharray:6 3}
.call,.callback{stroke-dasharray:2 3}
@media (prefers-color-scheme:dark){
.block rect{fill:#161b22;stroke:#8b949e}.block text{fill:#e6edf3}.unreachable text{fill:#9198a1}
.unreachable rect{stroke:#e5534b}.unreachable .note{fill:#e5534b}}
"""


def to_svg(graph: ControlFlowGraph, syntax: Syntax) -> str:
    """The drawing: functions below each other, taken jumps green, where they are not taken red, loops dashed."""
    texts = {start: lines_of(block, syntax) for start, block in graph.blocks.items()}
    notes = {start: [] if block.is_reachable else [_NOTE] for start, block in graph.blocks.items()}
    headings = {function.start: len(heading_of(function)) * _HEADING_CHARACTER for function in graph.functions}
    drawing = lay_out(graph, {start: _size(lines + notes[start]) for start, lines in texts.items()}, headings)
    body = [*_frames(graph, drawing), *_edges(graph, drawing)]
    for start, block in graph.blocks.items():
        body += _block(block, drawing.blocks[start], texts[start])
    width, height = max(drawing.width, 200.0), max(drawing.height, 40.0)
    size = f'width="{_number(width)}" height="{_number(height)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_number(width)} {_number(height)}">',
            f"<title>control-flow graph: {len(graph.blocks)} blocks, {len(graph.edges)} edges</title>",
            f"<style>{_STYLE}</style>",
            _markers(),
            *body,
            "</svg>",
            "",
        ]
    )


def _size(lines: list[str]) -> tuple[float, float]:
    return max(map(len, lines)) * _CHARACTER + 2 * _PADDING_X, len(lines) * _LINE + 2 * _PADDING_Y


def _markers() -> str:
    heads = "".join(
        f'<marker id="head-{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{colour}"/></marker>'
        for name, colour in _COLOURS.items()
    )
    return f"<defs>{heads}</defs>"


def _frames(graph: ControlFlowGraph, drawing: Drawing) -> Iterator[str]:
    for function in graph.functions:
        box = drawing.frames[function.start]
        yield f'<rect class="frame" {_place(box)} rx="8"/>'
        place = f'x="{_number(box.x + 12)}" y="{_number(box.y + 20)}"'
        yield f'<text class="heading" {place}>{escape(heading_of(function))}</text>'


def _edges(graph: ControlFlowGraph, drawing: Drawing) -> Iterator[str]:
    for edge in graph.edges:
        colour = _colour(graph, edge)
        classes = f"edge {edge.kind.value}{' back' if edge.is_back else ''}"
        yield (
            f'<path class="{classes}" data-from="{edge.source}" data-to="{edge.target}" stroke="{_COLOURS[colour]}" '
            f'marker-end="url(#head-{colour})" d="{_path(drawing.edges[edge])}"/>'
        )


def _colour(graph: ControlFlowGraph, edge: Edge) -> str:
    if edge.kind is EdgeKind.TAKEN:
        return "taken"
    if edge.kind is EdgeKind.FALL_THROUGH:
        return "not-taken" if is_conditional(graph.blocks[edge.source].instructions[-1]) else "next"
    return "call"


def _block(block: Block, box: Box, lines: list[str]) -> Iterator[str]:
    classes = "block" if block.is_reachable else "block unreachable"
    yield f'<g class="{classes}" id="block-{block.start}">'
    yield f'<rect {_place(box)} rx="4"/>'
    for number, line in enumerate(lines, start=1):
        slot, rest = line[:4].replace(" ", "\u00a0"), line[4:]
        y = box.y + _PADDING_Y + number * _LINE - 4
        yield (
            f'<text x="{_number(box.x + _PADDING_X)}" y="{_number(y)}" xml:space="preserve">'
            f'<tspan class="slot">{slot}</tspan>{escape(rest)}</text>'
        )
    if not block.is_reachable:
        x, y = box.x + _PADDING_X, box.y + box.height - _PADDING_Y - 4
        yield f'<text class="note" x="{_number(x)}" y="{_number(y)}">{_NOTE}</text>'
    yield "</g>"


def _place(box: Box) -> str:
    sides = ("x", box.x), ("y", box.y), ("width", box.width), ("height", box.height)
    return " ".join(f"{name}={quoteattr(_number(value))}" for name, value in sides)


def _path(points: tuple[Point, ...]) -> str:
    """Straight lines with rounded corners."""
    parts = [f"M{_point(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(_CORNER, _length(before, corner) / 2, _length(corner, after) / 2)
        if radius > 0:
            start, end = _towards(corner, before, radius), _towards(corner, after, radius)
            parts.append(f"L{_point(start)} Q{_point(corner)} {_point(end)}")
    parts.append(f"L{_point(points[-1])}")
    return " ".join(parts)


def _length(one: Point, other: Point) -> float:
    return hypot(other[0] - one[0], other[1] - one[1])


def _towards(start: Point, goal: Point, distance: float) -> Point:
    share = distance / _length(start, goal)
    return start[0] + (goal[0] - start[0]) * share, start[1] + (goal[1] - start[1]) * share


def _point(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
