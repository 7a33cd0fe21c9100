"""Which row each block is drawn in, and in which order the blocks of a row stand.

Rows come from the longest path (Sugiyama's first step), orders from the barycentres of neighbours in the rows above and
below (the second). An edge that passes a row has a joint there; edges of one kind to one block share their joints.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import attrs

from pybpfasm.cfg.graph import JUMPS, Edge, EdgeKind, Function

# An edge that passes more rows than this runs beside the blocks instead of between them.
_LONGEST_CHAIN = 8
_SWEEPS = 4


@attrs.define(eq=False)
class Node:
    """A block in its row, or, where `block` is None, a joint of edges that pass the row. `x` is the centre's."""

    block: int | None
    width: float
    height: float = 0.0
    row: int = 0
    place: int = 0
    x: float = 0.0
    above: list["Node"] = attrs.Factory(list)
    below: list["Node"] = attrs.Factory(list)


Chain = tuple[Node, ...]


@attrs.frozen
class Layers:
    """The rows of one function.

    `chains` holds the joints of edges that pass rows, by target and kind, the uppermost first. `beside` are the edges
    of the function that are led around it: they close a loop or are long.
    """

    rows: list[list[Node]]
    chains: Mapping[tuple[int, EdgeKind], Chain]
    beside: frozenset[Edge]


def layers_of(function: Function, edges: Iterable[Edge], nodes: Mapping[int, Node], joint_width: float) -> Layers:
    """Give each node of the function its row and place; `edges` are those within the function."""
    jumps = [edge for edge in edges if edge.kind in JUMPS]
    forward = [edge for edge in jumps if not edge.is_back]
    _rank(function, forward, nodes)
    long = {edge for edge in forward if nodes[edge.target].row - nodes[edge.source].row > _LONGEST_CHAIN}
    rows: list[list[Node]] = [[] for _ in range(1 + max(nodes[start].row for start in function.blocks))]
    for start in function.blocks:
        rows[nodes[start].row].append(nodes[start])
    chains = _connect([edge for edge in forward if edge not in long], nodes, rows, joint_width)
    _order(rows)
    return Layers(rows, chains, frozenset(long.union(edge for edge in jumps if edge.is_back)))


def _rank(function: Function, forward: list[Edge], nodes: Mapping[int, Node]) -> None:
    """A node's row is one below the lowest of those that lead to it (Kahn's order, so that each is seen once)."""
    leaving: dict[int, list[int]] = {start: [] for start in function.blocks}
    entering = dict.fromkeys(function.blocks, 0)
    for edge in forward:
        leaving[edge.source].append(edge.target)
        entering[edge.target] += 1
    ready = [start for start in function.blocks if not entering[start]]
    for start in ready:  # grows while it is walked
        for target in leaving[start]:
            nodes[target].row = max(nodes[target].row, nodes[start].row + 1)
            entering[target] -= 1
            if not entering[target]:
                ready.append(target)


def _connect(
    forward: list[Edge], nodes: Mapping[int, Node], rows: list[list[Node]], joint_width: float
) -> dict[tuple[int, EdgeKind], Chain]:
    """Tie nodes of neighbouring rows together, with joints in the rows between."""
    first_row: dict[tuple[int, EdgeKind], int] = {}
    for edge in forward:
        key = edge.target, edge.kind
        first_row[key] = min(first_row.get(key, nodes[edge.target].row), nodes[edge.source].row + 1)
    chains = {
        (target, kind): tuple(Node(None, joint_width, row=row) for row in range(first, nodes[target].row))
        for (target, kind), first in first_row.items()
    }
    for (target, _), chain in chains.items():
        for upper, lower in pairwise((*chain, nodes[target])):
            rows[upper.row].append(upper)
            _tie(upper, lower)
    for edge in forward:
        joints = joints_of(edge, nodes, chains)
        _tie(nodes[edge.source], joints[0] if joints else nodes[edge.target])
    return chains


def joints_of(edge: Edge, nodes: Mapping[int, Node], chains: Mapping[tuple[int, EdgeKind], Chain]) -> Chain:
    """The joints that an edge passes, the uppermost first."""
    passed = nodes[edge.target].row - nodes[edge.source].row - 1
    return chains[edge.target, edge.kind][-passed:] if passed > 0 else ()


def _tie(upper: Node, lower: Node) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _order(rows: list[list[Node]]) -> None:
    """Sort each row by its neighbours' places, downwards and upwards in turn; the last pass goes downwards."""
    for row in rows:
        _number(row)
    for sweep in range(_SWEEPS):
        for row in rows[1:]:
            row.sort(key=lambda node: _barycentre(node.above, node.place))
            _number(row)
        if sweep < _SWEEPS - 1:
            for row in reversed(rows[:-1]):
                row.sort(key=lambda node: _barycentre(node.below, node.place))
                _number(row)


def _number(row: list[Node]) -> None:
    for place, node in enumerate(row):
        node.place = place


def _barycentre(neighbours: list[Node], otherwise: int) -> float:
    if not neighbours:
        return otherwise
    return sum([node.place for node in neighbours]) / len(neighbours)
