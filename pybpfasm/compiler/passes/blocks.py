"""Control flow made shorter: jumps go where they lead in the end, blocks with one way in are joined with it.

In: a function. Out: the same with fewer blocks. A jump is led past a block when what that block tests is known on the
way there. Limits: one block is looked into at a time; `shorten` is called again after what it uncovers was folded.

    block1:                                  block1:
        goto block3(0)                           goto block5
    block3(%4):                              block3(%4):
        if jeq %4, 0 goto block5 else …          …
"""

from __future__ import annotations

from typing import Any

from pybpfasm.compiler.passes.arithmetic import compare
from pybpfasm.ir.function import Block, Function, predecessors, reverse_postorder
from pybpfasm.ir.operations import (
    Branch,
    Copy,
    Goto,
    MayGoto,
    Return,
    Value,
    replace_operands,
    values_of,
)
from pybpfasm.isa import Jump

# How many blocks above are looked at for what is known.
_NEARBY = 8


def shorten(function: Function) -> None:
    """Run the pass."""
    order = reverse_postorder(function.entry)
    if _thread(order):
        order = reverse_postorder(function.entry)
    _remove_parameters(order)
    if _join(order):
        order = reverse_postorder(function.entry)
    _skip_empty(order)


def _thread(order: list[Block]) -> bool:
    """Lead each Goto past blocks that only decide something that is known there; whether there was one."""
    if not any(len(block.operations) == 1 for block in order):
        return False
    threaded = False
    leading = predecessors(order)
    used_elsewhere = _parameters_used_elsewhere(order)
    for block in order:
        goto = block.operations[-1]
        for _ in range(_NEARBY):
            following = _decided(block, goto, leading, used_elsewhere) if isinstance(goto, Goto) else None
            if following is None:
                break
            block.operations[-1] = goto = following
            threaded = True
    return threaded


def _parameters_used_elsewhere(order: list[Block]) -> set[Block]:
    """Blocks of one operation of which a parameter is read in another: a way past them would leave it undefined."""
    owner = {parameter: block for block in order if len(block.operations) == 1 for parameter in block.parameters}
    if not owner:
        return set()
    found: set[Block] = set()
    for block in order:
        for operation in block.operations:
            for value in values_of(operation):
                if owner.get(value, block) is not block:
                    found.add(owner[value])
    return found


def _decided(
    block: Block, goto: Goto, leading: dict[Block, list[Block]], used_elsewhere: set[Block]
) -> Goto | Return | None:
    """What can stand in the place of a Goto to a block that has nothing but a decision."""
    target = goto.block
    if len(target.operations) != 1 or target in used_elsewhere or target is block:
        return None
    given: dict[Any, Any] = dict(zip(target.parameters, goto.arguments, strict=True))
    match target.operations[0]:
        case Branch() as branch:
            left, right = given.get(branch.left, branch.left), given.get(branch.right, branch.right)
            taken = outcome(branch, left, right, block, leading)
            if taken is None:
                return None
            return Goto(branch.yes if taken else branch.no, branch.location)
        case Goto(block=further, arguments=arguments) if further is not target:
            return Goto(further, goto.location, [_given(given, each) for each in arguments])
        case Return(value=value, location=location) if target.parameters:
            result = given.get(value, value)
            return Return(result, location) if isinstance(result, int) else None
        case _:
            return None


def _given(given: dict[Any, Any], argument: Any) -> Any:
    return given.get(argument, argument) if isinstance(argument, Value) else argument


def outcome(branch: Branch, left: Any, right: Any, block: Block, leading: dict[Block, list[Block]]) -> bool | None:
    """Whether a branch is taken on the way from a block, as far as that is known there."""
    if isinstance(left, int) and isinstance(right, int):
        return compare(branch.code, left, right, branch.bits)
    if not isinstance(right, int) or not isinstance(left, Value) or branch.code not in (Jump.JEQ, Jump.JNE):
        return None
    if right == 0 and left.type.is_address and not left.type.nullable:
        return branch.code is Jump.JNE
    known = _tested(left, right, branch.bits, block, leading)
    return None if known is None else known == (branch.code is Jump.JEQ)


def _tested(value: Value, number: int, bits: int, block: Block, leading: dict[Block, list[Block]]) -> bool | None:
    """Whether the value equals the number, as far as a test on the only way to the block tells."""
    for _ in range(_NEARBY):
        above = leading.get(block, [])
        if len(above) != 1:
            return None
        test = above[0].operations[-1]
        if isinstance(test, Branch) and test.left is value and test.bits == bits and isinstance(test.right, int):
            taken = test.yes is block
            if test.right == number and test.code in (Jump.JEQ, Jump.JNE):
                return taken == (test.code is Jump.JEQ)
            if test.code is Jump.JEQ and taken:
                return False
        block = above[0]
    return None


def _remove_parameters(order: list[Block]) -> None:
    """Parameters that always get one operand, or that nobody reads, go."""
    while True:
        ways: dict[Block, list[Goto]] = {}
        for block in order:
            end = block.operations[-1]
            if isinstance(end, Goto) and end.block.parameters:
                ways.setdefault(end.block, []).append(end)
        instead: dict[Value, Any] = {}
        used: set[Any] = set()
        for block, gotos in ways.items():
            for index in range(len(block.parameters) - 1, -1, -1):
                parameter = block.parameters[index]
                operand = _only_operand(gotos, index, parameter)
                # One step at a time: what is itself replaced in this round waits for the next.
                if operand is not None and operand not in instead and parameter not in used:
                    instead[parameter] = operand
                    used.add(operand)
                    _drop(block, gotos, index)
        if not instead:
            break
        for block in order:
            for operation in block.operations:
                replace_operands(operation, instead)
    if ways:
        _remove_unread_parameters(order, ways)


def _only_operand(gotos: list[Goto], index: int, parameter: Value) -> Value | int | None:
    """The operand that a parameter always gets, but for itself around a loop."""
    found: Value | int | None = None
    for goto in gotos:
        operand = goto.arguments[index]
        if operand is parameter:
            continue
        if not isinstance(operand, Value | int) or (found is not None and operand != found):
            return None
        found = operand
    return found


def _remove_unread_parameters(order: list[Block], ways: dict[Block, list[Goto]]) -> None:
    read: set[Value] = set()
    pending: list[Value] = []
    feeding: dict[Value, list[Any]] = {}
    for block, gotos in ways.items():
        for index, parameter in enumerate(block.parameters):
            feeding[parameter] = [goto.arguments[index] for goto in gotos]
    for block in order:
        for operation in block.operations:
            if not isinstance(operation, Goto):
                pending += values_of(operation)
    while pending:
        value = pending.pop()
        if value not in read:
            read.add(value)
            pending += [each for each in feeding.get(value, ()) if isinstance(each, Value)]
    for block, gotos in ways.items():
        for index in range(len(block.parameters) - 1, -1, -1):
            if block.parameters[index] not in read:
                _drop(block, gotos, index)


def _drop(block: Block, gotos: list[Goto], index: int) -> None:
    del block.parameters[index]
    for goto in gotos:
        del goto.arguments[index]


def _join(order: list[Block]) -> bool:
    """A block with one way in, by a Goto, continues the block that it comes from; whether there was one."""
    leading = predecessors(order)
    gone: set[Block] = set()
    instead: dict[Value, Any] = {}
    for block in order:
        if block in gone:
            continue
        while True:
            end = block.operations[-1]
            if not isinstance(end, Goto) or len(leading.get(end.block, ())) != 1 or end.block is block:
                break
            following = end.block
            block.operations.pop()
            for parameter, argument in zip(following.parameters, end.arguments, strict=True):
                if isinstance(argument, Value | int):
                    instead[parameter] = instead.get(argument, argument) if isinstance(argument, Value) else argument
                else:
                    block.operations.append(Copy(parameter, argument, end.location))
            block.operations += following.operations
            gone.add(following)
    if instead:
        for block in order:
            for operation in block.operations:
                replace_operands(operation, instead)
    return bool(gone)


def _skip_empty(order: list[Block]) -> None:
    """Jumps to a block that only leads on, without arguments, go on at once; two equal ways are one."""
    for block in order:
        match block.operations[-1]:
            case Goto() as goto if not goto.arguments:
                goto.block = _end_of_chain(goto.block)
            case Branch() as branch:
                branch.yes, branch.no = _end_of_chain(branch.yes), _end_of_chain(branch.no)
                if branch.yes is branch.no:
                    block.operations[-1] = Goto(branch.yes, branch.location)
            case MayGoto() as may:
                may.again, may.end = _end_of_chain(may.again), _end_of_chain(may.end)


def _end_of_chain(block: Block) -> Block:
    seen = {block}
    while len(block.operations) == 1 and isinstance(block.operations[0], Goto) and not block.parameters:
        goto = block.operations[0]
        if goto.arguments or goto.block in seen:
            break
        block = goto.block
        seen.add(block)
    return block
