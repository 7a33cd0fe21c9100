"""Graphs as pictures: all is drawn, nothing lies over anything else."""

import xml.etree.ElementTree as ET
from itertools import pairwise
from time import process_time

import pytest
from graphs import EVERYTHING, graph_of, ladder, programs
from hypothesis import given, settings

from pybpfasm.cfg import ControlFlowGraph
from pybpfasm.cfg.drawing import Box, Drawing, lay_out
from pybpfasm.cfg.routes import Point
from pybpfasm.isa import Instruction, load_map, parse

SVG = "{http://www.w3.org/2000/svg}"


def drawing_of(graph: ControlFlowGraph) -> Drawing:
    """The graph laid out, blocks as wide and high as their contents."""
    sizes = {
        start: (90.0 + 30 * (start % 7), 28.0 + 16 * len(block.instructions)) for start, block in graph.blocks.items()
    }
    return lay_out(graph, sizes, {function.start: 120.0 for function in graph.functions})


def overlap(one: Box, other: Box) -> bool:
    """Whether two rectangles have more than an edge in common."""
    across = one.x < other.x + other.width and other.x < one.x + one.width
    return across and one.y < other.y + other.height and other.y < one.y + one.height


def crosses(box: Box, start: Point, end: Point) -> bool:
    """Whether a line, level or upright but for two pixels, goes through the inside of a rectangle."""
    inside = Box(box.x + 2, box.y + 1, box.width - 4, box.height - 2)
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    across = left < inside.x + inside.width and right > inside.x
    return across and top < inside.y + inside.height and bottom > inside.y


def check(graph: ControlFlowGraph, drawing: Drawing) -> None:
    """Boxes apart, within their frame and the picture; lines from box to box, around all others."""
    boxes = list(drawing.blocks.values())
    assert list(drawing.blocks) == list(graph.blocks)
    assert not any(overlap(box, other) for index, box in enumerate(boxes) for other in boxes[:index])
    frames = list(drawing.frames.values())
    assert not any(overlap(frame, other) for index, frame in enumerate(frames) for other in frames[:index])
    for function in graph.functions:
        frame = drawing.frames[function.start]
        for start in function.blocks:
            box = drawing.blocks[start]
            assert frame.x <= box.x
            assert box.x + box.width <= frame.x + frame.width
            assert frame.y <= box.y
            assert box.y + box.height <= frame.y + frame.height
    assert set(drawing.edges) == set(graph.edges)
    for edge, points in drawing.edges.items():
        source, target = drawing.blocks[edge.source], drawing.blocks[edge.target]
        assert points[0][1] == source.y + source.height
        assert points[-1][1] == target.y
        assert source.x <= points[0][0] <= source.x + source.width
        assert target.x <= points[-1][0] <= target.x + target.width
        assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in points)
        assert points[-2][1] < points[-1][1], "the arrow enters from above"
        assert not any(crosses(box, *piece) for piece in pairwise(points) for box in boxes)


def test_a_program_with_everything() -> None:
    """Loops, calls, callbacks and dead code find their place."""
    graph = graph_of(EVERYTHING)
    check(graph, drawing_of(graph))


@given(programs())
@settings(max_examples=200, deadline=None)
def test_any_program(instructions: list[Instruction]) -> None:
    """Whatever the jumps are, nothing overlaps and all is drawn."""
    graph = ControlFlowGraph.of(instructions)
    check(graph, drawing_of(graph))


@pytest.mark.parametrize("reach", [1, 3, 12, 40])
def test_jumps_of_any_length(reach: int) -> None:
    """Short jumps go between the blocks, long ones beside them."""
    graph = ControlFlowGraph.of(ladder(60, reach))
    check(graph, drawing_of(graph))


def test_a_line_keeps_to_its_own() -> None:
    """In a channel, lines to different blocks have different tracks, unless they are apart."""
    graph = ControlFlowGraph.of(ladder(60, 3))
    level: dict[float, list[tuple[float, float, object]]] = {}
    for edge, points in drawing_of(graph).edges.items():
        for (x1, y1), (x2, y2) in pairwise(points):
            if y1 == y2:
                level.setdefault(y1, []).append((min(x1, x2), max(x1, x2), (edge.target, edge.kind, edge.is_back)))
    for pieces in level.values():
        for index, (left, right, bundle) in enumerate(pieces):
            assert all(other == bundle or right < low or high < left for low, high, other in pieces[:index])


def test_the_svg_has_every_block_and_edge() -> None:
    """The document parses; blocks carry their slots, edges where they come from and lead to, text is all there."""
    graph = graph_of(EVERYTHING)
    root = ET.fromstring(graph.to_svg())  # noqa: S314 - our own document
    blocks = [each for each in root.iter(f"{SVG}g") if each.get("class", "").startswith("block")]
    assert [each.get("id") for each in blocks] == [f"block-{start}" for start in graph.blocks]
    drawn = [(each.get("data-from"), each.get("data-to")) for each in root.iter(f"{SVG}path") if each.get("data-from")]
    assert sorted(drawn) == sorted((str(edge.source), str(edge.target)) for edge in graph.edges)
    assert sum("back" in each.get("class", "").split() for each in root.iter(f"{SVG}path")) == 3
    text = "\n".join("".join(each.itertext()) for each in root.iter(f"{SVG}text"))
    assert "r2 = subprog[+16]" in text
    assert text.count("unreachable") == 2


def test_text_cannot_break_the_document() -> None:
    """Names with markup, quotes, control characters and endless ones are escaped, replaced, cut."""
    names = ['<script>&"x"</script>', "a\x00b\x1b[31m", "\ud800", "n" * 5000]
    instructions = [load_map(1, name) for name in names]
    graph = ControlFlowGraph.of([*instructions, *parse("exit")], {0: '</svg>"\\'})
    svg = graph.to_svg()
    root = ET.fromstring(svg)  # noqa: S314 - our own document
    texts = ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
    assert any(r'map["<script>&\x22x\x22<\x2fscript>"]' in each for each in texts)
    assert not any("\x1b" in each for each in texts)
    assert max(map(len, texts)) < 120
    dot = graph.to_dot()
    assert r'label="</svg>\"\\ · slot 0"' in dot
    assert "\x1b" not in dot


def test_no_blocks_no_picture() -> None:
    """An empty graph is an empty document."""
    assert ET.fromstring(ControlFlowGraph.of([]).to_svg()).tag == f"{SVG}svg"  # noqa: S314 - our own document


def test_the_llvm_syntax() -> None:
    """The instructions' text is in the syntax asked for."""
    assert "r0 = 0x1" in graph_of("r0 = 1\nexit").to_svg(syntax="llvm")
    assert "r0 = 0x1" in graph_of("r0 = 1\nexit").to_dot(syntax="llvm")


def test_dot_has_every_block_and_edge() -> None:
    """Each block is a node in its function's cluster, each edge an edge; loops do not constrain the layout."""
    graph = graph_of(EVERYTHING)
    dot = graph.to_dot()
    assert dot.count(" -> ") == len(graph.edges)
    assert dot.count("[label=") == len(graph.blocks)
    assert dot.count("subgraph cluster_") == len(graph.functions)
    assert dot.count("constraint=false") == 3
    assert dot.count("{") == dot.count("}")


@pytest.mark.parametrize("reach", [2, 100, 100_000])
def test_large_programs_take_time_in_proportion(reach: int) -> None:
    """4,000 blocks take seconds, and not much more than 4 times what 1,000 take."""

    def seconds(steps: int) -> float:
        start = process_time()
        ControlFlowGraph.of(ladder(steps, reach)).to_svg()
        return process_time() - start

    small, large = seconds(1000), seconds(4000)
    assert large < 12 * small + 1
    assert large < 20
