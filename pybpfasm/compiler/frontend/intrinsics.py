"""Functions of the language that the compiler knows by themselves, and what compiles a call of each."""

import ast
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.values import Value
from pybpfasm.lang.kernel_structs import kernel_pointer
from pybpfasm.lang.packets import csum_diff
from pybpfasm.lang.probing import seq_printf

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

Rule = Callable[[ast.Call], Value]


class Intrinsics:
    """The table of them."""

    def __init__(self, lowering: "Lowering") -> None:
        self._rules: dict[Callable[..., Any], Rule] = {
            csum_diff: lowering.checksums.difference,
            kernel_pointer: lowering.kernel.cast,
            **lowering.probing.rules(),
            seq_printf: lowering.printing.to_reader,
        }

    def rule(self, function: Any) -> Rule | None:
        """What compiles a call of the function, if it is one of these."""
        return self._rules.get(function) if inspect.isfunction(function) else None
