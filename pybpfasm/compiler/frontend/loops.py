"""Loops. Those over `unroll` are repeated code; all others go around.

A loop that goes around begins with a block whose parameters are the names that its body assigns. Their types are what
they are where the loop begins.

    i = 0                                    goto block1(0)
    while i < n:                             block1(%2):
        i += 1                                   if jlt %2, %1 goto block2 else block3
                                             block2:
                                                 %3 = add %2, 1
                                                 goto block1(%3)

A loop over `range` tests before it begins, unless it is known to, and at its end: a jump less each time.
"""

import ast
import builtins
import itertools
from typing import TYPE_CHECKING, Any, NoReturn

from pybpfasm.compiler.frontend.diagnostics import SilentError
from pybpfasm.compiler.frontend.expressions import known_limit
from pybpfasm.compiler.frontend.paths import Junction, Unknown, type_of, with_operand
from pybpfasm.compiler.frontend.values import (
    BOOL,
    SIGNED,
    UNSIGNED,
    Constant,
    Place,
    Pointer,
    Scalar,
    Value,
    count_of,
    describe,
    shown,
)
from pybpfasm.compiler.passes.arithmetic import compare
from pybpfasm.ir.operations import Goto, Number
from pybpfasm.ir.types import Kind
from pybpfasm.isa import Jump
from pybpfasm.lang.iterators import numbers
from pybpfasm.lang.numbers import can_loop
from pybpfasm.lang.programs import unroll
from pybpfasm.lang.types import IntType
from pybpfasm.records import evolve

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# A body so often repeated exceeds what the verifier takes.
MOST_REPETITIONS = 10_000

# More rounds than that the verifier does not follow (BPF_COMPLEXITY_LIMIT_INSNS is a million instructions).
MOST_ROUNDS = 1 << 20

# The counter of a `for`, which the body cannot assign; no program has such a name.
_COUNTER = "<counter>"


class Loops:
    """Compiles loops."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def compile_for(self, node: ast.For) -> None:
        """`for name in unroll(…)` or `range(…)`."""
        lowering = self._lowering
        iterated = node.iter
        if isinstance(iterated, ast.Call) and iterated.args and not iterated.keywords:
            callee = lowering.expressions.value(iterated.func)
            if isinstance(callee, Constant) and callee.value is unroll:
                self._repeat(node, iterated)
                return
            if isinstance(callee, Constant) and callee.value is numbers:
                lowering.iterators.numbers(node, self._counted_name(node), iterated)
                return
            if isinstance(callee, Constant) and callee.value is builtins.range:
                self._count(node, self._counted_name(node), iterated)
                return
        reason = "a loop counts or repeats constants: write `for name in range(…)`, or `unroll(…)` with constants"
        lowering.fail(iterated, reason)

    def _counted_name(self, node: ast.For) -> ast.Name:
        if not isinstance(node.target, ast.Name):
            self._lowering.fail(node.target, "a loop that counts has one name: `for name in range(…):`")
        return node.target

    def compile_while(self, node: ast.While) -> None:
        """`while condition:`."""
        lowering = self._lowering
        if isinstance(node.test, ast.Constant) and node.test.value and not _ways_out(node):
            lowering.fail(node, "this loop never ends: leave it by `break` or `return`")
        head = self.begin(node, {})
        exhausted, end, body, again = (lowering.junction() for _ in range(4))
        lowering.conditions.branch(node.test, body, exhausted)
        lowering.enter(body)
        if lowering.reachable:
            self.body(node, again, end)
            if lowering.reachable:
                self.go_back(node, head)
        self.finish(node, exhausted, end)

    def may_go_on(self, node: ast.Call, callee: Value, yes: Junction, no: Junction) -> bool:
        """Compile a call of `can_loop` as a branch; False if it is no such call."""
        lowering = self._lowering
        if not isinstance(callee, Constant) or callee.value is not can_loop:
            return False
        if node.args or node.keywords:
            lowering.fail(node, "can_loop() takes nothing")
        if not lowering.target.may_goto:
            lowering.fail(
                node, f"can_loop() needs Linux 6.9, this is compiled for {lowering.target.name}: give the loop a bound"
            )
        lowering.may_goto(node, yes, no)
        return True

    def _repeat(self, node: ast.For, iterated: ast.Call) -> None:
        from pybpfasm.compiler.frontend.lowering import Loop

        lowering = self._lowering
        end, exhausted = lowering.junction(), lowering.junction()
        for constant in self._repetitions(iterated):
            following = lowering.junction()
            self._name_constant(node.target, iterated, constant)
            lowering.frame.loops.append(Loop(following, end, len(lowering.frame.cleanups)))
            lowering.statements.suite(node.body)
            lowering.frame.loops.pop()
            lowering.goto(following, node)
            lowering.enter(following)
            if not lowering.reachable:
                break
        lowering.goto(exhausted, node)
        self.finish(node, exhausted, end)

    def _name_constant(self, target: ast.expr, node: ast.AST, constant: Any) -> None:
        """`for name in …`, or `for a, b in …` over tuples."""
        lowering = self._lowering
        match target:
            case ast.Name():
                value = lowering.statements.counted(target, node, Constant(constant))
                lowering.frame.names = {**(lowering.frame.names or {}), target.id: value}
            case ast.Tuple(elts=targets):
                if not isinstance(constant, tuple | list) or len(constant) != len(targets):
                    lowering.fail(target, f"this loop has {len(targets)} names, {_given(constant)} here")
                for each, part in zip(targets, constant, strict=True):
                    self._name_constant(each, node, part)
            case _:
                lowering.fail(target, "a loop gives names: `for name in unroll(…):`")

    def _repetitions(self, iterated: ast.Call) -> list[Any]:
        lowering = self._lowering
        arguments = [lowering.expressions.constant(argument) for argument in iterated.args]
        try:
            constants = list(itertools.islice(unroll(*arguments), MOST_REPETITIONS + 1))
        except (TypeError, ValueError) as error:
            lowering.fail(iterated, f"this cannot be unrolled: {error}")
        if len(constants) > MOST_REPETITIONS:
            lowering.fail(iterated, f"a loop is unrolled at most {MOST_REPETITIONS} times")
        return constants

    def _count(self, node: ast.For, name: ast.Name, iterated: ast.Call) -> None:
        lowering = self._lowering
        start, stop, step = self._bounds(iterated)
        type_ = self._counting_type(iterated, start, stop, step)
        counter = f"{_COUNTER}{len(lowering.frame.loops)}"
        first = Scalar(lowering.expressions.operand(iterated, start), type_)
        last = lowering.expressions.operand(iterated, stop)
        code = _goes_on(type_ == SIGNED, step)
        exhausted, end, again = (lowering.junction() for _ in range(3))
        if not (isinstance(first.operand, int) and isinstance(last, int)):
            begun = lowering.junction()
            lowering.branch(iterated, code, first.operand, last, begun, exhausted)
            lowering.enter(begun)
        elif not compare(code, first.operand, last, 64):
            lowering.goto(exhausted, node)
        if lowering.reachable:
            head = self.begin(node, {counter: first})
            current = lowering.known(counter)
            assert isinstance(current, Scalar)  # noqa: S101 - _begin made it one
            limit = _highest(start, stop, step) if type_ == UNSIGNED or _never_below_zero(start, stop, step) else None
            number = Scalar(current.operand, type_, limit)
            lowering.give(name.id, lowering.statements.counted(name, iterated, number))
            self.body(node, again, end)
            if lowering.reachable:
                following = lowering.expressions.plus(node, current, step)
                lowering.give(counter, following)
                back = lowering.junction()
                lowering.branch(iterated, code, following.operand, last, back, exhausted)
                lowering.enter(back)
                self.go_back(node, head)
        self.finish(node, exhausted, end)

    def _bounds(self, iterated: ast.Call) -> tuple[Scalar | Constant, Scalar | Constant, int]:
        lowering = self._lowering
        if len(iterated.args) > 3:
            lowering.fail(iterated, "range() takes a start, a stop and a step")
        step = lowering.expressions.constant(iterated.args[2]) if len(iterated.args) == 3 else 1
        if not isinstance(step, int) or step == 0:
            lowering.fail(iterated.args[2], "the step is a constant other than 0")
        numbers = [_as_int(lowering.expressions.number(each)) for each in iterated.args[:2]]
        start, stop = (Constant(0), numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
        if isinstance(start, Constant) and isinstance(stop, Constant):
            self._check_rounds(iterated.args[len(numbers) - 1], range(int(start.value), int(stop.value), step))
        else:
            farthest = iterated.args[len(numbers) - 1] if step > 0 else iterated.args[0]
            self._check_bounded(iterated, farthest, start, stop, step)
        return start, stop, int(step)

    def _check_rounds(self, node: ast.AST, rounds: range) -> None:
        """What counts from a constant to a constant: how often is known, and what it has counted to at the end."""
        count = count_of(rounds)
        if count > MOST_ROUNDS:
            self._too_many(node)
        reached = rounds.start + count * rounds.step
        lowest, highest = (each(rounds.start, rounds.stop, reached) for each in (min, max))
        if not (lowest >= -(1 << 63) and highest < 1 << (63 if lowest < 0 else 64)):
            self._lowering.fail(
                node, f"this loop counts from {shown(lowest)} to {shown(highest)}, which 64 bits do not hold"
            )

    def _check_bounded(
        self, node: ast.AST, farthest_node: ast.AST, start: Scalar | Constant, stop: Scalar | Constant, step: int
    ) -> None:
        """What counts from or to what is known at run time only."""
        lowering = self._lowering
        if abs(step) > MOST_ROUNDS:
            lowering.fail(node, f"a step of {step} is refused: {MOST_ROUNDS} is the most, up or down")
        farthest, nearest = (stop, start) if step > 0 else (start, stop)
        limit = known_limit(farthest)
        if limit is None or limit > MOST_ROUNDS:
            if isinstance(farthest, Constant):
                self._too_many(farthest_node)
            lowering.fail(farthest_node, "how far this goes is not known: bound it, as by min(…, 64) or `& 63`")
        if step < -1 and isinstance(stop, Scalar) and stop.type == UNSIGNED and stop.limit is None:
            reason = f"steps of {step} may go past a stop that is not known, and past 0"
            lowering.fail(node, f"{reason}: bound it, as by min(…, 64) or `& 63`")
        lowest = min((int(each.value) for each in (farthest, nearest) if isinstance(each, Constant)), default=0)
        if (limit - lowest) // abs(step) > MOST_ROUNDS:
            self._too_many(node)

    def _too_many(self, node: ast.AST) -> NoReturn:
        self._lowering.fail(node, f"a loop of so many rounds is refused: at most {MOST_ROUNDS}")

    def _counting_type(self, node: ast.AST, start: Scalar | Constant, stop: Scalar | Constant, step: int) -> Any:
        if isinstance(start, Constant) and isinstance(stop, Constant):
            highest = max(int(start.value), int(stop.value))
            below = step < 0 or int(start.value) < 0 or int(stop.value) < 0
            return SIGNED if below and highest < 1 << 63 else UNSIGNED
        type_ = self._lowering.expressions.common_int_type(node, start, stop)
        below = step < 0 or any(isinstance(each, Constant) and int(each.value) < 0 for each in (start, stop))
        is_small = all(
            int(each.value) < 1 << 63 if isinstance(each, Constant) else each.limit is not None or each.type == SIGNED
            for each in (start, stop)
        )
        return SIGNED if below and is_small else type_

    def begin(self, node: ast.For | ast.While, hidden: dict[str, Scalar]) -> "Head":
        """Start the block that the loop comes back to; what the body assigns are its parameters."""
        lowering = self._lowering
        names = lowering.frame.names
        assert names is not None  # noqa: S101 - we are building here
        lowering.frame.names = names = {**names, **hidden}
        block = lowering.function.block()
        carried: dict[str, Value] = {}
        fixed: dict[str, Value] = {}
        arguments: list[Number] = []
        for name in (*hidden, *assigned_in(node)):
            value = names.get(name)
            if isinstance(value, Constant):
                value = lowering.statements.as_scalar(node, value)
            if isinstance(value, Scalar | Pointer):
                parameter = lowering.function.value(type_of(value), name if name.isidentifier() else None)
                block.parameters.append(parameter)
                arguments.append(value.operand)
                begun = with_operand(value, parameter)
                carried[name] = evolve(begun, limit=None) if isinstance(begun, Scalar) else begun
            elif isinstance(value, Place):
                fixed[name] = value
        lowering.emit(Goto(block, lowering.location(node), list(arguments)))
        lowering.block = block
        lowering.frame.names = {**names, **carried}
        return Head(block, carried, fixed)

    def body(self, node: ast.For | ast.While, again: Junction, end: Junction) -> None:
        """The body, up to where its end and each `continue` meet."""
        from pybpfasm.compiler.frontend.lowering import Loop

        lowering = self._lowering
        lowering.frame.loops.append(Loop(again, end, len(lowering.frame.cleanups)))
        lowering.statements.suite(node.body)
        lowering.frame.loops.pop()
        lowering.goto(again, node)
        lowering.enter(again)

    def go_back(self, node: ast.AST, head: "Head") -> None:
        """End the body by going around."""
        lowering = self._lowering
        for name, begun in head.fixed.items():
            if lowering.known(name) != begun:
                reason = f"`{name}` is another struct when the loop comes around: assign its fields, or use two names"
                lowering.fail(node, reason)
        arguments = [self._comes_around(node, name, value) for name, value in head.carried.items()]
        lowering.emit(Goto(head.block, lowering.location(node), list(arguments)))
        lowering.frame.names = None

    def _comes_around(self, node: ast.AST, name: str, begun: Value) -> Number:
        lowering = self._lowering
        names = lowering.frame.names
        assert names is not None  # noqa: S101 - the caller has looked
        value = names[name]
        if isinstance(value, Unknown):
            if value.silent:
                raise SilentError(lowering.location(node), value.reason)
            lowering.fail(node, value.reason)
        if isinstance(value, Constant) and isinstance(begun, Scalar) and isinstance(begun.type, IntType):
            # The name of a loop that is unrolled; a constant follows the sign that the name has.
            operand = lowering.expressions.operand(node, lowering.expressions.as_number(node, value))
            value = Scalar(operand, begun.type)
        if isinstance(begun, Scalar) and isinstance(value, Scalar) and begun.type == value.type:
            return value.operand
        if isinstance(begun, Pointer) and isinstance(value, Pointer) and begun.target == value.target:
            if value.nullable and not begun.nullable:
                lowering.fail(
                    node, f"`{name}` may be None when the loop comes around, but not where it begins: test it"
                )
            if begun.kind is Kind.KERNEL and value.kind is not Kind.KERNEL:
                reason = f"`{name}` is read at once where the loop begins, but by copies when it comes around"
                lowering.fail(node, f"{reason}: begin with kernel_pointer(…)")
            return value.operand
        hint = f": declare it, `{name}: i64 = …`" if isinstance(begun, Scalar) and isinstance(value, Scalar) else ""
        lowering.fail(
            node, f"`{name}` is {_told(begun)} where the loop begins, {_told(value)} when it comes around{hint}"
        )

    def finish(self, node: ast.For | ast.While, exhausted: Junction, end: Junction) -> None:
        """`else`, and where the loop goes on to."""
        lowering = self._lowering
        lowering.enter(exhausted)
        if lowering.reachable:
            lowering.forget_hidden(_COUNTER)
            lowering.statements.suite(node.orelse)
        lowering.goto(end, node)
        lowering.enter(end)
        if lowering.reachable:
            lowering.forget_hidden(_COUNTER)


class Head:
    """The block that a loop comes back to, the names that are its parameters, and the structs that cannot change."""

    def __init__(self, block: Any, carried: dict[str, Value], fixed: dict[str, Value]) -> None:
        self.block = block
        self.carried = carried
        self.fixed = fixed


def assigned_in(node: ast.For | ast.While) -> list[str]:
    """The names that a loop's body, or its condition, assigns, in the order of the source."""
    found: dict[str, None] = {}
    parts: list[ast.AST] = [*node.body, *([node.test] if isinstance(node, ast.While) else [])]
    for part in parts:
        for each in ast.walk(part):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                found[each.id] = None
    return list(found)


def _ways_out(node: ast.While) -> bool:
    """Whether something in the body may end the loop."""
    return any(isinstance(each, ast.Break | ast.Return) for part in node.body for each in ast.walk(part))


def _given(constant: Any) -> str:
    """How many names a constant gives values to, for an error."""
    return f"{len(constant)} values are" if isinstance(constant, tuple | list) else "one value is"


def _as_int(number: Scalar | Constant) -> Scalar | Constant:
    """A bool as 0 or 1."""
    return Scalar(number.operand, UNSIGNED, 1) if isinstance(number, Scalar) and number.type == BOOL else number


def _never_below_zero(start: Scalar | Constant, stop: Scalar | Constant, step: int) -> bool:
    """Whether a counter that is signed, since it ends below 0 at most, is not below 0 in the body."""
    lowest = start if step > 0 else stop
    return isinstance(lowest, Constant) and int(lowest.value) >= (0 if step > 0 else -1)


def _goes_on(is_signed: bool, step: int) -> Jump:
    if step > 0:
        return Jump.JSLT if is_signed else Jump.JLT
    return Jump.JSGT if is_signed else Jump.JGT


def _highest(start: Scalar | Constant, stop: Scalar | Constant, step: int) -> int | None:
    """The highest that the counter can be in the body."""
    limit = known_limit(stop if step > 0 else start)
    return None if limit is None else max(limit - (step > 0), 0)


def _told(value: Value) -> str:
    if isinstance(value, Place):
        return "another struct"
    return str(value.type) if isinstance(value, Scalar) else describe(value)
