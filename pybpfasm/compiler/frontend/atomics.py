"""Atomic changes of fields: their first argument is a place, and not what lies there."""

import ast
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.access import on_stack
from pybpfasm.compiler.frontend.values import Constant, Place, Pointer, Value, describe
from pybpfasm.ir.operations import AtomicUpdate, Number
from pybpfasm.isa import Atomic
from pybpfasm.lang import atomics as lang
from pybpfasm.lang.types import IntType

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# The instruction, and whether what was there before is wanted.
_RULES: dict[Callable[..., Any], tuple[Atomic, bool]] = {
    lang.atomic_add: (Atomic.ADD, False),
    lang.atomic_or: (Atomic.OR, False),
    lang.atomic_and: (Atomic.AND, False),
    lang.atomic_xor: (Atomic.XOR, False),
    lang.fetch_add: (Atomic.ADD, True),
    lang.fetch_or: (Atomic.OR, True),
    lang.fetch_and: (Atomic.AND, True),
    lang.fetch_xor: (Atomic.XOR, True),
    lang.exchange: (Atomic.XCHG, True),
    lang.compare_exchange: (Atomic.CMPXCHG, True),
    lang.load_acquire: (Atomic.LOAD_ACQUIRE, True),
    lang.store_release: (Atomic.STORE_RELEASE, False),
}
_ORDERED = (Atomic.LOAD_ACQUIRE, Atomic.STORE_RELEASE)


class Atomics:
    """Compiles calls of these functions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    @staticmethod
    def knows(function: Any) -> bool:
        """Whether a function is one of these."""
        return isinstance(function, FunctionType) and function in _RULES

    def call(self, node: ast.Call, function: Callable[..., Any]) -> Value:
        """The result of a call."""
        lowering = self._lowering
        code, fetches = _RULES[function]
        self._check_target(node, function.__name__, code, fetches=fetches)
        bound = lowering.calls.bind(node, function)
        place, type_ = self._place(bound["field"])
        numbers = {name: self._number(bound[name], place) for name in ("expected", "number") if name in bound}
        result = lowering.value() if fetches else None
        lowering.emit(
            AtomicUpdate(
                code,
                result,
                place.base,
                place.offset,
                type_.size,
                numbers.get("number", 0),
                lowering.location(node),
                numbers.get("expected"),
            )
        )
        return Constant(None) if result is None else lowering.memory.number(result, type_, node)

    def _check_target(self, node: ast.AST, name: str, code: Atomic, *, fetches: bool) -> None:
        target = self._lowering.target
        if code in _ORDERED:
            if not target.load_acquire:
                self._lowering.fail(node, f"{name}() needs Linux 6.15, this is compiled for {target.name}")
        elif (fetches or code is not Atomic.ADD) and not target.fetching_atomics:
            self._lowering.fail(node, f"{name}() needs Linux 5.12, this is compiled for {target.name}")

    def _place(self, node: ast.expr) -> tuple[Place, IntType]:
        lowering = self._lowering
        found: Any = None
        if isinstance(node, ast.Attribute):
            owner = lowering.expressions.value(node.value)
            if isinstance(owner, Pointer) and not owner.is_struct:
                lowering.fail(node, "a context has no atomic fields")
            found = lowering.memory.field(node, owner)
        elif isinstance(node, ast.Subscript):
            found = lowering.indexing.find(node)
        if not isinstance(found, Place):
            lowering.fail(node, "a field or an element is wanted here, as in atomic_add(entry.count, 1)")
        if on_stack(found.base):
            lowering.fail(node, "this is on the stack, where no other CPU sees it: assign it")
        type_ = found.type
        if not isinstance(type_, IntType) or type_.size < 4 or found.bits is not None:
            what = "a bit field" if found.bits is not None else describe(found)
            lowering.fail(node, f"only u32, u64, i32 and i64 are changed at once, this is {what}")
        lowering.variables.check_writable(node, found)
        return found, type_

    def _number(self, node: ast.expr, place: Place) -> Number:
        value = self._lowering.expressions.number(node)
        return self._lowering.memory.fitting(node, value, place.type, "the field")
