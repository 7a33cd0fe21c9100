"""Instructions become blocks, edges and functions."""

import pytest
from graphs import EVERYTHING, graph_of, programs
from hypothesis import given, settings

from pybpfasm.cfg import ControlFlowGraph, Edge, EdgeKind, GraphError
from pybpfasm.isa import Instruction, exit_program, jump, load_imm64, parse

TAKEN, FALL, CALL, CALLBACK = EdgeKind.TAKEN, EdgeKind.FALL_THROUGH, EdgeKind.CALL, EdgeKind.CALLBACK


def test_a_branch_has_both_edges() -> None:
    """A conditional jump ends a block; taken and not, it leads to the blocks that meet again."""
    graph = graph_of("if r1 == 0 goto other\nr0 = 1\ngoto end\nother:\nr0 = 2\nend:\nexit")
    assert list(graph.blocks) == [0, 1, 3, 4]
    assert set(graph.edges) == {Edge(0, 3, TAKEN), Edge(0, 1, FALL), Edge(1, 4, TAKEN), Edge(3, 4, FALL)}
    assert graph.unreachable == ()


def test_slots_count_wide_instructions_twice() -> None:
    """Blocks start at slots, not at instruction numbers."""
    graph = graph_of("r1 = 0x5 \nif r1 == 5 goto end\nr0 = 0x7\nend:\nexit")
    assert [(block.start, block.end) for block in graph.blocks.values()] == [(0, 3), (3, 5), (5, 6)]
    assert [slot for slot, _ in graph.blocks[0].lines()] == [0, 2]


def test_each_kind_of_edge() -> None:
    """Loops are marked, calls and callbacks lead to functions, dead code is known."""
    graph = graph_of(EVERYTHING)
    start = {"outer": 1, "inner": 2, "self": 13}
    assert Edge(start["inner"], start["inner"], TAKEN, is_back=True) in graph.edges
    assert any(edge.target == start["outer"] and edge.is_back for edge in graph.edges)
    assert Edge(start["self"], start["self"], TAKEN, is_back=True) in graph.edges
    assert sum(edge.kind is CALL for edge in graph.edges) == 3
    assert [edge.target for edge in graph.edges if edge.kind is CALLBACK] == [27]
    assert [function.start for function in graph.functions] == [0, 20, 25, 27]
    assert graph.unreachable == (15, 17)


def test_functions_have_names_where_given() -> None:
    """Names go to the functions that start there, blocks to the function before them."""
    graph = ControlFlowGraph.of(parse(EVERYTHING), {0: "main", 20: "double"})
    assert [function.name for function in graph.functions] == ["main", "double", "", ""]
    assert sorted(slot for function in graph.functions for slot in function.blocks) == list(graph.blocks)


def test_long_jumps_and_the_dump_of_a_loaded_program() -> None:
    """`gotol` counts in its immediate; a dump's call in its offset, the immediate numbers the function."""
    graph = graph_of("gotol end\nr0 = 1\nend:\ncall pc+1#1\nexit\nr0 = 0\nexit")
    assert Edge(0, 2, TAKEN) in graph.edges
    assert Edge(2, 4, CALL) in graph.edges


def test_a_computed_jump_leads_nowhere_known() -> None:
    """`gotox` ends its block without an edge."""
    graph = graph_of("gotox r1\nr0 = 0\nexit")
    assert graph.edges == ()
    assert graph.unreachable == (1,)


def test_no_instructions() -> None:
    """An empty program has an empty graph."""
    assert ControlFlowGraph.of([]) == ControlFlowGraph({}, (), ())


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (parse("goto pc+5\nexit"), "slot 0: it jumps to slot 6, the program has 0 to 1"),
        (parse("r0 = 0\ngoto pc-9"), "slot 1: it jumps to slot -7"),
        (parse("call pc+7\nexit"), "slot 0: it refers to a function at slot 8"),
        ([load_imm64(1, 2), *parse("goto pc-2")], "slot 2: it leads to slot 1, the second half of ld_imm64"),
        ([jump("away"), exit_program()], "slot 0: label 'away' is not resolved"),
    ],
)
def test_what_cannot_be_followed(instructions: list[Instruction], message: str) -> None:
    """A jump that leads nowhere is refused, with its slot."""
    with pytest.raises(GraphError) as caught:
        ControlFlowGraph.of(instructions)
    assert message in str(caught.value)


@given(programs())
@settings(max_examples=150, deadline=None)
def test_every_instruction_is_in_one_block(instructions: list[Instruction]) -> None:
    """Blocks are the program, cut: joined they give it back, and edges lead from block to block."""
    graph = ControlFlowGraph.of(instructions)
    assert [each for block in graph.blocks.values() for each in block.instructions] == instructions
    assert all(edge.source in graph.blocks and edge.target in graph.blocks for edge in graph.edges)
    assert all(edge in graph.edges_from(edge.source) and edge in graph.edges_to(edge.target) for edge in graph.edges)


@given(programs())
@settings(max_examples=100, deadline=None)
def test_without_back_edges_no_jump_closes_a_loop(instructions: list[Instruction]) -> None:
    """What is left can be put in an order: each pass takes away blocks that no jump leads to."""
    graph = ControlFlowGraph.of(instructions)
    left = set(graph.blocks)
    forward = [edge for edge in graph.edges if edge.kind in (TAKEN, FALL) and not edge.is_back]
    while left:
        entered = {edge.target for edge in forward if edge.source in left}
        assert left - entered, "a loop"
        left &= entered
