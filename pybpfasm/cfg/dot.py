"""A graph in the language of Graphviz (its page "DOT Language")."""

from pybpfasm.cfg.graph import Block, ControlFlowGraph, Edge, EdgeKind
from pybpfasm.cfg.text import heading_of, lines_of
from pybpfasm.isa import Syntax

_COLOURS = {
    EdgeKind.TAKEN: "#2da44e",
    EdgeKind.FALL_THROUGH: "#8b949e",
    EdgeKind.CALL: "#4c8dff",
    EdgeKind.CALLBACK: "#4c8dff",
}


def to_dot(graph: ControlFlowGraph, syntax: Syntax) -> str:
    """The graph as `digraph`, the blocks of a function in a cluster."""
    lines = [
        "digraph program {",
        '  node [shape=box fontname="monospace" fontsize=10];',
        '  edge [fontname="monospace"];',
    ]
    for function in graph.functions:
        lines.append(f"  subgraph cluster_{function.start} {{")
        lines.append(f'    label="{_quoted(heading_of(function))}"; fontname="sans-serif"; color="#8b949e";')
        lines += [f"    {_node(graph.blocks[start], syntax)}" for start in function.blocks]
        lines.append("  }")
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    return "\n".join([*lines, "}", ""])


def _node(block: Block, syntax: Syntax) -> str:
    label = "".join(f"{_quoted(line)}\\l" for line in lines_of(block, syntax))
    style = "" if block.is_reachable else ' style=dashed color="#cf222e" tooltip="unreachable"'
    return f'b{block.start} [label="{label}"{style}];'


def _edge(edge: Edge) -> str:
    looks = [f'color="{_COLOURS[edge.kind]}"', f'tooltip="{edge.kind.value}"']
    if edge.is_back:
        looks.append("style=dashed constraint=false")
    elif edge.kind in (EdgeKind.CALL, EdgeKind.CALLBACK):
        looks.append("style=dotted")
    return f"b{edge.source} -> b{edge.target} [{' '.join(looks)}];"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
