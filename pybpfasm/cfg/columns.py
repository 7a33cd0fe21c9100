"""Where the blocks of each row stand from left to right: near their neighbours, and apart from each other."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from pybpfasm.cfg.layers import Chain, Node

_SWEEPS = 4
_BETWEEN_BLOCKS, _BETWEEN_JOINTS = 28.0, 10.0
# How strongly an edge pulls: joints above each other make a straight line.
_JOINT_PULL, _BLOCK_PULL = 6.0, 1.0


def place_columns(rows: Sequence[list[Node]], chains: Iterable[Chain]) -> None:
    """Set `x` of each node, in CSS pixels; a function's leftmost edge is at 0."""
    for row in rows:
        settle(row, [0.0] * len(row), [1.0] * len(row))
    for _ in range(_SWEEPS):
        for row in rows[1:]:
            _pull(row, [node.above for node in row])
        for row in reversed(rows[:-1]):
            _pull(row, [node.below for node in row])
    for row in rows:
        _pull(row, [node.above + node.below for node in row])
    for chain in chains:
        _straighten(chain, rows)
    left = min((node.x - node.width / 2 for row in rows for node in row), default=0.0)
    for row in rows:
        for node in row:
            node.x -= left


def _pull(row: list[Node], neighbours: list[list[Node]]) -> None:
    wishes, weights = [], []
    for node, around in zip(row, neighbours, strict=True):
        pulls = [_JOINT_PULL if node.block is None and each.block is None else _BLOCK_PULL for each in around]
        total = sum(pulls)
        wishes.append(
            sum([each.x * pull for each, pull in zip(around, pulls, strict=True)]) / total if around else node.x
        )
        weights.append(total or 0.1)
    settle(row, wishes, weights)


def settle(row: list[Node], wishes: list[float], weights: list[float]) -> None:
    """Put each node as near to its wish as the others allow, least squares, the order kept.

    Less the room that nodes need, places only have to rise: isotonic regression, by pooling neighbours that are in
    each other's way, in one pass.
    """
    rooms = [0.0]
    for left, right in pairwise(row):
        rooms.append(rooms[-1] + apart(left, right))
    for node, room, place in zip(
        row, rooms, isotonic([w - r for w, r in zip(wishes, rooms, strict=True)], weights), strict=True
    ):
        node.x = place + room


def isotonic(wishes: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising numbers nearest to `wishes`, in weighted least squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for wish, weight in zip(wishes, weights, strict=True):
        mean, total, count = wish, weight, 1
        while pools and pools[-1][0] > mean:
            other, its_weight, its_count = pools.pop()
            mean = (mean * total + other * its_weight) / (total + its_weight)
            total += its_weight
            count += its_count
        pools.append((mean, total, count))
    return [mean for mean, _, count in pools for _ in range(count)]


def apart(left: Node, right: Node) -> float:
    """The distance that the centres of two neighbours keep."""
    gap = _BETWEEN_BLOCKS
    if left.block is None or right.block is None:
        gap = _BETWEEN_JOINTS if left.block is None and right.block is None else (_BETWEEN_BLOCKS + _BETWEEN_JOINTS) / 2
    return (left.width + right.width) / 2 + gap


def _straighten(chain: Chain, rows: Sequence[list[Node]]) -> None:
    """Put joints in as few columns as the room beside them allows."""
    run: list[Node] = []
    low, high = float("-inf"), float("inf")
    for joint in chain:
        left, right = _room(joint, rows[joint.row])
        if max(low, left) > min(high, right):
            _align(run, low, high)
            run, low, high = [], float("-inf"), float("inf")
        run.append(joint)
        low, high = max(low, left), min(high, right)
    _align(run, low, high)


def _room(node: Node, row: list[Node]) -> tuple[float, float]:
    left = row[node.place - 1] if node.place else None
    right = row[node.place + 1] if node.place + 1 < len(row) else None
    return (
        left.x + apart(left, node) if left else float("-inf"),
        right.x - apart(node, right) if right else float("inf"),
    )


def _align(run: list[Node], low: float, high: float) -> None:
    if run:
        mean = sum(joint.x for joint in run) / len(run)
        for joint in run:
            joint.x = min(max(mean, low), high)
