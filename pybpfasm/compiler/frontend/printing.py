"""`printk`: the format is checked against the arguments, and written for numbers of 64 bits, which all of ours are."""

import ast
import re
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.text import is_text
from pybpfasm.compiler.frontend.values import SIGNED, BoolType, Constant, Place, Scalar, Value, describe
from pybpfasm.ir.operations import Argument, Call, StackAddress
from pybpfasm.lang.types import IntType
from pybpfasm.uapi import Helper

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

# bpf_bprintf_prepare in kernel/trace/bpf_trace.c knows more: addresses, which programs here do not print.
_CONVERSION = re.compile(r"%(?P<flags>[-+ 0]*(?P<width>[0-9]*))(?P<letter>.?)")
_NUMBERS = "diuxX"

# MAX_BPRINTF_BUF of kernel/trace/bpf_trace.c, with the zero at the end.
_WIDEST = 1023
_WIDEST_DIGITS = 4

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
        self._print(node, *self._formatted(node, node.args))
        return Constant(None)

    def _formatted(self, node: ast.Call, given: list[ast.expr]) -> tuple[bytes, list[Argument]]:
        """The format, as the kernel wants it, and what goes into it."""
        lowering = self._lowering
        written = lowering.expressions.constant(given[0])
        if not isinstance(written, str):
            lowering.fail(given[0], f"a constant format is wanted, this is {describe(Constant(written))}")
        letters, text = self._translated(given[0], written)
        if len(letters) != len(given) - 1:
            lowering.fail(node, f"the format takes {len(letters)} arguments, here are {len(given) - 1}")
        arguments = [self._argument(*each) for each in zip(letters, given[1:], strict=True)]
        if len(arguments) > _MOST:
            lowering.fail(node, f"at most {_MOST} arguments are printed")
        return text.encode() + b"\0", arguments

    def into_text(self, node: ast.Call) -> Value:
        """The result of `snprintf`, whose first argument is written to."""
        lowering = self._lowering
        if node.keywords or len(node.args) < 2:
            lowering.fail(node, "snprintf() takes a text, a format and what goes into it, without names")
        if not lowering.target.for_each:
            lowering.fail(node, f"snprintf() needs Linux 5.13, this is compiled for {lowering.target.name}")
        target, room = lowering.probing.room(node.args[0])
        data, arguments = self._formatted(node, node.args[1:])
        text, size = lowering.variables.text(data), 8 * len(arguments)
        values: Argument = self._gathered(node, arguments) if arguments else 0
        result = lowering.value()
        lowering.emit(Call(result, Helper.SNPRINTF, (target, room, text, values, size), lowering.location(node)))
        return Scalar(result, SIGNED)

    def to_reader(self, node: ast.Call) -> Value:
        """The result of `seq_printf`, whose first argument is the reader's file."""
        lowering = self._lowering
        if node.keywords or len(node.args) < 2:
            lowering.fail(node, "seq_printf() takes meta.seq, a format and what goes into it, without names")
        data, arguments = self._formatted(node, node.args[1:])
        file = lowering.kernel.address_operand(node.args[0])
        text, size = lowering.variables.text(data), 8 * len(arguments)
        values: Argument = self._gathered(node, arguments) if arguments else 0
        result = lowering.value()
        call = Call(result, Helper.SEQ_PRINTF, (file, text, len(data), values, size), lowering.location(node))
        lowering.emit(call)
        return Scalar(result, SIGNED)

    def _translated(self, node: ast.expr, written: str) -> tuple[list[str], str]:
        """The letter of each conversion, and the format as the kernel wants it."""
        letters: list[str] = []
        strange = next(
            (each for each in written if not each.isascii() or not (each.isprintable() or each.isspace())), ""
        )
        if strange:
            self._lowering.fail(node, f"the kernel prints ASCII only, without control characters: {strange!a} is none")

        def translate(found: re.Match[str]) -> str:
            letter = found["letter"]
            if letter == "%" and not found["flags"]:
                return "%%"
            if letter not in (*_NUMBERS, "c", "s") or not letter:
                reason = f"`{found[0]}` is no conversion: %d, %u, %x, %X, %c, %s and %% are"
                self._lowering.fail(node, reason)
            if len(found["width"]) > _WIDEST_DIGITS or int(found["width"] or 0) > _WIDEST:
                self._lowering.fail(node, f"`{found[0][:20]}` is wider than a line can be: {_WIDEST} at most")
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
        if not isinstance(self._lowering.expressions.scalar_type_or_none(value), IntType | BoolType):
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
        values = self._gathered(node, arguments)
        lowering.emit(Call(None, Helper.TRACE_VPRINTK, (text, len(data), values, 8 * len(arguments)), location))

    def _gathered(self, node: ast.Call, arguments: list[Argument]) -> StackAddress:
        """The arguments in a row on the stack."""
        lowering = self._lowering
        slot = lowering.slot(8 * len(arguments))
        for index, argument in enumerate(arguments):
            lowering.access.store(node, StackAddress(slot), 8 * index, 8, lowering.in_register(node, argument))
        return StackAddress(slot)
