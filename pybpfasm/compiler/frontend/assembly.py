"""`asm("…", x)`: instructions of the text go into the program as they are."""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybpfasm import isa
from pybpfasm.compiler.frontend.values import UNSIGNED, Place, Pointer, Scalar, Value
from pybpfasm.ir.operations import Argument, Assembly
from pybpfasm.isa import Instruction
from pybpfasm.isa.opcodes import CALL, Class
from pybpfasm.lang.assembly import asm

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

_MOST_INPUTS = 5
_LAST_FREE = 5
_WRITING = (Class.ALU, Class.ALU64, Class.LD, Class.LDX)
_FRAME_POINTER = 10


class InlineAssembly:
    """Compiles calls of `asm`."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def rules(self) -> dict[Callable[..., Any], Callable[[ast.Call], Value]]:
        """What compiles a call of each function."""
        return {asm: self._asm}

    def _asm(self, node: ast.Call) -> Value:
        lowering = self._lowering
        if node.keywords or not 1 <= len(node.args) <= 1 + _MOST_INPUTS:
            lowering.fail(node, f"asm() takes a text and up to {_MOST_INPUTS} inputs, without names")
        text = lowering.expressions.constant(node.args[0])
        if not isinstance(text, str):
            lowering.fail(node.args[0], "the instructions are a constant text")
        instructions = self._parsed(node.args[0], text)
        for instruction in instructions:
            self._check(node.args[0], instruction)
        inputs = tuple(self._input(each) for each in node.args[1:])
        result = lowering.value()
        lowering.emit(Assembly(result, tuple(instructions), inputs, lowering.location(node)))
        return Scalar(result, UNSIGNED)

    def _parsed(self, node: ast.expr, text: str) -> list[Instruction]:
        try:
            return isa.parse(text, "llvm")
        except isa.ParseError as first:
            try:
                return isa.parse(text, "kernel")
            except isa.ParseError:
                self._lowering.fail(node, f"this is no assembly: {str(first).splitlines()[0]}")

    def _check(self, node: ast.expr, instruction: Instruction) -> None:
        class_ = Class(instruction.opcode & 7)
        written = isa.format_instruction(instruction, "llvm")
        jumps = class_ in (Class.JMP, Class.JMP32) and (instruction.opcode != CALL or instruction.src)
        if jumps:
            self._lowering.fail(node, f"`{written}`: no instruction here jumps: use `if`, a loop, a function")
        if instruction.opcode == CALL:
            return
        if class_ in _WRITING and instruction.dst > _LAST_FREE:
            self._lowering.fail(node, f"`{written}` changes r{instruction.dst}: r0 to r{_LAST_FREE} are free")
        if _FRAME_POINTER in (instruction.dst, instruction.src):
            self._lowering.fail(node, f"`{written}` uses the stack, which is the program's: hand a Buffer over")

    def _input(self, node: ast.expr) -> Argument:
        lowering = self._lowering
        value = lowering.expressions.value(node)
        if isinstance(value, Place):
            return lowering.memory.address(value, node)
        if isinstance(value, Pointer):
            return value.operand
        return lowering.expressions.operand(node, lowering.expressions.as_number(node, value))
