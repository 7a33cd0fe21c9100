"""Functions of the language that the compiler knows by themselves, and what compiles a call of each.

By the module that has the function it is found which part of this step has its rule; the part is imported then.
"""

import ast
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import Value

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

Rule = Callable[[ast.Call], Value]
Rules = dict[Callable[..., Any], Rule]

_PARTS: "dict[str, Callable[[Lowering], Rules]]" = {
    "pybpfasm.lang.assembly": lambda lowering: lowering.assembly.rules(),
    "pybpfasm.lang.kernel_structs": lambda lowering: lowering.kernel.rules(),
    "pybpfasm.lang.kptrs": lambda lowering: lowering.kptrs.rules(),
    "pybpfasm.lang.packets": lambda lowering: lowering.checksums.rules(),
    "pybpfasm.lang.probing": lambda lowering: lowering.probing.rules(),
    "pybpfasm.lang.sockets": lambda lowering: lowering.sockets.rules(),
    "pybpfasm.lang.tracing": lambda lowering: lowering.arguments.rules(),
    "pybpfasm.lang.timers": lambda lowering: lowering.timers.rules(),
}


class Intrinsics:
    """The tables of them."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering
        self._known: dict[str, Rules] = {}

    def rule(self, function: Any) -> Rule | None:
        """What compiles a call of the function, if it is one of these."""
        if not isinstance(function, FunctionType):
            return None
        module = function.__module__
        if module not in self._known:
            part = _PARTS.get(module)
            self._known[module] = part(self._lowering) if part is not None else {}
        return self._known[module].get(function)
