"""Callbacks: `loop(n, body, context)` and `map.for_each(body, context)`.

r1 index  r2 context                       loop
r1 map    r2 key      r3 value  r4 context for_each
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.access import on_stack
from pybpfasm.compiler.frontend.expressions import known_limit
from pybpfasm.compiler.frontend.functions import Parameter
from pybpfasm.compiler.frontend.values import (
    SIGNED,
    UNSIGNED,
    Constant,
    Place,
    Pointer,
    Scalar,
    Value,
    describe,
)
from pybpfasm.ir.operations import Argument, Call, FunctionReference
from pybpfasm.ir.types import SCALAR, Kind, Type
from pybpfasm.lang.callbacks import loop
from pybpfasm.lang.dynptrs import Dynptr
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.lang.queues import UserRingBuf
from pybpfasm.lang.types import IntType, NetworkType, StructType, value_type
from pybpfasm.records import evolve
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.annotations import Expected
    from pybpfasm.compiler.frontend.lowering import Lowering

# BPF_MAX_LOOPS of include/linux/bpf_verifier.h.
_MOST_ROUNDS = 1 << 23

_WHETHER_TO_END = range(2)
_NOTHING = range(1)


class Callbacks:
    """Compiles calls of helpers that call back."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering

    def loop(self, node: ast.Call) -> Value:
        """The number of rounds."""
        lowering = self._lowering
        if not lowering.target.bpf_loop:
            reason = f"loop() needs Linux 5.17, this is compiled for {lowering.target.name}"
            lowering.fail(node, f"{reason}: write `for … in range(…)`")
        bound = lowering.calls.bind(node, loop)
        rounds = lowering.expressions.number(bound["rounds"])
        if isinstance(rounds, Constant) and not 0 <= int(rounds.value) <= _MOST_ROUNDS:
            lowering.fail(bound["rounds"], f"loop() goes {_MOST_ROUNDS} rounds at most")
        function = self._function(bound["body"])
        limit = known_limit(rounds)
        index = Parameter("index", SCALAR, UNSIGNED, (1 << 32) - 1 if limit is None else max(limit - 1, 0))
        context = self._context(bound.get("context"))
        reference = self._compiled(node, function, [index], context)
        operand = lowering.expressions.operand(node, rounds)
        return self._call(node, Helper.LOOP, operand, reference, context)

    def for_each(self, node: ast.Call, declaration: MapDeclaration[Any, Any]) -> Value:
        """The number of entries that were visited."""
        lowering = self._lowering
        if not lowering.target.for_each:
            lowering.fail(node, f"for_each() needs Linux 5.13, this is compiled for {lowering.target.name}")
        bound = lowering.calls.bind(node, declaration.for_each)  # type: ignore[attr-defined]  # as the caller knows
        function = self._function(bound["body"])
        entry, key_type = self._entry(node, declaration)
        context = self._context(bound.get("context"))
        address = lowering.maps.address(node, declaration)
        reference = self._compiled(node, function, entry, context, self._key_read(function, key_type))
        return self._call(node, Helper.FOR_EACH_MAP_ELEM, address, reference, context)

    def drain(self, node: ast.Call, buffer: UserRingBuf) -> Value:
        """The number of records that were there."""
        lowering = self._lowering
        if not lowering.target.dynptrs:
            lowering.fail(node, f"drain() needs Linux 6.1, this is compiled for {lowering.target.name}")
        bound = lowering.calls.bind(node, buffer.drain)
        function = self._function(bound["body"])
        data = Parameter("data", Type(Kind.MEMORY), target=Dynptr)
        context = self._context(bound.get("context"))
        reference = self._compiled(node, function, [data], context)
        return self._call(node, Helper.USER_RINGBUF_DRAIN, lowering.maps.address(node, buffer), reference, context)

    def for_entries(self, node: ast.Call, declaration: MapDeclaration[Any, Any], body: ast.expr) -> FunctionReference:
        """A callback that gets a key and a value of a map, once and later: what it returns means nothing."""
        function = self._function(body)
        entry, key_type = self._entry(node, declaration)
        return self._compiled(node, function, entry, None, self._key_read(function, key_type), _NOTHING)

    def _entry(self, node: ast.Call, declaration: MapDeclaration[Any, Any]) -> tuple[list[Parameter], Any]:
        """A map, a key and a value, as callbacks get them, and the key's type."""
        layout = self._lowering.maps.value_layout(node, declaration)
        key_type: Any = value_type(declaration.key_annotation)
        key = Parameter("key", Type(Kind.MEMORY), target=key_type)  # or a number, which is read then
        map_ = Parameter("map", Type(Kind.MAP), target=layout)
        return [map_, key, Parameter("value", Type(Kind.MAP_VALUE), target=layout)], key_type

    def _function(self, node: ast.expr) -> Any:
        value = self._lowering.expressions.value(node)
        if not isinstance(value, Constant) or not hasattr(value.value, "__bpf_callback__"):
            found = describe(value)
            self._lowering.fail(node, f"a function that is marked @callback is wanted, this is {found}")
        return value.value

    def _context(self, node: ast.expr | None) -> tuple[Parameter, Argument] | None:
        if node is None:
            return None
        lowering = self._lowering
        value = lowering.expressions.value(node)
        match value:
            case Constant(value=None):
                return None
            case Pointer(kind=Kind.STACK, target=StructType() as layout, operand=operand, nullable=False):
                return Parameter("context", Type(Kind.STACK), target=layout), operand
            case Place(type=StructType() as layout) if on_stack(value.base):
                return Parameter("context", Type(Kind.STACK), target=layout), lowering.memory.address(value, node)
            case Pointer() | Place():
                reason = "the context of a callback is a struct on the stack: build one, and copy what it is to know"
                lowering.fail(node, reason)
            case _:
                lowering.fail(node, f"a struct is wanted here, this is {describe(value)}")

    def _compiled(
        self,
        node: ast.Call,
        function: Any,
        given: list[Parameter],
        context: tuple[Parameter, Argument] | None,
        prepare: Callable[[dict[str, Any]], None] | None = None,
        allowed: range = _WHETHER_TO_END,
    ) -> FunctionReference:
        """The callback, its parameters named as it names them, and checked."""
        lowering = self._lowering
        hints = lowering.calls.hints(node, function)
        names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
        visible = [each for each in given if each.name != "map"] + ([context[0]] if context is not None else [])
        if len(names) != len(visible) or any(name not in hints for name in names) or "return" not in hints:
            wanted = ", ".join(_declared(each) for each in visible)
            lowering.fail(node, f"this callback is declared `def {function.__name__}({wanted}) -> int`")
        for name, parameter in zip(names, visible, strict=True):
            self._check(node, function, name, lowering.calls.expected(node, hints[name]), parameter)
        renamed = [evolve(each, name=name) for name, each in zip(names, visible, strict=True)]
        hidden = [each for each in given if each.name == "map"]
        parameters = tuple([evolve(each, name="<map>") for each in hidden] + renamed)
        if lowering.calls.expected(node, hints["return"]).nothing:
            lowering.fail(node, f"{function.__name__} returns None: a callback returns 0 to go on or 1 to end")
        return FunctionReference(lowering.functions.compiled(node, function, parameters, prepare, allowed).function)

    def _check(self, node: ast.AST, function: Any, name: str, declared: Expected, parameter: Parameter) -> None:
        if not _fits(declared, parameter):
            wanted = _declared(parameter).removeprefix(f"{parameter.name}: ")
            reason = f"parameter `{name}` of {function.__name__} is {declared}, {wanted} is what it gets"
            self._lowering.fail(node, reason)

    def _key_read(self, function: Any, key_type: Any) -> Callable[[dict[str, Any]], None] | None:
        """What a callback does first with a key that is a number: read it."""
        if isinstance(key_type, StructType):
            return None
        name = function.__code__.co_varnames[0]

        def read(names: dict[str, Any]) -> None:
            pointer = names[name]
            place = Place(pointer.operand, 0, key_type)
            names[name] = self._lowering.memory.read(place, self._lowering.frame.source.tree)

        return read

    def _call(
        self,
        node: ast.AST,
        helper: Helper,
        first: Argument,
        reference: FunctionReference,
        context: tuple[Parameter, Argument] | None,
    ) -> Value:
        lowering = self._lowering
        result = lowering.value()
        arguments = (first, reference, 0 if context is None else context[1], 0)
        lowering.emit(Call(result, int(helper), arguments, lowering.location(node)))
        return Scalar(result, SIGNED)


def _fits(declared: Expected, parameter: Parameter) -> bool:
    target: Any = parameter.target
    match target:
        case StructType() | type():
            return declared.target == target
        case NetworkType():
            return declared.scalar == target
        case IntType():
            return declared.any_int or declared.scalar == target
        case _:
            return declared.any_int or declared.scalar in (IntType(32), UNSIGNED)


def _declared(parameter: Parameter) -> str:
    target = parameter.target
    wanted = "u32" if target is None else target.__name__ if isinstance(target, type) else str(target)
    return f"{parameter.name}: {wanted}"
