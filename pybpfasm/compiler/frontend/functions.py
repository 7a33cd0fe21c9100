"""Functions of their own in the instructions: subprograms, which programs call, and callbacks, which helpers call.

Each is compiled once for each kind of arguments: what a pointer points to decides which accesses are possible, and
whether a number is signed what is computed with it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.annotations import Expected
from pybpfasm.compiler.frontend.diagnostics import CompileError
from pybpfasm.compiler.frontend.source import Source
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    Constant,
    Place,
    Pointer,
    PointerTarget,
    Scalar,
    ScalarType,
    Value,
    describe,
)
from pybpfasm.ir.function import Function as IrFunction
from pybpfasm.ir.operations import Argument, CallFunction, Return, StackAddress
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.lang.types import IntType
from pybpfasm.records import define, frozen

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

Function = Callable[..., Any]

# r1 to r5.
MOST_PARAMETERS = 5


@frozen
class Parameter:
    """What a function gets: a number of a type, or an address of a kind that points to something."""

    name: str
    type: Type
    number: ScalarType | None = None
    limit: int | None = None
    target: PointerTarget | None = None

    def inside(self, value: IrValue) -> Value:
        """As the function itself sees it."""
        if self.number is not None:
            return Scalar(value, self.number, self.limit, seen=False)
        assert self.target is not None  # noqa: S101 - an address points to something
        return Pointer(value, self.target, self.type.nullable, self.type.kind)


@define(eq=False)
class Compiled:
    """A function and the type of its result; None for one that returns None."""

    function: IrFunction
    result: ScalarType | None = None
    limit: int | None = None


@define
class FromFunction:
    """The return of a subprogram or a callback: a number in r0."""

    lowering: Lowering
    compiled: Compiled
    expected: Expected
    allowed: range | None = None

    def leave(self, node: ast.AST, value: ast.expr | None) -> None:
        """End the function."""
        lowering = self.lowering
        operand: Any = 0
        if value is None:
            if not self.expected.nothing:
                lowering.fail(node, f"`return` without a value: the function returns {self.expected}")
        elif self.expected.nothing:
            lowering.fail(value, "the function is declared to return None")
        else:
            found = self.expected.accept(lowering, value, lowering.expressions.value(value))
            if not isinstance(found, Scalar | Constant):
                lowering.fail(value, f"{describe(found)} cannot be returned")
            if self.allowed is not None and isinstance(found, Constant) and found.value not in self.allowed:
                reason = f"this callback returns 0, not {int(found.value)}"
                if len(self.allowed) > 1:
                    reason = f"a callback returns 0 to go on or 1 to end, not {int(found.value)}"
                lowering.fail(value, reason)
            self._agree(value, found)
            operand = lowering.expressions.operand(value, found)
        lowering.clean_up(node)
        lowering.emit(Return(operand, lowering.location(node)))
        lowering.frame.names = None

    def _agree(self, node: ast.AST, value: Scalar | Constant) -> None:
        type_ = self.lowering.expressions.scalar_type(value)
        known = self.compiled.result
        if known is None or (known == UNSIGNED and type_ == SIGNED and self.only_constants):
            self.compiled.result = type_
        elif known != type_ and not (isinstance(value, Constant) and known in (SIGNED, UNSIGNED)):
            reason = f"this returns {type_}, another `return` of the function {known}: declare `-> i64`"
            self.lowering.fail(node, reason)
        self.only_constants = self.only_constants and isinstance(value, Constant)

    only_constants: bool = True


class Functions:
    """Compiles them, and calls of subprograms."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering
        self._compiled: dict[Any, Compiled] = {}
        self._building: list[Function] = []
        self.all: list[IrFunction] = []

    def call(self, node: ast.Call, function: Function) -> Value:
        """The result of a subprogram."""
        lowering = self._lowering
        given = lowering.calls.given(node, function)
        if len(given) > MOST_PARAMETERS:
            source = Source.of(function)
            reason = f"a subprogram has at most {MOST_PARAMETERS} parameters: hand over a struct"
            raise CompileError(source.location(source.tree), reason)
        accepted = [(each.name, each.node, each.wanted, each.value) for each in given]
        handed = [self._handed(*each) for each in self._with_signs(accepted)]
        parameters, arguments = [each[0] for each in handed], [each[1] for each in handed]
        compiled = self.compiled(node, function, tuple(parameters))
        result = None if compiled.result is None else lowering.value()
        lowering.emit(CallFunction(result, compiled.function, tuple(arguments), lowering.location(node)))
        if result is None or compiled.result is None:
            return Constant(None)
        return Scalar(result, compiled.result, compiled.limit, seen=False)

    def _with_signs(
        self, accepted: list[tuple[str, ast.expr, Expected, Value]]
    ) -> list[tuple[str, ast.expr, Expected, Value]]:
        """Constants for parameters that are declared `int` are signed where another number for such a one is."""
        types = [
            self._lowering.expressions.scalar_type_or_none(value) for _, _, wanted, value in accepted if wanted.any_int
        ]
        if SIGNED not in types:
            return accepted
        return [
            (name, node, wanted, Scalar(int(value.value), SIGNED))
            if wanted.any_int and isinstance(value, Constant)
            else (name, node, wanted, value)
            for name, node, wanted, value in accepted
        ]

    def _handed(self, name: str, node: ast.expr, wanted: Expected, value: Value) -> tuple[Parameter, Argument]:
        """A parameter and its argument, from a value that was accepted."""
        lowering = self._lowering
        match value:
            case Pointer(operand=operand, kind=kind, target=target):
                return Parameter(name, Type(kind, wanted.nullable), target=target), operand
            case Place():
                address = lowering.memory.address(value, node)
                target = wanted.pointer_target()
                kind = _kind_of(address)
                return Parameter(name, Type(kind, wanted.nullable), target=target), address
            case Constant(value=None):
                return Parameter(name, Type(Kind.MEMORY, nullable=True), target=wanted.pointer_target()), 0
            case Scalar() | Constant():
                number = lowering.expressions.scalar_type(value)
                limit = _limit_of(wanted) if number == UNSIGNED else None
                return Parameter(name, SCALAR, number, limit), lowering.expressions.operand(node, value)
            case _:
                lowering.fail(node, f"{describe(value)} cannot be handed to a subprogram")

    def compiled(
        self,
        node: ast.AST,
        function: Function,
        parameters: tuple[Parameter, ...],
        prepare: Callable[[dict[str, Any]], None] | None = None,
        allowed: range | None = None,
    ) -> Compiled:
        """The function for such parameters; `prepare` may change what it knows of their names at its start."""
        key = (function, parameters)
        if function in self._building:
            self._lowering.fail(node, f"{function.__name__} calls itself, which no function can here: write a loop")
        if key not in self._compiled:
            self._compiled[key] = self._compile(node, function, parameters, prepare, allowed)
        return self._compiled[key]

    def _compile(
        self,
        node: ast.AST,
        function: Function,
        parameters: tuple[Parameter, ...],
        prepare: Callable[[dict[str, Any]], None] | None,
        allowed: range | None,
    ) -> Compiled:
        from pybpfasm.compiler.frontend.lowering import Frame

        lowering = self._lowering
        source = Source.of(function)
        lowering.statements.check_parameters(source, plain=allowed is not None)
        wanted = lowering.calls.expected(node, lowering.calls.hints(node, function).get("return", None))
        if wanted.target is not None:
            lowering.fail(node, f"{function.__name__} returns {wanted}: a function of its own returns a number or None")
        made = Compiled(IrFunction(self._name(source.tree.name), source.location(source.tree)), limit=_limit_of(wanted))
        self.all.append(made.function)
        values = {each.name: each.inside(made.function.parameter(each.type, each.name)) for each in parameters}
        outer = lowering.function, lowering.block, lowering.frames
        lowering.function, lowering.block, lowering.frames = made.function, made.function.entry, []
        self._building.append(function)
        before = lowering.findings.met
        try:
            assigned = {each.name for each in parameters if each.number is not None}
            returns = FromFunction(lowering, made, wanted, allowed)
            lowering.frames.append(
                Frame(source, returns, dict(values), assigned, self._declared(node, function, assigned))
            )
            lowering.names.visit(function)
            if prepare is not None:
                names: dict[str, Any] = dict(values)
                prepare(names)
                lowering.frame.names = names
            lowering.statements.function(source)
        finally:
            self._building.pop()
            lowering.function, lowering.block, lowering.frames = outer
        lowering.give_up_if(before)
        return made

    def _declared(self, node: ast.AST, function: Function, names: set[str]) -> dict[str, Expected]:
        """What the parameters are declared to be: what is assigned to them is cut to that."""
        calls = self._lowering.calls
        return {name: calls.expected(node, hint) for name, hint in calls.hints(node, function).items() if name in names}

    def _name(self, wanted: str) -> str:
        taken = {self._lowering.program_name, *(each.name for each in self.all)}
        number, name = 1, wanted
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        return name


def _kind_of(address: Argument) -> Kind:
    if isinstance(address, StackAddress):
        return Kind.STACK
    return address.type.kind if isinstance(address, IrValue) else Kind.MAP_VALUE


def _limit_of(wanted: Expected) -> int | None:
    scalar = wanted.scalar
    if isinstance(scalar, IntType) and not scalar.signed and scalar.bits < 64:
        return (1 << scalar.bits) - 1
    return None
