"""From instructions to basic blocks and the edges between them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise

import attrs

from pybpfasm.cfg.targets import Target, targets_of
from pybpfasm.errors import BpfError
from pybpfasm.isa import Instruction, Syntax
from pybpfasm.isa.opcodes import EXIT, JA, JA_LONG, JA_REGISTER


class GraphError(BpfError, ValueError):
    """Instructions whose control flow cannot be followed; the text names the slot."""


class EdgeKind(Enum):
    """How control, or the address of a function, gets from one block to another."""

    TAKEN = "taken"
    FALL_THROUGH = "fall-through"
    CALL = "call"
    CALLBACK = "callback"  # ld_imm64 of a function's address, for a helper to call


JUMPS = frozenset((EdgeKind.TAKEN, EdgeKind.FALL_THROUGH))


@attrs.frozen
class Block:
    """Instructions that run one after the other, from slot `start` up to, without it, slot `end`.

    `is_reachable` says whether jumps, calls and callbacks lead to it from the program's first instruction.
    """

    start: int
    end: int
    instructions: tuple[Instruction, ...]
    is_reachable: bool

    def lines(self) -> Iterator[tuple[int, Instruction]]:
        """Each instruction with its slot."""
        slot = self.start
        for instruction in self.instructions:
            yield slot, instruction
            slot += instruction.slots


@attrs.frozen
class Edge:
    """From the block that starts at slot `source` to the one that starts at slot `target`.

    `is_back` marks what closes a loop: it leads to a block that a walk, depth first from the entry, had not left yet.
    """

    source: int
    target: int
    kind: EdgeKind
    is_back: bool = False


@attrs.frozen
class Function:
    """A function: where it starts, its name if one is known, and the slots where its blocks start.

    A function extends to where the next one begins, as for the verifier.
    """

    start: int
    name: str
    blocks: tuple[int, ...]


@attrs.frozen
class ControlFlowGraph:
    """The blocks of a program by the slots where they start, in order, with the edges and functions."""

    blocks: Mapping[int, Block]
    edges: tuple[Edge, ...]
    functions: tuple[Function, ...]

    @classmethod
    def of(cls, instructions: Iterable[Instruction], names: Mapping[int, str] | None = None) -> "ControlFlowGraph":
        """The graph of a program's instructions, which all functions follow in one stream.

        `names` gives functions their names, by the slots where they start. Raises `GraphError` for a jump or a call
        that leaves the program, one into the middle of ld_imm64, or one whose label is not resolved.
        """
        code = _Code(tuple(instructions))
        entries = sorted({0} | {target.slot for target in code.targets if not target.is_jump}) if code.slots else []
        starts = sorted({0, *code.after_jumps, *(target.slot for target in code.targets)}) if code.slots else []
        edges = _edges(code, starts)
        back, reached = _walk(starts, edges)
        bounds = [*starts, code.end]
        blocks = {
            start: Block(start, end, code.between(start, end), start in reached) for start, end in pairwise(bounds)
        }
        return cls(
            blocks,
            tuple(attrs.evolve(edge, is_back=True) if index in back else edge for index, edge in enumerate(edges)),
            _functions(entries, starts, names or {}),
        )

    @property
    def unreachable(self) -> tuple[int, ...]:
        """The slots where blocks start that nothing leads to."""
        return tuple(start for start, block in self.blocks.items() if not block.is_reachable)

    def edges_from(self, start: int) -> tuple[Edge, ...]:
        """The edges that leave the block at slot `start`."""
        return tuple(edge for edge in self.edges if edge.source == start)

    def edges_to(self, start: int) -> tuple[Edge, ...]:
        """The edges that enter the block at slot `start`."""
        return tuple(edge for edge in self.edges if edge.target == start)

    def to_dot(self, *, syntax: Syntax = "kernel") -> str:
        """The graph in the language of Graphviz; a function is a cluster."""
        from pybpfasm.cfg.dot import to_dot  # loaded when first used

        return to_dot(self, syntax)

    def to_svg(self, *, syntax: Syntax = "kernel") -> str:
        """The graph drawn: an SVG document that needs nothing else. Lengths in it are CSS pixels."""
        from pybpfasm.cfg.svg import to_svg  # loaded when first used

        return to_svg(self, syntax)


class _Code:
    """The instructions with their slots, and where they lead."""

    def __init__(self, instructions: tuple[Instruction, ...]) -> None:
        self.instructions = instructions
        self.slots: list[int] = []
        self.end = 0
        self.targets: list[Target] = []
        self.after_jumps: list[int] = []
        for instruction in instructions:
            self.slots.append(self.end)
            self.end += instruction.slots
        self._starts = frozenset(self.slots)
        for slot, instruction in zip(self.slots, instructions, strict=True):
            self._follow(slot, instruction)

    def between(self, start: int, end: int) -> tuple[Instruction, ...]:
        """The instructions from slot `start` up to slot `end`."""
        return self.instructions[bisect_right(self.slots, start - 1) : bisect_right(self.slots, end - 1)]

    def _follow(self, slot: int, instruction: Instruction) -> None:
        found = targets_of(slot, instruction)
        if found is None:
            raise GraphError(f"slot {slot}: label {instruction.symbol!r} is not resolved: resolve_labels does that")
        for target in found:
            if not 0 <= target.slot < self.end:
                what = "jumps to" if target.is_jump else "refers to a function at"
                raise GraphError(f"slot {slot}: it {what} slot {target.slot}, the program has 0 to {self.end - 1}")
            if target.slot not in self._starts:
                raise GraphError(f"slot {slot}: it leads to slot {target.slot}, the second half of ld_imm64")
        self.targets += found
        after = slot + instruction.slots
        if after < self.end and (ends_block(instruction) or any(target.is_jump for target in found)):
            self.after_jumps.append(after)


def ends_block(instruction: Instruction) -> bool:
    """Whether control never goes on to the next instruction."""
    return instruction.opcode in _ENDS


_ENDS = frozenset(map(int, (JA, JA_LONG, JA_REGISTER, EXIT)))


def _edges(code: _Code, starts: list[int]) -> list[Edge]:
    """The edges in the order of their instructions, each once: first where a block calls, then where it goes on."""
    edges: dict[Edge, None] = {}
    block = 0
    leading = {start: index for index, start in enumerate(starts)}
    for slot, instruction in zip(code.slots, code.instructions, strict=True):
        block = leading.get(slot, block)
        for target in targets_of(slot, instruction) or ():
            kind = EdgeKind.TAKEN if target.is_jump else EdgeKind.CALL if target.is_call else EdgeKind.CALLBACK
            edges[Edge(starts[block], target.slot, kind)] = None
        after = slot + instruction.slots
        if after in leading and not ends_block(instruction):
            edges[Edge(starts[block], after, EdgeKind.FALL_THROUGH)] = None
    return list(edges)


def _walk(starts: list[int], edges: list[Edge]) -> tuple[set[int], set[int]]:
    """Depth first from the entry, then from what it did not reach: the indexes of back edges, and what was reached."""
    leaving: dict[int, list[int]] = {start: [] for start in starts}
    for index, edge in enumerate(edges):
        leaving[edge.source].append(index)
    back: set[int] = set()
    reached: set[int] = set()
    seen: set[int] = set()
    for root in starts:
        if root not in seen:
            _walk_from(root, edges, leaving, seen, back)
            reached = reached or set(seen)
    return back, reached


def _walk_from(root: int, edges: list[Edge], leaving: dict[int, list[int]], seen: set[int], back: set[int]) -> None:
    open_blocks = {root}
    seen.add(root)
    path = [(root, iter(leaving[root]))]
    while path:
        block, rest = path[-1]
        index = next(rest, None)
        if index is None:
            open_blocks.discard(block)
            path.pop()
            continue
        target = edges[index].target
        if target in open_blocks:
            if edges[index].kind in JUMPS:
                back.add(index)
        elif target not in seen:
            seen.add(target)
            open_blocks.add(target)
            path.append((target, iter(leaving[target])))


def _functions(entries: list[int], starts: list[int], names: Mapping[int, str]) -> tuple[Function, ...]:
    blocks: dict[int, list[int]] = {entry: [] for entry in entries}
    for start in starts:
        blocks[entries[bisect_right(entries, start) - 1]].append(start)
    return tuple(Function(entry, names.get(entry, ""), tuple(inside)) for entry, inside in blocks.items())
