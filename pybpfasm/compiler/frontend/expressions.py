"""Expressions to operations.

Numbers are computed with 64 bits, unsigned unless both sides are signed, and wrap; docs/language.md has the rules.
"""

import ast
import operator
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from pybpfasm.compiler.frontend.annotations import conversion_hint
from pybpfasm.compiler.frontend.conditions import RESULT
from pybpfasm.compiler.frontend.text import is_text, text_method
from pybpfasm.compiler.frontend.values import (
    BOOL,
    SIGNED,
    UNSIGNED,
    BoundMethod,
    Constant,
    KernelPlace,
    KernelType,
    Listed,
    MapTarget,
    Place,
    Pointer,
    Scalar,
    ScalarType,
    Value,
    describe,
    known_operand,
    shown,
)
from pybpfasm.ir.operations import Binary, Number
from pybpfasm.isa import Alu
from pybpfasm.lang.contexts import Context
from pybpfasm.lang.globals import Global, ReadOnly
from pybpfasm.lang.maps import MapDeclaration
from pybpfasm.lang.types import IntType, NetworkType, StructType, be16, be32, be64

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.paths import Names
    from pybpfasm.ir.function import Block

_OPERATORS: dict[type[ast.operator], tuple[Alu, Callable[[int, int], int]]] = {
    ast.Add: (Alu.ADD, operator.add),
    ast.Sub: (Alu.SUB, operator.sub),
    ast.Mult: (Alu.MUL, operator.mul),
    ast.FloorDiv: (Alu.DIV, operator.floordiv),
    ast.Mod: (Alu.MOD, operator.mod),
    ast.BitAnd: (Alu.AND, operator.and_),
    ast.BitOr: (Alu.OR, operator.or_),
    ast.BitXor: (Alu.XOR, operator.xor),
    ast.LShift: (Alu.LSH, operator.lshift),
    ast.RShift: (Alu.RSH, operator.rshift),
}

_OTHER_OPERATORS = {
    ast.Div: "`/` is not supported in a BPF program: use //",
    ast.Pow: "`**` is not supported in a BPF program: use <<",
    ast.MatMult: "`@` is not supported in a BPF program",
}

# Constants are Python's numbers, of any length; one so long is a mistake.
_LONGEST_CONSTANT = 1024
_MOST_CONSTANT_SHIFT = _LONGEST_CONSTANT - 1

_INSTEAD = {
    ast.JoinedStr: "strings exist only as constants",
    ast.Lambda: "write a function and mark it @inline",
    ast.Dict: "use a map",
    ast.ListComp: "write a loop over unroll(…)",
    ast.Await: "a BPF program cannot wait",
    ast.Yield: "a BPF program returns once",
    ast.YieldFrom: "a BPF program returns once",
}


class Expressions:
    """Compiles expressions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def value(self, node: ast.expr) -> Value:
        """Whatever an expression is."""
        match node:
            case ast.Constant(value=bool() | int() | None | str() | bytes() as constant):
                return Constant(constant)
            case ast.Name():
                return self._lowering.names.resolve(node)
            case ast.Attribute():
                return self.attribute(node, self.value(node.value))
            case ast.Call():
                return self._lowering.calls.value(node)
            case ast.BinOp(left=ast.List() as items, op=ast.Mult(), right=times):
                return self._repeated(items, times)
            case ast.BinOp():
                return self._binary(node, node.left, node.op, node.right)
            case ast.UnaryOp(op=ast.USub() | ast.Invert() | ast.UAdd()):
                return self._unary(node)
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp() | ast.Compare():
                return self._lowering.conditions.as_value(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.NamedExpr(target=target, value=value):
                return self._lowering.statements.named(target, value)
            case ast.Subscript():
                return self._lowering.indexing.read(node)
            case ast.List(elts=items):
                return Listed(tuple(self.value(each) for each in items))
            case ast.Tuple():
                return Constant(tuple(self.constant(element) for element in node.elts))
            case ast.Constant(value=float() | complex()):
                self._lowering.fail(node, "there are only integers in a BPF program: scale the number to a whole one")
            case _:
                instead = _INSTEAD.get(type(node), "docs/language.md lists what is")
                self._lowering.fail(node, f"{first_line(node)} is not supported in a BPF program: {instead}")

    def number(self, node: ast.expr) -> Scalar | Constant:
        """An expression that has to be an int or a bool."""
        value = self.value(node)
        return self.as_number(node, value)

    def as_number(self, node: ast.AST, value: Value) -> Scalar | Constant:
        """A value that has to be an int or a bool."""
        type_ = self.scalar_type_or_none(value)
        if isinstance(value, Scalar | Constant) and type_ is not None and not isinstance(type_, NetworkType):
            return value
        self._lowering.fail(node, f"a number is wanted, this is {describe(value)}{conversion_hint(value, UNSIGNED)}")

    def constant(self, node: ast.expr) -> Any:
        """An expression that has to be known at compile time: the Python object."""
        value = self.value(node)
        if not isinstance(value, Constant):
            self._lowering.fail(node, "this has to be known when the program is compiled: use a constant")
        return value.value

    def scalar_type(self, value: Value) -> ScalarType:
        """The type of a value that is known to be a number."""
        type_ = self.scalar_type_or_none(value)
        assert type_ is not None  # noqa: S101 - callers have checked
        return type_

    def scalar_type_or_none(self, value: Value) -> ScalarType | None:
        """The type of a number; None for anything else. A constant is signed only if it is negative."""
        match value:
            case Scalar(type=type_):
                return type_
            case Constant(value=bool()):
                return BOOL
            case Constant(value=int() as number):
                return SIGNED if number < 0 else UNSIGNED
            case Constant(value=be16() | be32() | be64() as number):
                return NetworkType(number.bits)
            case _:
                return None

    def operand(self, node: ast.AST, value: Scalar | Constant) -> Number:
        """A number's operand; a constant has to fit 64 bits."""
        found = known_operand(value)
        assert found is not None  # noqa: S101 - it is a number
        if isinstance(found, int) and not -(1 << 63) <= found < 1 << 64:
            self._lowering.fail(node, f"{shown(found)} does not fit 64 bits")
        return found

    def common_int_type(self, node: ast.AST, left: Scalar | Constant, right: Scalar | Constant) -> IntType:
        """What two numbers are computed as: a constant follows the other side, mixed signs are an error."""
        types = [self.scalar_type(value) for value in (left, right)]
        fixed = {
            SIGNED if type_ == SIGNED else UNSIGNED
            for type_, value in zip(types, (left, right), strict=True)
            if isinstance(value, Scalar)
        }
        if fixed == {SIGNED, UNSIGNED}:
            self._lowering.fail(node, "one side is signed, the other unsigned: test the signed one against 0 first")
        if not fixed:
            return SIGNED if SIGNED in types else UNSIGNED
        return fixed.pop()

    def combine(self, node: ast.AST, op: ast.operator, left: Scalar | Constant, right: Scalar | Constant) -> Value:
        """`left op right`."""
        if type(op) not in _OPERATORS:
            self._lowering.fail(node, f"{_OTHER_OPERATORS[type(op)]}")
        code, fold = _OPERATORS[type(op)]
        self._check_right_side(node, code, left, right)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self._folded(node, fold, int(left.value), int(right.value))
        # A shift's count does not decide the sign of what is shifted.
        shift = code in (Alu.LSH, Alu.RSH)
        type_ = self.common_int_type(node, left, left if shift else right)
        if type_ == SIGNED and code in (Alu.DIV, Alu.MOD):
            instead = "sdiv" if code == Alu.DIV else "smod"
            self._lowering.fail(
                node, f"of signed numbers Python's and C's division differ: write bpf.{instead}(…), which cuts"
            )
        if type_ == SIGNED and code == Alu.RSH:
            code = Alu.ARSH
        target = self._lowering.value()
        operands = (self.operand(node, left), self.operand(node, right))
        self._lowering.emit(Binary(code, target, *operands, self._lowering.location(node)))
        if type_ == SIGNED:
            return Scalar(target, SIGNED)
        return Scalar(target, UNSIGNED, limit_of(code, left, right), seen_of(code, left, right))

    def _folded(self, node: ast.AST, fold: Callable[[int, int], int], left: int, right: int) -> Constant:
        result = fold(left, right)
        if result.bit_length() > _LONGEST_CONSTANT:
            self._lowering.fail(node, f"this constant has more than {_LONGEST_CONSTANT} bits")
        return Constant(result)

    def plus(self, node: ast.AST, number: Scalar, constant: int) -> Scalar:
        """A number and a constant."""
        target = self._lowering.value()
        self._lowering.emit(Binary(Alu.ADD, target, number.operand, constant, self._lowering.location(node)))
        return Scalar(target, number.type)

    def _repeated(self, items: ast.List, times: ast.expr) -> Value:
        """`[0] * 4`."""
        count = self.constant(times)
        if not isinstance(count, int):
            self._lowering.fail(times, "how often is a constant")
        return Listed(tuple(self.value(each) for each in items.elts) * count)

    def _check_right_side(self, node: ast.AST, code: Alu, left: Scalar | Constant, right: Scalar | Constant) -> None:
        if not isinstance(right, Constant):
            return
        if code in (Alu.DIV, Alu.MOD) and int(right.value) <= 0:
            self._lowering.fail(node, f"division by {shown(int(right.value))}: the divisor has to be positive")
        highest = _MOST_CONSTANT_SHIFT if isinstance(left, Constant) else 63
        if code in (Alu.LSH, Alu.RSH) and not 0 <= int(right.value) <= highest:
            self._lowering.fail(node, f"a shift by {shown(int(right.value))}: 0 to {highest} are possible")

    def _no_attribute(self, node: ast.Attribute, owner: Value) -> NoReturn:
        import difflib  # slow to import, and seldom wanted

        known = dir(owner.value) if isinstance(owner, Constant) else []
        close = difflib.get_close_matches(node.attr, known, n=1)
        hint = f": did you mean `{close[0]}`?" if close else ""
        self._lowering.fail(node, f"{describe(owner)} has no attribute `{node.attr}`{hint}")

    def attribute(self, node: ast.Attribute, owner: Value) -> Value:
        """`owner.name`, for an owner that has been evaluated."""
        match owner:
            case Pointer(target=type() as context) if _is_method(context, node.attr):
                return BoundMethod(owner, node.attr)
            case Pointer(target=type()):
                return self._lowering.memory.read_context(node, owner)
            case Pointer(target=MapTarget(declaration=declaration)) if _is_method(type(declaration), node.attr):
                return BoundMethod(owner, node.attr)
            case Pointer(target=MapTarget()):
                self._lowering.fail(node, f"{describe(owner)} has no attribute `{node.attr}`")
            case Pointer(target=KernelType()) | KernelPlace():
                return self._lowering.kernel.field(node, owner)
            case Place() if text_method(owner, node.attr):
                return BoundMethod(owner, node.attr)
            case Pointer() | Place() if not is_text(owner):
                return self._lowering.memory.read(self._lowering.memory.field(node, owner), node)
            case Constant(value=Global() | ReadOnly()) if node.attr == "value":
                return self._lowering.memory.read(self._lowering.memory.field(node, owner), node)
            case Constant(value=MapDeclaration() as declaration) if _is_method(type(declaration), node.attr):
                return BoundMethod(declaration, node.attr)
            case Constant(value=ModuleType() as module) if hasattr(module, node.attr):
                return self._lowering.names.constant(node, node.attr, getattr(module, node.attr))
            case Constant(value=type() as class_) if hasattr(class_, node.attr):
                return self._lowering.names.member(node, node.attr, getattr(class_, node.attr))
            case Constant(value=Enum() as member) if node.attr == "value":
                return Constant(member.value)
            case Constant(value=constant) if hasattr(constant, node.attr):
                reason = f"a program cannot read attributes of this {describe(owner)}: keep the value in a constant"
                self._lowering.fail(node, reason)
            case _:
                self._no_attribute(node, owner)

    def _binary(self, node: ast.AST, left: ast.expr, op: ast.operator, right: ast.expr) -> Value:
        one = self.number(left)
        return self.combine(node, op, one, self.number(right))

    def _unary(self, node: ast.UnaryOp) -> Value:
        operand = self.number(node.operand)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(operand, Constant):
            number = int(operand.value)
            return Constant(-number if isinstance(node.op, ast.USub) else ~number)
        type_ = UNSIGNED if operand.type == BOOL else operand.type
        target = self._lowering.value()
        location = self._lowering.location(node)
        if isinstance(node.op, ast.USub):
            self._lowering.emit(Binary(Alu.SUB, target, 0, operand.operand, location))
        else:
            self._lowering.emit(Binary(Alu.XOR, target, operand.operand, -1, location))
        return Scalar(target, type_)

    def _choice(self, node: ast.IfExp) -> Value:
        lowering = self._lowering
        yes, no, end = lowering.junction(), lowering.junction(), lowering.junction()
        lowering.conditions.branch(node.test, yes, no)
        sides: list[tuple[ast.expr, Value, Block, Names]] = []
        for junction, side in ((yes, node.body), (no, node.orelse)):
            lowering.enter(junction)
            if lowering.reachable:
                value = self.value(side)
                if isinstance(value, Place) and isinstance(value.type, StructType):
                    value = lowering.memory.naming(side, value)
                names = lowering.frame.names
                assert names is not None  # noqa: S101 - an expression does not leave
                sides.append((side, value, lowering.block, names))
        if len(sides) == 1 and isinstance(sides[0][1], Constant):
            _, value, lowering.block, lowering.frame.names = sides[0]
            return value
        for value, (side, _, block, names) in zip(self._alike(node, sides), sides, strict=True):
            lowering.block, lowering.frame.names = block, names
            lowering.goto(end, side, {RESULT: value})
        lowering.enter(end)
        return lowering.take(RESULT)

    def _alike(self, node: ast.IfExp, sides: "list[tuple[ast.expr, Value, Block, Names]]") -> list[Value]:
        """The sides' values as values of one type."""
        values = [value for _, value, _, _ in sides]
        if all(isinstance(value, Pointer) and not isinstance(value.target, type) for value in values):
            first: Any = values[0]
            if any(value.target != first.target for value in values):  # type: ignore[union-attr]  # pointers
                one, other = (describe(value) for value in values)
                self._lowering.fail(node, f"one side is {one}, the other {other}")
            return values
        numbers: list[Scalar | Constant] = []
        for side, value, _, _ in sides:
            if not isinstance(value, Scalar | Constant) or known_operand(value) is None:
                self._lowering.fail(side, f"only numbers can be chosen by `if … else`, this is {describe(value)}")
            numbers.append(value)
        operands = [self.operand(side, number) for (side, *_), number in zip(sides, numbers, strict=True)]
        type_ = self._chosen_type(node, numbers)
        return [
            Scalar(operand, type_, known_limit(number) if type_ == UNSIGNED else None, _seen(number))
            for operand, number in zip(operands, numbers, strict=True)
        ]

    def _chosen_type(self, node: ast.IfExp, sides: list[Scalar | Constant]) -> ScalarType:
        types = {self.scalar_type(side) for side in sides}
        if types == {SIGNED, UNSIGNED}:
            # A constant follows the other side; of two constants with one below 0, both are signed.
            types = {self.scalar_type(side) for side in sides if isinstance(side, Scalar)} or {SIGNED}
        if len(types) > 1:
            one, other = (self.scalar_type(side) for side in sides)
            self._lowering.fail(node, f"one side is {one}, the other {other}")
        chosen = types.pop()
        for side in sides:
            if chosen in (SIGNED, UNSIGNED) and isinstance(side, Constant):
                self._check_fits(node, int(side.value), chosen)
        return chosen

    def _check_fits(self, node: ast.AST, number: int, type_: ScalarType) -> None:
        if not (0 <= number < 1 << 64 if type_ == UNSIGNED else -(1 << 63) <= number < 1 << 63):
            self._lowering.fail(node, f"one side is {type_}, which {shown(number)} does not fit")


def known_limit(value: Scalar | Constant) -> int | None:
    """The highest that a number can be, where that is known."""
    if isinstance(value, Scalar):
        return value.limit
    return max(int(value.value), 0) if isinstance(value.value, int) else None


def seen_of(code: Alu, left: Scalar | Constant, right: Scalar | Constant) -> bool:
    """Whether the verifier finds the limit of the result: it does not follow divisions."""
    fixed = int(right.value) if isinstance(right, Constant) else 0
    power = fixed > 0 and fixed & (fixed - 1) == 0
    if code is Alu.AND and isinstance(right, Constant):
        return known_limit(left) is None or _seen(left) or fixed <= (known_limit(left) or 0)
    if code is Alu.MOD and power:
        return True
    return (code not in (Alu.DIV, Alu.MOD) or power) and _seen(left) and _seen(right)


def _seen(value: Scalar | Constant) -> bool:
    return isinstance(value, Constant) or value.seen


def limit_of(code: Alu, left: Scalar | Constant, right: Scalar | Constant) -> int | None:
    """The highest that unsigned arithmetic can give, where that is known."""
    one, other = known_limit(left), known_limit(right)
    fixed = int(right.value) if isinstance(right, Constant) else None
    match code:
        case Alu.AND:
            return min((each for each in (one, other) if each is not None), default=None)
        case Alu.MOD if fixed:
            return fixed - 1
        case Alu.RSH if fixed is not None:
            return (one if one is not None else (1 << 64) - 1) >> fixed
        case Alu.DIV if fixed:
            return (one if one is not None else (1 << 64) - 1) // fixed
        case Alu.ADD if one is not None and other is not None:
            return one + other if one + other < 1 << 64 else None
        case Alu.MUL if one is not None and other is not None:
            return one * other if one * other < 1 << 64 else None
        case _:
            return None


def _is_method(owner: type, name: str) -> bool:
    base = Context if issubclass(owner, Context) else MapDeclaration
    return not name.startswith("_") and callable(getattr(owner, name, None)) and not hasattr(base, name)


def first_line(node: ast.AST) -> str:
    """A piece of source as messages quote it."""
    return f"`{ast.unparse(node).splitlines()[0][:40]}`"
