"""How edges run: down through the rows, along tracks in the channels between them, and in lanes beside them.

      row     +---------+      +---------+
              |         |      |         |
              +--+---+--+      +----+----+
     channel     |   +--------------|------+    a track each for edges to one block
                 |                  |      |
      row     +--+------+           |      | lane

Lines cross each other, but no block; lines to different blocks never share a piece of a track or of a lane.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush

import attrs

from pybpfasm.cfg.columns import isotonic
from pybpfasm.cfg.graph import Edge, EdgeKind
from pybpfasm.cfg.layers import Node

_TRACK, _LANE = 7.0, 7.0
_CHANNEL_MARGIN, _ARROW_ROOM = 9.0, 14.0
_BETWEEN_PORTS, _BESIDE_PORTS = 9.0, 10.0
_SIDE_MARGIN = 16.0
# A line that has to move aside by less goes straight, and leans a little.
_NEARLY = 2.0

Point = tuple[float, float]
# Edges that may share their lines.
Bundle = tuple[int, EdgeKind, bool]


@attrs.define(eq=False)
class Lane:
    """A vertical line beside the blocks."""

    x: float


@attrs.define(eq=False)
class Line:
    """An edge on its way; the joints that it passes, or the lane that it takes."""

    edge: Edge
    source: Node
    target: Node
    joints: tuple[Node, ...] = ()
    lane: Lane | None = None
    leaves: float = 0.0
    enters: float = 0.0

    @property
    def bundle(self) -> Bundle:
        """What it may share lines with."""
        return bundle_of(self.edge)

    def pieces(self) -> list[tuple[int, float, float]]:
        """Its part in each channel that it crosses: the channel, the x it comes from and the x it goes to."""
        first, last = self.source.row + 1, self.target.row
        if self.lane is not None:
            return [(first, self.leaves, self.lane.x), (last, self.lane.x, self.enters)]
        columns = [self.leaves, *(joint.x for joint in self.joints), self.enters]
        return [(first + index, columns[index], columns[index + 1]) for index in range(len(columns) - 1)]


def bundle_of(edge: Edge) -> Bundle:
    """Edges of one kind to one block share lines."""
    return edge.target, edge.kind, edge.is_back


def assign_lanes(lines: Iterable[Line], x_of: Callable[[int], float]) -> int:
    """Give each bundle a lane, as few as keep them apart (interval colouring).

    `x_of` tells a lane's place by its number. Returns how many there are.
    """
    bundles: dict[Bundle, list[Line]] = defaultdict(list)
    for line in lines:
        bundles[line.bundle].append(line)
    channels = [
        [end for line in inside for end in (line.source.row + 1, line.target.row)] for inside in bundles.values()
    ]
    numbers = colour([(min(ends), max(ends)) for ends in channels], 0.5)
    for inside, number in zip(bundles.values(), numbers, strict=True):
        lane = Lane(x_of(number))
        for line in inside:
            line.lane = lane
    return max(numbers, default=-1) + 1


def colour(intervals: Sequence[tuple[float, float]], gap: float) -> list[int]:
    """A number for each interval, the lowest that no other within `gap` of it has."""
    numbers = [0] * len(intervals)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for index in sorted(range(len(intervals)), key=lambda each: intervals[each]):
        start, end = intervals[index]
        while busy and busy[0][0] + gap <= start:
            heappush(free, heappop(busy)[1])
        if free:
            numbers[index] = heappop(free)
        else:
            numbers[index] = used
            used += 1
        heappush(busy, (end, numbers[index]))
    return numbers


def lane_x(edge_of_blocks: float, side: int) -> Callable[[int], float]:
    """Where lanes lie: to the left (side -1) or right (1) of `edge_of_blocks`."""
    return lambda number: edge_of_blocks + side * (_SIDE_MARGIN + number * _LANE)


def assign_ports(lines: Sequence[Line]) -> None:
    """Where each line leaves its block and enters the other: in the order of where it goes to, or comes from."""
    leaving: dict[Node, list[Line]] = defaultdict(list)
    entering: dict[Node, dict[Bundle, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        leaving[line.source].append(line)
        entering[line.target][line.bundle].append(line)
    for node, out in leaving.items():
        _leave(node, out)
    columns: dict[int, set[int]] = defaultdict(set)
    for line in lines:
        columns[line.source.row].add(round(line.leaves))
    for node, bundles in entering.items():
        _enter(node, list(bundles.values()), columns[node.row - 1])


def _leave(node: Node, lines: list[Line]) -> None:
    """Ports spread evenly, lines that share their way share one."""
    ways: dict[object, list[Line]] = defaultdict(list)
    for line in lines:
        ways[line.lane or line].append(line)
    ordered = sorted(ways.values(), key=lambda way: _next_column(way[0]))
    for number, way in enumerate(ordered, start=1):
        for line in way:
            line.leaves = node.x - node.width / 2 + node.width * number / (len(ordered) + 1)


def _next_column(line: Line) -> float:
    if line.lane is not None:
        return line.lane.x
    return line.joints[0].x if line.joints else line.target.x


def _enter(node: Node, bundles: list[list[Line]], columns: set[int]) -> None:
    """Ports straight below where bundles come from, as far as there is room.

    `columns` are where lines leave the row above: a port below one of them must be its own, or lines would meet.
    """
    origins = [_last_column(lines) for lines in bundles]
    order = sorted(range(len(bundles)), key=lambda index: origins[index])
    half = max(node.width / 2 - _BESIDE_PORTS, 0.0)
    step = min(_BETWEEN_PORTS, 2 * half / max(len(order) - 1, 1))
    wishes = [min(max(origins[index], node.x - half), node.x + half) - rank * step for rank, index in enumerate(order)]
    highest = node.x + half - step * (len(order) - 1)
    for rank, (index, place) in enumerate(zip(order, isotonic(wishes, [1.0] * len(wishes)), strict=True)):
        x = min(max(place, node.x - half), highest) + rank * step
        own = origins[index]
        if abs(x - own) > 0.01:
            x = next((x + by for by in (0, 4, -4, 2, -2) if not {round(x + by) + d for d in (-1, 0, 1)} & columns), x)
        for line in bundles[index]:
            line.enters = x


def _last_column(lines: list[Line]) -> float:
    """Where the lines of a bundle come from, in the row above or beside it."""
    first = lines[0]
    if first.lane is not None:
        return first.lane.x
    if any(line.joints for line in lines):
        return next(line.joints[-1].x for line in lines if line.joints)
    return sum(line.leaves for line in lines) / len(lines)


@attrs.frozen
class Channels:
    """The tracks of each channel: their number, and which one a bundle has."""

    counts: Mapping[int, int]
    tracks: Mapping[tuple[int, Bundle], int]

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Channels":
        """Tracks for all pieces that do not go straight down."""
        spans: dict[int, dict[Bundle, tuple[float, float]]] = defaultdict(dict)
        for line in lines:
            for channel, start, end in line.pieces():
                if abs(start - end) <= _NEARLY:
                    continue
                low, high = spans[channel].get(line.bundle, (start, start))
                spans[channel][line.bundle] = min(low, start, end), max(high, start, end)
        counts: dict[int, int] = {}
        tracks: dict[tuple[int, Bundle], int] = {}
        for channel, bundles in spans.items():
            numbers = colour(list(bundles.values()), _BETWEEN_PORTS)
            counts[channel] = max(numbers) + 1
            tracks.update(((channel, bundle), number) for bundle, number in zip(bundles, numbers, strict=True))
        return cls(counts, tracks)

    def height(self, channel: int) -> float:
        """The height that a channel needs, the room for arrow heads included."""
        return _CHANNEL_MARGIN + max(self.counts.get(channel, 0) - 1, 0) * _TRACK + _CHANNEL_MARGIN + _ARROW_ROOM

    def y(self, channel: int, bundle: Bundle, top: float) -> float:
        """Where a bundle's track lies in a channel that begins at `top`."""
        return top + _CHANNEL_MARGIN + self.tracks.get((channel, bundle), 0) * _TRACK


def points_of(line: Line, channels: Channels, channel_tops: Sequence[float], tops: Sequence[float]) -> list[Point]:
    """The corners of a line, from the block that it leaves to the one that it enters; `tops` are the rows'."""
    points: list[Point] = [(line.leaves, tops[line.source.row] + line.source.height)]
    for channel, start, end in line.pieces():
        if abs(start - end) > _NEARLY:
            y = channels.y(channel, line.bundle, channel_tops[channel])
            points += [(start, y), (end, y)]
    points.append((line.enters, tops[line.target.row]))
    return points
