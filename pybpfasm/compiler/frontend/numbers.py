"""Functions of numbers: cast, min, max, abs, bool, int, division that cuts."""

import ast
import builtins
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any

from pybpfasm.compiler.frontend.conditions import RESULT
from pybpfasm.compiler.frontend.expressions import known_limit
from pybpfasm.compiler.frontend.values import BOOL, SIGNED, UNSIGNED, Constant, Scalar, Value
from pybpfasm.ir.operations import Binary, Extend, Number
from pybpfasm.ir.operations import Value as IrValue
from pybpfasm.isa import Alu, Jump
from pybpfasm.lang import numbers as lang
from pybpfasm.lang.types import IntType, LayoutError, value_type

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering

Function = Callable[..., Any]


class Numbers:
    """Compiles calls of these functions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering
        self._rules: dict[Any, Callable[[ast.Call, Any], Value]] = {
            lang.cast: self._cast,
            lang.sdiv: self._division,
            lang.smod: self._division,
            builtins.min: self._extreme,
            builtins.max: self._extreme,
            builtins.abs: self._magnitude,
            builtins.bool: self._truth,
            builtins.int: self._number,
            builtins.len: self._length,
            builtins.range: self._range,
        }

    def is_intrinsic(self, function: Any) -> bool:
        """Whether a function is one of these."""
        known = isinstance(function, FunctionType | BuiltinFunctionType | type)
        return known and function in self._rules

    def call(self, node: ast.Call, function: Any) -> Value:
        """The result of a call of one of these."""
        return self._rules[function](node, function)

    def cut(self, node: ast.AST, value: Value, type_: IntType) -> Scalar:
        """A number as a narrower type has it: its low bits, widened again by the type's sign."""
        assert isinstance(value, Scalar)  # noqa: S101 - constants are checked, not cut
        limit = (1 << type_.bits) - 1
        if value.type == BOOL or (value.limit is not None and value.limit <= limit >> type_.signed):
            return Scalar(value.operand, SIGNED if type_.signed else UNSIGNED, value.limit, value.seen)
        if type_.bits == 64:
            return Scalar(value.operand, SIGNED if type_.signed else UNSIGNED)
        cut = self._lowering.value()
        self._lowering.emit(Extend(cut, value.operand, type_.bits, type_.signed, self._lowering.location(node)))
        return Scalar(cut, SIGNED) if type_.signed else Scalar(cut, UNSIGNED, limit)

    def _cast(self, node: ast.Call, function: Any) -> Value:
        bound = self._lowering.calls.bind(node, function)
        annotation = self._lowering.expressions.constant(bound["to"])
        type_ = _layout(annotation)
        if not isinstance(type_, IntType):
            self._lowering.fail(
                bound["to"], "cast makes numbers: u8, u16, u32, u64, i8, i16, i32 or i64 is wanted here"
            )
        number = self._lowering.expressions.number(bound["number"])
        if isinstance(number, Constant):
            cast = lang.cast(annotation, int(number.value))
            return Scalar(cast, SIGNED) if type_.signed else Constant(cast)
        return self.cut(node, number, type_)

    def _division(self, node: ast.Call, function: Any) -> Value:
        bound = self._lowering.calls.bind(node, function)
        left, right = (self._lowering.expressions.number(each) for each in bound.values())
        if isinstance(left, Constant) and isinstance(right, Constant):
            return Constant(function(int(left.value), int(right.value)))
        for argument, number in zip(bound.values(), (left, right), strict=True):
            if isinstance(number, Scalar) and number.type != SIGNED:
                name = function.__name__
                self._lowering.fail(argument, f"{name} is for signed numbers: use // or %, or cast(i64, …) first")
        one, other = (self._operand(node, number) for number in (left, right))
        code = Alu.DIV if function is lang.sdiv else Alu.MOD
        if self._lowering.target.isa >= 4:
            result = self._lowering.value()
            self._lowering.emit(Binary(code, result, one, other, self._lowering.location(node), signed=True))
            return Scalar(result, SIGNED)
        return Scalar(self._spelled_out(node, code, one, other), SIGNED)

    def _spelled_out(self, node: ast.AST, code: Alu, left: Number, right: Number) -> IrValue:
        """Signed division by unsigned: both sides without their signs, and then the sign again."""
        sign_left, sign_right = self._binary(node, Alu.ARSH, left, 63), self._binary(node, Alu.ARSH, right, 63)
        result = self._binary(node, code, self._signed(node, left, sign_left), self._signed(node, right, sign_right))
        sign = self._binary(node, Alu.XOR, sign_left, sign_right) if code is Alu.DIV else sign_left
        return self._signed(node, result, sign)

    def _signed(self, node: ast.AST, number: Number, sign: IrValue) -> IrValue:
        """Minus the number where the sign is -1, the number where it is 0."""
        return self._binary(node, Alu.SUB, self._binary(node, Alu.XOR, number, sign), sign)

    def _binary(self, node: ast.AST, code: Alu, left: Number, right: Number) -> IrValue:
        result = self._lowering.value()
        self._lowering.emit(Binary(code, result, left, right, self._lowering.location(node)))
        return result

    def _extreme(self, node: ast.Call, function: Any) -> Value:
        """The lowest or the highest of two or more numbers."""
        name = function.__name__
        if node.keywords or len(node.args) < 2:
            self._lowering.fail(node, f"{name}() takes two numbers or more")
        found = self._lowering.expressions.number(node.args[0])
        for argument in node.args[1:]:
            other = self._lowering.expressions.number(argument)
            if isinstance(found, Constant) and isinstance(other, Constant):
                found = Constant(function(int(found.value), int(other.value)))
            else:
                found = self._chosen(node, function, found, other)
        return found

    def _chosen(self, node: ast.AST, function: Any, one: Scalar | Constant, other: Scalar | Constant) -> Scalar:
        type_ = self._lowering.expressions.common_int_type(node, one, other)
        operands = self._operand(node, one), self._operand(node, other)
        less, more = (Jump.JSLE, Jump.JSGE) if type_ == SIGNED else (Jump.JLE, Jump.JGE)
        lowering = self._lowering
        yes, no, end = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.branch(node, less if function is min else more, *operands, yes, no)
        for junction, operand in ((yes, operands[0]), (no, operands[1])):
            lowering.enter(junction)
            lowering.goto(end, node, {RESULT: Scalar(operand, type_)})
        lowering.enter(end)
        result = lowering.take(RESULT)
        assert isinstance(result, Scalar)  # noqa: S101 - both ways brought one
        return Scalar(result.operand, type_, _limit(function, one, other) if type_ == UNSIGNED else None)

    def _magnitude(self, node: ast.Call, function: Any) -> Value:
        number = self._only_argument(node, function)
        if isinstance(number, Constant):
            return Constant(abs(int(number.value)))
        if number.type != SIGNED:
            self._lowering.fail(node, "this number is unsigned and never below 0: abs() can go")
        operand = self._operand(node, number)
        return Scalar(self._signed(node, operand, self._binary(node, Alu.ARSH, operand, 63)), UNSIGNED)

    def _truth(self, node: ast.Call, _: Any) -> Value:
        if node.keywords or len(node.args) != 1:
            self._lowering.fail(node, "bool() takes one number")
        lowering = self._lowering
        yes, no, end = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.conditions.branch(node.args[0], yes, no)
        for junction, result in ((yes, 1), (no, 0)):
            lowering.enter(junction)
            lowering.goto(end, node, {RESULT: Scalar(result, BOOL)})
        lowering.enter(end)
        return lowering.take(RESULT)

    def _number(self, node: ast.Call, function: Any) -> Value:
        number = self._only_argument(node, function)
        if isinstance(number, Constant):
            return Constant(int(number.value))
        return Scalar(number.operand, UNSIGNED, 1) if number.type == BOOL else number

    def _length(self, node: ast.Call, _: Any) -> Value:
        if node.keywords or len(node.args) != 1:
            self._lowering.fail(node, "len() takes one array or constant")
        value = self._lowering.expressions.value(node.args[0])
        length = self._lowering.memory.length_of(value)
        if length is None:
            self._lowering.fail(node.args[0], "this has no length: arrays and constants have")
        return Constant(length)

    def _range(self, node: ast.Call, function: Any) -> Value:
        """A range of constants, to look into or to unroll over."""
        numbers = [self._lowering.expressions.constant(argument) for argument in node.args]
        try:
            return Constant(function(*numbers))
        except (TypeError, ValueError) as error:
            self._lowering.fail(node, str(error))

    def _only_argument(self, node: ast.Call, function: Any) -> Scalar | Constant:
        if node.keywords or len(node.args) != 1:
            self._lowering.fail(node, f"{function.__name__}() takes one number")
        return self._lowering.expressions.number(node.args[0])

    def _operand(self, node: ast.AST, number: Scalar | Constant) -> Number:
        return self._lowering.expressions.operand(node, number)


def _layout(annotation: Any) -> Any:
    try:
        return value_type(annotation)
    except LayoutError:
        return None


def _limit(function: Any, one: Scalar | Constant, other: Scalar | Constant) -> int | None:
    limits = [known_limit(one), known_limit(other)]
    known: list[int] = [each for each in limits if each is not None]
    if function is min:
        return min(known) if known else None
    return max(known) if len(known) == len(limits) else None
