"""A graph laid out: where each block stands and each edge runs. Lengths are CSS pixels, y grows downwards."""

from collections.abc import Mapping

import attrs

from pybpfasm.cfg.columns import place_columns
from pybpfasm.cfg.graph import JUMPS, ControlFlowGraph, Edge, Function
from pybpfasm.cfg.layers import Node, joints_of, layers_of
from pybpfasm.cfg.routes import Channels, Lane, Line, Point, assign_lanes, assign_ports, lane_x, points_of

_JOINT_WIDTH = 2.0
_MARGIN = 16.0
_FRAME_PADDING = 14.0
_HEADING_HEIGHT = 22.0
_BETWEEN_FUNCTIONS = 18.0


@attrs.frozen
class Box:
    """A rectangle: its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float


@attrs.frozen
class Drawing:
    """Boxes of blocks by the slots where they start, frames of functions likewise, and the corners of edges."""

    width: float
    height: float
    blocks: Mapping[int, Box]
    frames: Mapping[int, Box]
    edges: Mapping[Edge, tuple[Point, ...]]


def lay_out(
    graph: ControlFlowGraph, sizes: Mapping[int, tuple[float, float]], headings: Mapping[int, float]
) -> Drawing:
    """Place blocks of these sizes (width, height), functions below each other, in the order of the program.

    `headings` are the widths of the functions' headings, by where the functions start.
    Time is about that of sorting: a block has few edges, and only short edges have joints.
    """
    nodes = {start: Node(start, width, height) for start, (width, height) in sizes.items()}
    within, between = _by_function(graph)
    parts = [_Part(function, within[function.start], nodes, headings[function.start]) for function in graph.functions]
    rows: list[list[Node]] = []
    for part in parts:
        part.number_rows(len(rows) + 1)  # after a row of its own for the heading
        rows += [[], *part.layers.rows]
    right = max((part.right for part in parts), default=0.0)
    calls = [Line(edge, nodes[edge.source], nodes[edge.target]) for edge in between]
    outer_lanes = assign_lanes(calls, lane_x(right, 1))
    lines = [line for part in parts for line in part.lines] + calls
    assign_ports(lines)
    channels = Channels.of(lines)
    channel_tops, tops, bottom = _stack(rows, channels)
    return Drawing(
        right + (lane_x(0.0, 1)(outer_lanes) if outer_lanes else 0.0) + _MARGIN,
        bottom + _MARGIN,
        {start: Box(n.x - n.width / 2, tops[n.row], n.width, n.height) for start, n in nodes.items()},
        {part.start: part.frame(tops) for part in parts},
        {line.edge: tuple(points_of(line, channels, channel_tops, tops)) for line in lines},
    )


def _by_function(graph: ControlFlowGraph) -> tuple[dict[int, list[Edge]], list[Edge]]:
    """Jumps within each function, and what leads from one to another: calls, callbacks, stray jumps."""
    owner = {start: function.start for function in graph.functions for start in function.blocks}
    within: dict[int, list[Edge]] = {function.start: [] for function in graph.functions}
    between = []
    for edge in graph.edges:
        if edge.kind in JUMPS and owner[edge.source] == owner[edge.target]:
            within[owner[edge.source]].append(edge)
        else:
            between.append(edge)
    return within, between


class _Part:
    """One function of the drawing: its rows and the lanes on both sides."""

    def __init__(self, function: Function, edges: list[Edge], nodes: Mapping[int, Node], heading: float) -> None:
        self.start = function.start
        self.layers = layers_of(function, edges, nodes, _JOINT_WIDTH)
        place_columns(self.layers.rows, self.layers.chains.values())
        self.lines = [Line(edge, nodes[edge.source], nodes[edge.target]) for edge in edges]
        self._set_ways(nodes)
        width = max((node.x + node.width / 2 for row in self.layers.rows for node in row), default=0.0)
        beside = [line for line in self.lines if line.edge in self.layers.beside]
        back = [line for line in beside if line.edge.is_back]
        left_lanes = assign_lanes(back, lane_x(0.0, -1))
        right_lanes = assign_lanes([line for line in beside if not line.edge.is_back], lane_x(width, 1))
        self.left = _MARGIN
        self._shift(self.left + _FRAME_PADDING + (-lane_x(0.0, -1)(left_lanes - 1) if left_lanes else 0.0))
        content_right = lane_x(width, 1)(right_lanes - 1) if right_lanes else width
        self.right = max(content_right + self._shifted, self.left + heading) + _FRAME_PADDING

    def number_rows(self, first: int) -> None:
        """Count the rows on from those of the functions before; nodes and joints know theirs."""
        self._first = first
        for row in self.layers.rows:
            for node in row:
                node.row += first

    def frame(self, tops: list[float]) -> Box:
        """The rectangle around the function, heading and lanes included."""
        top = tops[self._first - 1]
        bottom = tops[self._first + len(self.layers.rows)] - _BETWEEN_FUNCTIONS
        return Box(self.left, top, self.right - self.left, bottom - top)

    def _set_ways(self, nodes: Mapping[int, Node]) -> None:
        for line in self.lines:
            if line.edge not in self.layers.beside:
                line.joints = joints_of(line.edge, nodes, self.layers.chains)

    def _shift(self, by: float) -> None:
        self._shifted = by
        lanes: set[Lane] = {line.lane for line in self.lines if line.lane is not None}
        for lane in lanes:
            lane.x += by
        for row in self.layers.rows:
            for node in row:
                node.x += by


def _stack(rows: list[list[Node]], channels: Channels) -> tuple[list[float], list[float], float]:
    """The tops of channels and of rows; a row without blocks is a function's heading, or the end."""
    channel_tops, tops = [], []
    y = _MARGIN - channels.height(0)
    for index, row in enumerate([*rows, []]):
        channel_tops.append(y)
        y += channels.height(index)
        if not row and index:
            y += _BETWEEN_FUNCTIONS
        tops.append(y)
        y += max((node.height for node in row), default=_HEADING_HEIGHT)
    return channel_tops, tops, tops[-1] - _BETWEEN_FUNCTIONS
