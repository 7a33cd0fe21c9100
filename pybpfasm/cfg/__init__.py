"""Control-flow graphs of instructions: basic blocks, edges, functions, drawn as SVG or described for Graphviz.

from pybpfasm.cfg import ControlFlowGraph

svg = ControlFlowGraph.of(instructions).to_svg()
"""

from pybpfasm.cfg.graph import Block, ControlFlowGraph, Edge, EdgeKind, Function, GraphError

__all__ = ["Block", "ControlFlowGraph", "Edge", "EdgeKind", "Function", "GraphError"]
