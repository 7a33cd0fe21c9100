"""Timers of maps' values.

r1 map  r2 key  r3 value         what the callback gets
"""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.memory import holds_special
from pybpfasm.compiler.frontend.values import SIGNED, Constant, Scalar, Value, describe
from pybpfasm.ir.operations import Argument, Call
from pybpfasm.lang import timers as lang
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_HELPERS: dict[Callable[..., Any], Helper] = {
    lang.timer_init: Helper.TIMER_INIT,
    lang.timer_set_callback: Helper.TIMER_SET_CALLBACK,
    lang.timer_start: Helper.TIMER_START,
    lang.timer_cancel: Helper.TIMER_CANCEL,
}


class Timers:
    """Compiles calls of these functions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each."""
        return {each: self._rule(each) for each in _HELPERS}

    def _rule(self, function: Callable[..., Any]) -> Callable[[ast.Call], Value]:
        return lambda node: self._call(node, function)

    def _call(self, node: ast.Call, function: Callable[..., Any]) -> Value:
        lowering = self._lowering
        if not lowering.target.timers:
            name = lowering.target.name
            lowering.fail(node, f"{function.__name__}() needs Linux 5.15, this is compiled for {name}")
        bound = lowering.calls.bind(node, function)
        timer = self._timer(bound["timer"])
        others: tuple[Argument, ...]
        match function:
            case lang.timer_init:
                entries = self._entries(bound["entries"])
                clock = self._number(bound["clock"]) if "clock" in bound else lang.CLOCK_MONOTONIC
                others = (lowering.maps.address(node, entries), clock)
            case lang.timer_set_callback:
                others = (lowering.callbacks.for_entries(node, self._entries(bound["entries"]), bound["body"]),)
            case lang.timer_start:
                others = (self._number(bound["nanoseconds"]), self._number(bound["flags"]) if "flags" in bound else 0)
            case _:
                others = ()
        result = lowering.value()
        lowering.emit(Call(result, _HELPERS[function], (timer, *others), lowering.location(node)))
        return Scalar(result, SIGNED)

    def _timer(self, node: ast.expr) -> Argument:
        on_stack = "and gone when the program ends: use that"
        return self._lowering.memory.special(node, lang.Timer, "timer", on_stack)

    def _entries(self, node: ast.expr) -> MapDeclaration[Any, Any]:
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if not (isinstance(value, Constant) and isinstance(value.value, MapDeclaration)):
            lowering.fail(node, f"the map that the timer lies in is wanted, this is {describe(value)}")
        if not holds_special(lowering.maps.value_layout(node, value.value)):
            lowering.fail(node, "the values of this map have no Timer")
        return value.value

    def _number(self, node: ast.expr) -> Argument:
        return self._lowering.expressions.operand(node, self._lowering.expressions.number(node))
