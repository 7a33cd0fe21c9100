"""`printk`: the format is checked against the arguments, and written for numbers of 64 bits, which all of ours are."""

import ast
import re
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.text import is_text
from pybpfasm.compiler.frontend.values import Constant, Place, Value, describe
from pybpfasm.ir.operations import Argument, Call, StackAddress
from pybpfasm.lang.types import IntType
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# bpf_bprintf_prepare in kernel/trace/bpf_trace.c knows more: addresses, which programs here do not print.
_CONVERSION = re.compile(r"%(?P<flags>[-+ 0]*\d*)(?P<letter>.?)")
_NUMBERS = "diuxX"

# So many arguments bpf_trace_printk takes; more of them bpf_trace_vprintk (Linux 5.16, 10aceb629e19).
_FEW = 3
_MOST = 12


class Printing:
    """Compiles `printk`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def call(self, node: ast.Call) -> Value:
        """A line in the trace."""
        lowering = self._lowering
        if node.keywords or not node.args:
            lowering.fail(node, "printk() takes a format and what goes into it, without names")
        written = lowering.expressions.constant(node.args[0])
        if not isinstance(written, str):
            lowering.fail(node.args[0], f"a constant format is wanted, this is {describe(Constant(written))}")
        letters, text = self._translated(node.args[0], written)
        if len(letters) != len(node.args) - 1:
            lowering.fail(node, f"the format takes {len(letters)} arguments, here are {len(node.args) - 1}")
        arguments = [self._argument(*each) for each in zip(letters, node.args[1:], strict=True)]
        data = text.encode() + b"\0"
        self._print(node, data, arguments)
        return Constant(None)

    def _translated(self, node: ast.expr, written: str) -> tuple[list[str], str]:
        """The letter of each conversion, and the format as the kernel wants it."""
        letters: list[str] = []

        def translate(found: re.Match[str]) -> str:
            letter = found["letter"]
            if letter == "%" and not found["flags"]:
                return "%%"
            if letter not in (*_NUMBERS, "c", "s") or not letter:
                reason = f"`{found[0]}` is no conversion: %d, %u, %x, %X, %c, %s and %% are"
                self._lowering.fail(node, reason)
            letters.append(letter)
            return f"%{found['flags']}{'ll' if letter in _NUMBERS else ''}{letter}"

        return letters, _CONVERSION.sub(translate, written)

    def _argument(self, letter: str, node: ast.expr) -> Argument:
        value = self._lowering.expressions.value(node)
        if letter == "s":
            if not is_text(value):
                self._lowering.fail(node, f"%s takes text, this is {describe(value)}")
            assert isinstance(value, Place)  # noqa: S101 - text is one
            return self._lowering.memory.address(value, node)
        if not isinstance(self._lowering.expressions.scalar_type_or_none(value), IntType):
            hint = ": %s takes it" if is_text(value) else ""
            self._lowering.fail(node, f"%{letter} takes a number, this is {describe(value)}{hint}")
        return self._lowering.expressions.operand(node, self._lowering.expressions.as_number(node, value))

    def _print(self, node: ast.Call, data: bytes, arguments: list[Argument]) -> None:
        lowering, location = self._lowering, self._lowering.location(node)
        text = lowering.variables.text(data)
        if len(arguments) <= _FEW:
            lowering.emit(Call(None, Helper.TRACE_PRINTK, (text, len(data), *arguments), location))
            return
        if not lowering.target.trace_vprintk:
            reason = f"printk() of more than {_FEW} arguments needs Linux 5.16"
            lowering.fail(node, f"{reason}, this is compiled for {lowering.target.name}: print two lines")
        if len(arguments) > _MOST:
            lowering.fail(node, f"printk() takes at most {_MOST} arguments")
        slot = lowering.slot(8 * len(arguments))
        for index, argument in enumerate(arguments):
            lowering.access.store(node, StackAddress(slot), 8 * index, 8, lowering.in_register(node, argument))
        call = Call(None, Helper.TRACE_VPRINTK, (text, len(data), StackAddress(slot), 8 * len(arguments)), location)
        lowering.emit(call)
