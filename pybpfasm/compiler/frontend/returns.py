"""Where a `return` leads: out of the program, or to the place that an inline function was called from."""

import ast
from typing import TYPE_CHECKING, Protocol

from pybpfasm.compiler.frontend.annotations import Expected
from pybpfasm.compiler.frontend.conditions import RESULT
from pybpfasm.compiler.frontend.expressions import known_limit
from pybpfasm.compiler.frontend.values import UNSIGNED, Constant, Place, Pointer, PointerTarget, Scalar, Value, describe
from pybpfasm.ir.operations import Return
from pybpfasm.lang.types import StructType
from pybpfasm.records import define, evolve

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.paths import Junction


class ReturnTarget(Protocol):
    """What to do with a `return` statement, or with the end of the function (`value` is None then)."""

    def leave(self, node: ast.AST, value: ast.expr | None) -> None:
        """Compile the statement at `node`."""


@define
class FromProgram:
    """The program's own return: a number that the kernel gives a meaning to."""

    lowering: "Lowering"

    def leave(self, node: ast.AST, value: ast.expr | None) -> None:
        """End the program."""
        kind = self.lowering.kind
        if value is None:
            self.lowering.fail(
                node, f"`return` without a value: a program gives a number, {kind.returns[0]} to {kind.returns[-1]}"
            )
        result = self.lowering.expressions.number(value)
        if isinstance(result, Constant) and result.value not in kind.returns:
            reason = f"{int(result.value)} is no result of this program: {kind.returns[0]} to {kind.returns[-1]} are"
            self.lowering.fail(value, reason)
        operand = self.lowering.expressions.operand(value, result)
        self.lowering.clean_up(node)
        self.lowering.emit(Return(operand, self.lowering.location(node)))
        self.lowering.frame.names = None


@define
class ToCaller:
    """An inline function's return: each path brings its value to where the caller goes on."""

    lowering: "Lowering"
    expected: Expected
    exit: "Junction"
    result: Value | None = None

    def leave(self, node: ast.AST, value: ast.expr | None) -> None:
        """Hand the value over and go on at the caller."""
        brought: dict[str, Value] = {}
        if value is None:
            if not self.expected.nothing:
                self.lowering.fail(node, f"`return` without a value: the function returns {self.expected}")
            self._agree(node, Constant(None))
        elif self.expected.nothing:
            self.lowering.fail(value, "the function is declared to return None")
        else:
            found = self.lowering.expressions.value(value)
            brought[RESULT] = self._hand_over(value, self.expected.accept(self.lowering, value, found))
            self._agree(value, brought[RESULT])
        self.lowering.clean_up(node)
        self.lowering.goto(self.exit, node, brought)

    def _hand_over(self, node: ast.expr, value: Value) -> Value:
        match value:
            case Pointer():
                return evolve(value, nullable=value.nullable or self.expected.nullable)
            case Constant(value=None):
                return Pointer(0, self._target(node), nullable=True)
            case Place(type=StructType()) if self.expected.nullable:
                return self.lowering.memory.naming(node, value)
            case Place():
                return value
            case _:
                if not isinstance(value, Scalar | Constant):
                    self.lowering.fail(node, f"{describe(value)} cannot be returned")
                operand = self.lowering.expressions.operand(node, value)
                seen = isinstance(value, Constant) or value.seen
                type_ = self.lowering.expressions.scalar_type(value)
                return Scalar(operand, type_, known_limit(value) if type_ == UNSIGNED else None, seen)

    def _target(self, node: ast.expr) -> PointerTarget:
        """What None is returned in the place of."""
        if self.expected.target is not None:
            return self.expected.target
        if not isinstance(self.result, Pointer):
            self.lowering.fail(node, "of what this is None is not known here: return a pointer above it")
        return self.result.target

    def _agree(self, node: ast.AST, value: Value) -> None:
        if self.result is None or self.result == value:
            self.result = value
        elif isinstance(value, Pointer) and isinstance(self.result, Pointer) and value.target == self.result.target:
            self.result = evolve(value, nullable=value.nullable or self.result.nullable)
        elif isinstance(value, Scalar) and isinstance(self.result, Scalar):
            if value.type == self.result.type:
                return
            reason = f"this returns {value.type}, another `return` of the function {self.result.type}: declare `-> i64`"
            self.lowering.fail(node, reason)
        else:
            reason = f"this returns {describe(value)}, another `return` of the function {describe(self.result)}"
            self.lowering.fail(node, reason)


@define
class ToCondition:
    """The return of an inline function that is called as a condition: each `return` is itself a branch."""

    lowering: "Lowering"
    yes: "Junction"
    no: "Junction"

    def leave(self, node: ast.AST, value: ast.expr | None) -> None:
        """Branch on the value."""
        if value is None:
            self.lowering.fail(node, "`return` without a value: the function returns bool")
        lowering = self.lowering
        if not lowering.frame.cleanups:
            lowering.conditions.branch(value, self.yes, self.no, only_bools=True)
            lowering.frame.names = None
            return
        sides = (lowering.junction(), self.yes), (lowering.junction(), self.no)
        lowering.conditions.branch(value, sides[0][0], sides[1][0], only_bools=True)
        for side, target in sides:
            lowering.enter(side)
            if lowering.reachable:
                lowering.clean_up(node)
                lowering.goto(target, node)
        lowering.frame.names = None
