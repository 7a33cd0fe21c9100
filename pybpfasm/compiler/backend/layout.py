"""The order of the pieces, and the jumps between them.

In: pieces with their ends. Out: instructions with labels. A block without instructions is not jumped to, but where it
leads; instructions that several blocks have at their end are there once; in place of a jump to an end of one or two
instructions stands this end: it runs in less time, and takes little more room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pybpfasm import isa
from pybpfasm.compiler.backend.select import Exit, Jumps, Piece
from pybpfasm.ir.function import Block
from pybpfasm.ir.operations import Goto, Location, MayGoto
from pybpfasm.isa import INVERSE, Instruction, Jump, Label
from pybpfasm.records import define, evolve, field

# How often the parts are gone through; what three rounds leave is not worth the time.
_ROUNDS = 3

# So many instructions have to be the same at two ends to be worth a jump.
_WORTH_A_JUMP = 2


# So many instructions and `exit` are written again in place of a jump to them.
_WRITTEN_AGAIN = 1


@define(eq=False)
class Part:
    """A label, instructions, and where they lead: at most one part to go on at, and one to jump to if a test holds."""

    label: str
    instructions: list[Instruction]
    locations: list[Location]
    end: Location
    following: Part | None = None
    test: Jumps | MayGoto | None = None
    otherwise: Part | None = None

    @property
    def leaves(self) -> bool:
        """Whether the function ends here."""
        return self.following is None


@define
class Written:
    """Instructions with labels; `locations` has one entry an instruction, `places` where each part begins."""

    items: list[Instruction | Label] = field(factory=list)
    locations: list[Location] = field(factory=list)
    places: dict[str, int] = field(factory=dict)

    def add(self, instruction: Instruction, location: Location) -> None:
        """One more."""
        self.items.append(instruction)
        self.locations.append(location)


def lay_out(pieces: Sequence[Piece], prefix: str) -> Written:
    """All pieces; labels begin with `prefix`."""
    parts = _leave_zero(_share_ends(_led_on(_parts(pieces, prefix))))
    return _write(min((parts, _in_order(parts, False), _in_order(parts, True)), key=_jumps))


def _in_order(parts: list[Part], tests_first: bool) -> list[Part]:
    """The parts so that each comes after all that lead to it, but around loops."""
    finished: list[Part] = []
    seen = {parts[0]}
    stack = [(parts[0], _ahead(parts[0], tests_first))]
    while stack:
        part, waiting = stack[-1]
        following = waiting.pop() if waiting else None
        if following is None:
            finished.append(part)
            stack.pop()
        elif following not in seen:
            seen.add(following)
            stack.append((following, _ahead(following, tests_first)))
    finished.reverse()
    return finished


def _ahead(part: Part, tests_first: bool) -> list[Part]:
    found = [each for each in (part.following, part.otherwise) if each is not None]
    return found if tests_first else found[::-1]


def _jumps(parts: list[Part]) -> int:
    """How many jumps without a test this order needs."""
    found = 0
    for part, behind in zip(parts, [*parts[1:], None], strict=True):
        may_turn = isinstance(part.test, Jumps) and part.test.branch.code is not Jump.JSET
        falls = part.following is behind or (may_turn and part.otherwise is behind)
        found += part.following is not None and not falls
    return found


def _leave_zero(parts: list[Part]) -> list[Part]:
    """Where a test says that r0 is 0, what would set it to 0 and leave only leaves."""
    zero = isa.mov_imm(0, 0)
    ends: dict[Part, Part] = {}
    for part in parts:
        test = part.test
        if not isinstance(test, Jumps) or test.left != 0 or test.right is not None or test.immediate != 0:
            continue
        if test.branch.bits != 64 or test.branch.code not in (Jump.JEQ, Jump.JNE):
            continue
        side = part.otherwise if test.branch.code is Jump.JEQ else part.following
        if side is None or not side.leaves or side.instructions != [zero]:
            continue
        if side not in ends:
            ends[side] = Part(f"{side.label}.exit", [], [], side.end)
            side.following = ends[side]
        if test.branch.code is Jump.JEQ:
            part.otherwise = ends[side]
        else:
            part.following = ends[side]
    written: list[Part] = []
    for part in _led_on(parts):
        written += [part, ends[part]] if part in ends else [part]
    found = set(written)
    return written + [end for end in ends.values() if end not in found]


def _parts(pieces: Sequence[Piece], prefix: str) -> list[Part]:
    by_block: dict[Block, Part] = {}
    for piece in pieces:
        location = piece.locations[-1] if piece.locations else piece.block.operations[-1].location
        part = Part(f"{prefix}.{piece.block.number}", piece.instructions, piece.locations, location)
        by_block[piece.block] = part
    for piece in pieces:
        part = by_block[piece.block]
        match piece.end:
            case Goto(block=block, location=location):
                part.following, part.end = by_block[block], location
            case Jumps(branch=branch) as jumps:
                part.test, part.end = jumps, branch.location
                part.otherwise, part.following = by_block[branch.yes], by_block[branch.no]
            case MayGoto(again=again, end=end, location=location) as may:
                part.test, part.end = may, location
                part.otherwise, part.following = by_block[end], by_block[again]
            case Exit(location=location):
                part.end = location
    return list(by_block.values())


def _led_on(parts: list[Part]) -> list[Part]:
    """The parts that are reached, each leading to where something is done."""
    for part in parts:
        if part.following is not None:
            part.following = _effective(part.following)
        if part.otherwise is not None:
            part.otherwise = _effective(part.otherwise)
    reached = _reached(parts)
    return [part for part in parts if part in reached]


def _effective(part: Part) -> Part:
    """Where an empty part leads in the end."""
    seen = {part}
    while not part.instructions and part.test is None and part.following is not None and part.following not in seen:
        part = part.following
        seen.add(part)
    return part


def _reached(parts: list[Part]) -> dict[Part, None]:
    reached: dict[Part, None] = {}
    pending = [parts[0]]
    while pending:
        part = pending.pop()
        if part not in reached:
            reached[part] = None
            pending += [each for each in (part.following, part.otherwise) if each is not None]
    return reached


def _share_ends(parts: list[Part]) -> list[Part]:
    """What several parts have at their end becomes a part of its own; what that uncovers, too."""
    for _ in range(_ROUNDS):
        before = sum(len(part.instructions) for part in parts)
        parts = _led_on(_share_once(parts))
        if sum(len(part.instructions) for part in parts) == before:
            break
    return parts


def _share_once(parts: list[Part]) -> list[Part]:
    groups: dict[tuple[Any, ...], list[Part]] = {}
    for part in parts:
        if part.instructions:
            groups.setdefault((*_end_of(part), part.instructions[-1]), []).append(part)
    added: dict[Part, Part] = {}
    for group in groups.values():
        leader = group[0]
        for other in group[1:]:
            same = _same_at_end(leader, other)
            # A part that goes wholly costs nothing where jumps lead to it, nor does one that ends by a jump anyway.
            if same < _WORTH_A_JUMP and same < len(other.instructions) and not leader.leaves:
                continue
            leader = _split(leader, same, added)
            _cut(other, same)
            other.following, other.otherwise, other.test = leader, None, None
    written: list[Part] = []
    for part in parts:
        written.append(part)
        while part in added:
            part = added[part]
            written.append(part)
    return written


def _end_of(part: Part) -> tuple[Any, ...]:
    """What tells ends apart: where they lead, and by which test."""
    following = part.following.label if part.following is not None else ""
    if part.otherwise is None:
        return (following,)
    test = part.test
    if isinstance(test, Jumps):
        branch = test.branch
        return (following, part.otherwise.label, branch.code, branch.bits, test.left, test.right, test.immediate)
    return (following, part.otherwise.label)


def _same_at_end(one: Part, other: Part) -> int:
    same = 0
    for left, right in zip(reversed(one.instructions), reversed(other.instructions), strict=False):
        if left != right:
            break
        same += 1
    return same


def _split(part: Part, same: int, added: dict[Part, Part]) -> Part:
    """The part with the last instructions of `part`, which goes on there."""
    if same == len(part.instructions):
        return part
    at = len(part.instructions) - same
    tail = evolve(part, label=f"{part.label}.{at}", instructions=part.instructions[at:], locations=part.locations[at:])
    _cut(part, same)
    part.following, part.otherwise, part.test = tail, None, None
    if part in added:
        added[tail] = added[part]
    added[part] = tail
    return tail


def _cut(part: Part, same: int) -> None:
    at = len(part.instructions) - same
    del part.instructions[at:], part.locations[at:]


def _write(parts: list[Part]) -> Written:
    written = Written()
    named = _jumped_to(parts)
    for part, behind in zip(parts, [*parts[1:], None], strict=True):
        written.places[part.label] = len(written.locations)
        if part in named:
            written.items.append(Label(part.label))
        for instruction, location in zip(part.instructions, part.locations, strict=True):
            written.add(instruction, location)
        _write_end(part, behind, written)
    return written


def _jumped_to(parts: list[Part]) -> set[Part]:
    found: set[Part] = set()
    for part in parts:
        found.update(each for each in (part.following, part.otherwise) if each is not None)
    return found


def _write_end(part: Part, behind: Part | None, written: Written) -> None:
    following, otherwise = part.following, part.otherwise
    if following is None:
        written.add(isa.exit_program(), part.end)
        return
    if otherwise is not None:
        test = part.test
        if isinstance(test, MayGoto):
            written.add(isa.may_goto(otherwise.label), part.end)
        elif isinstance(test, Jumps):
            code = test.branch.code
            if otherwise is behind and code is not Jump.JSET:
                code, otherwise, following = INVERSE[code], following, otherwise
            written.add(_conditional(test, code, otherwise.label), part.end)
    if following is behind:
        return
    if following.leaves and len(following.instructions) <= _WRITTEN_AGAIN:
        for instruction, location in zip(following.instructions, following.locations, strict=True):
            written.add(instruction, location)
        written.add(isa.exit_program(), following.end)
    else:
        written.add(isa.jump(following.label), part.end)


def _conditional(test: Jumps, code: Jump, label: str) -> Instruction:
    bits = test.branch.bits
    if test.right is None:
        return isa.jump_if_imm(code, test.left, test.immediate, label, bits=bits)
    return isa.jump_if(code, test.left, test.right, label, bits=bits)
