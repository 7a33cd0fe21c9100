"""Conditions to branches; and what a test of None teaches about a name on each side."""

import ast
from typing import TYPE_CHECKING

from pybpfasm.compiler.frontend.annotations import conversion_hint
from pybpfasm.compiler.frontend.memory import with_pointer_checked
from pybpfasm.compiler.frontend.text import is_text
from pybpfasm.compiler.frontend.values import (
    BOOL,
    SIGNED,
    UNSIGNED,
    BoundMethod,
    Constant,
    Place,
    Pointer,
    Scalar,
    Value,
    count_of,
    describe,
    known_operand,
    shown,
)
from pybpfasm.isa import Jump
from pybpfasm.lang.types import NetworkType, StructType
from pybpfasm.records import evolve

if TYPE_CHECKING:
    from pybpfasm.compiler.frontend.lowering import Lowering
    from pybpfasm.compiler.frontend.paths import Junction, Names

# For each comparison: the unsigned jump, the signed jump, and the comparison with its sides exchanged.
_COMPARISONS: dict[type[ast.cmpop], tuple[Jump, Jump, type[ast.cmpop]]] = {
    ast.Eq: (Jump.JEQ, Jump.JEQ, ast.Eq),
    ast.NotEq: (Jump.JNE, Jump.JNE, ast.NotEq),
    ast.Lt: (Jump.JLT, Jump.JSLT, ast.Gt),
    ast.LtE: (Jump.JLE, Jump.JSLE, ast.GtE),
    ast.Gt: (Jump.JGT, Jump.JSGT, ast.Lt),
    ast.GtE: (Jump.JGE, Jump.JSGE, ast.LtE),
}


# Each is a comparison.
_MOST_COMPARED = 256

# Under this name paths bring the value of an expression; no program has such a name.
RESULT = "<result>"


class Conditions:
    """Compiles conditions."""

    def __init__(self, lowering: "Lowering") -> None:
        self._lowering = lowering

    def branch(self, node: ast.expr, yes: "Junction", no: "Junction", *, only_bools: bool = False) -> None:
        """Go to `yes` where the expression is true, to `no` where it is false.

        With `only_bools` a number is refused: where the value itself is wanted, its truth is not the same.
        """
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                self._chain(values, yes, no, all_needed=True, only_bools=only_bools)
            case ast.BoolOp(op=ast.Or(), values=values):
                self._chain(values, yes, no, all_needed=False, only_bools=only_bools)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.branch(operand, no, yes)
            case ast.Compare(ops=[ast.Is() | ast.IsNot() as op], comparators=[right]):
                none, some = (yes, no) if isinstance(op, ast.Is) else (no, yes)
                self._none_test(node, right, none, some)
            case ast.Compare():
                self._comparisons(node, yes, no)
            case ast.Call():
                self._call(node, self._lowering.expressions.value(node.func), yes, no, only_bools=only_bools)
            case _:
                self._value(node, self._lowering.expressions.value(node), yes, no, only_bools=only_bools)

    def _call(
        self, node: ast.Call, callee: Value, yes: "Junction", no: "Junction", *, only_bools: bool = False
    ) -> None:
        """A call that is a branch itself, or whose result is tested."""
        lowering = self._lowering
        if isinstance(callee, BoundMethod) and isinstance(callee.owner, Place):
            lowering.text.starts(node, callee.owner, yes, no)
        elif not lowering.loops.may_go_on(node, callee, yes, no) and not lowering.calls.inline_condition(
            node, callee, yes, no
        ):
            self._value(node, lowering.calls.value(node, callee), yes, no, only_bools=only_bools)

    def _value(self, node: ast.expr, value: Value, yes: "Junction", no: "Junction", *, only_bools: bool) -> None:
        if only_bools and self._lowering.expressions.scalar_type_or_none(value) != BOOL:
            reason = f"a bool is wanted, this is {describe(value)}: compare it, or write `… if … else …`"
            self._lowering.fail(node, reason)
        self._truth(node, value, yes, no)

    def as_value(self, node: ast.expr, callee: Value | None = None) -> Value:
        """A condition as a bool; of a call `callee` is what is called."""
        lowering = self._lowering
        yes, no, end = lowering.junction(), lowering.junction(), lowering.junction()
        if callee is not None and isinstance(node, ast.Call):
            self._call(node, callee, yes, no, only_bools=True)
        else:
            self.branch(node, yes, no, only_bools=True)
        if not (yes.edges and no.edges):
            # Decided at compile time: whatever was built on the way has no effect.
            lowering.enter(yes if yes.edges else no)
            return Constant(bool(yes.edges))
        for junction, result in ((yes, 1), (no, 0)):
            lowering.enter(junction)
            lowering.goto(end, node, {RESULT: Scalar(result, BOOL)})
        lowering.enter(end)
        return lowering.take(RESULT)

    def _chain(
        self, values: list[ast.expr], yes: "Junction", no: "Junction", *, all_needed: bool, only_bools: bool
    ) -> None:
        for value in values[:-1]:
            following = self._lowering.junction()
            if all_needed:
                self.branch(value, following, no, only_bools=only_bools)
            else:
                self.branch(value, yes, following, only_bools=only_bools)
            self._lowering.enter(following)
            if not self._lowering.reachable:
                return
        self.branch(values[-1], yes, no, only_bools=only_bools)

    def _comparisons(self, node: ast.Compare, yes: "Junction", no: "Junction") -> None:
        """One comparison, or a chain: each side is evaluated once, and no further than the first that fails."""
        left_node, left = node.left, self._lowering.expressions.value(node.left)
        for op, right_node in zip(node.ops[:-1], node.comparators[:-1], strict=True):
            right = self._lowering.expressions.value(right_node)
            following = self._lowering.junction()
            self._compare(node, op, (left_node, left), (right_node, right), following, no)
            self._lowering.enter(following)
            if not self._lowering.reachable:
                return
            left_node, left = right_node, right
        op, right_node = node.ops[-1], node.comparators[-1]
        if isinstance(op, ast.In | ast.NotIn):
            found, missing = (yes, no) if isinstance(op, ast.In) else (no, yes)
            self._one_of(node, left, right_node, found, missing)
            return
        right = self._lowering.expressions.value(right_node)
        self._compare(node, op, (left_node, left), (right_node, right), yes, no)

    def _one_of(self, node: ast.Compare, value: Value, among: ast.expr, found: "Junction", missing: "Junction") -> None:
        constants = self._lowering.expressions.constant(among)
        if not isinstance(constants, tuple | range | frozenset):
            self._lowering.fail(among, "`in` looks into a tuple of constants: write one, or compare with each")
        if isinstance(constants, range) and constants.step == 1 and isinstance(value, Scalar):
            self._in_range(node, value, constants, found, missing)
            return
        if count_of(constants) > _MOST_COMPARED:
            self._lowering.fail(among, f"`in` compares with {_MOST_COMPARED} constants at most: compare with the ends")
        for constant in constants:
            following = self._lowering.junction()
            self._compare_values(node, ast.Eq(), value, Constant(constant), found, following)
            self._lowering.enter(following)
            if not self._lowering.reachable:
                return
        self._lowering.goto(missing, node)

    def _in_range(self, node: ast.AST, value: Scalar, numbers: range, found: "Junction", missing: "Junction") -> None:
        """Between the ends of a range, as far as the number can be there."""
        number = self._lowering.expressions.as_number(node, value)
        lowest, highest = (-(1 << 63), (1 << 63) - 1) if value.type == SIGNED else (0, (1 << 64) - 1)
        first, last = max(numbers.start, lowest), min(numbers.stop - 1, highest)
        if first > last:
            self._lowering.goto(missing, node)
            return
        if first == last:
            self._compare_values(node, ast.Eq(), number, Constant(first), found, missing)
            return
        for op, end, beyond in ((ast.GtE(), first, lowest), (ast.LtE(), last, highest)):
            if end != beyond:
                following = self._lowering.junction()
                self._compare_values(node, op, number, Constant(end), following, missing)
                self._lowering.enter(following)
        self._lowering.goto(found, node)

    def equal(self, node: ast.AST, value: Value, constant: Value, yes: "Junction", no: "Junction") -> None:
        """Go to `yes` where the value equals the constant."""
        self._compare_values(node, ast.Eq(), value, constant, yes, no)

    def _compare(
        self,
        node: ast.Compare,
        op: ast.cmpop,
        left: tuple[ast.expr, Value],
        right: tuple[ast.expr, Value],
        yes: "Junction",
        no: "Junction",
    ) -> None:
        one, (right_node, other) = left[1], right
        if isinstance(op, ast.Is | ast.IsNot):
            self._lowering.fail(node, "`is` stands by itself: join the comparisons with `and`")
        if type(op) not in _COMPARISONS:
            self._lowering.fail(node, "`in` stands at the end of a chain only: join the comparisons with `and`")
        if isinstance(one, Pointer) or isinstance(other, Pointer):
            self._lowering.fail(node, "pointers are compared with None only: write `is None` or `is not None`")
        if isinstance(right_node, ast.Constant) and right_node.value == 0 and isinstance(op, ast.Lt | ast.GtE):
            self._never_below_zero(node, one)
        if is_text(one) or is_text(other):
            self._lowering.text.compare(node, op, (one, other), yes, no)
            return
        if isinstance(one, Constant) and not isinstance(other, Constant):
            one, other, op, left = other, one, _COMPARISONS[type(op)][2](), right
        self._compare_values(node, op, one, other, yes, no, named=left[0])

    def _compare_values(
        self,
        node: ast.AST,
        op: ast.cmpop,
        one: Value,
        other: Value,
        yes: "Junction",
        no: "Junction",
        *,
        named: ast.expr | None = None,
    ) -> None:
        """Compare numbers; what the comparison says of a local that is `named` is known on each side."""
        expressions = self._lowering.expressions
        types = expressions.scalar_type_or_none(one), expressions.scalar_type_or_none(other)
        if isinstance(types[0], NetworkType) or isinstance(types[1], NetworkType):
            self._compare_network(node, op, one, other, yes, no)
            return
        left, right = expressions.as_number(node, one), expressions.as_number(node, other)
        if isinstance(left, Constant) and isinstance(right, Constant):
            self._decided(node, _fold(op, int(left.value), int(right.value)), yes, no)
            return
        type_ = expressions.common_int_type(node, left, right)
        highest = (1 << 64) - 1 if type_ == UNSIGNED else (1 << 63) - 1
        if isinstance(right, Constant) and not highest - (1 << 64) < int(right.value) <= highest:
            sign = "an unsigned" if type_ == UNSIGNED else "a signed"
            self._lowering.fail(node, f"{sign} number is compared with {shown(int(right.value))}, which it cannot be")
        unsigned, signed, _ = _COMPARISONS[type(op)]
        code = signed if type_ == SIGNED else unsigned
        operands = expressions.operand(node, left), expressions.operand(node, right)
        narrowed = self._limits(op, named, left, right) if type_ == UNSIGNED else None
        self._lowering.branch(node, code, *operands, yes, no, narrowed=narrowed)

    def _limits(
        self, op: ast.cmpop, node: ast.expr | None, left: Scalar | Constant, right: Scalar | Constant
    ) -> "tuple[Names, Names] | None":
        """What a comparison with a constant says of how high a local can be, on both sides."""
        name = node.target if isinstance(node, ast.NamedExpr) else node
        if not isinstance(name, ast.Name) or not isinstance(left, Scalar) or not isinstance(right, Constant):
            return None
        current = self._lowering.known(name.id)
        if not isinstance(current, Scalar) or current.operand != left.operand:
            return None
        number = int(right.value)
        below, up_to = number - 1, number
        on_yes, on_no = {
            ast.Lt: (below, None),
            ast.LtE: (up_to, None),
            ast.Gt: (None, up_to),
            ast.GtE: (None, below),
            ast.Eq: (up_to, None),
            ast.NotEq: (None, up_to),
        }[type(op)]
        return _limited(name.id, current, on_yes), _limited(name.id, current, on_no)

    def _never_below_zero(self, node: ast.AST, value: Value) -> None:
        if isinstance(value, Scalar) and value.type != SIGNED and not isinstance(value.type, NetworkType):
            reason = "this number is unsigned and never below 0: compare before you subtract"
            self._lowering.fail(node, reason)

    def _compare_network(
        self, node: ast.AST, op: ast.cmpop, one: Value, other: Value, yes: "Junction", no: "Junction"
    ) -> None:
        expressions = self._lowering.expressions
        types = expressions.scalar_type_or_none(one), expressions.scalar_type_or_none(other)
        if types[0] != types[1]:
            hint = conversion_hint(other, types[0]) or conversion_hint(one, types[1])
            if not hint and all(isinstance(each, NetworkType) for each in types):
                hint = ": convert both, with ntohs(), ntohl() or ntohll()"
            self._lowering.fail(node, f"{describe(one)} is compared with {describe(other)}{hint}")
        if not isinstance(op, ast.Eq | ast.NotEq):
            self._lowering.fail(node, f"{types[0]} has no order: convert both sides with ntohs() or ntohl()")
        left, right = known_operand(one), known_operand(other)
        assert left is not None and right is not None  # noqa: S101, PT018 - both are numbers
        if isinstance(left, int) and isinstance(right, int):
            self._decided(node, _fold(op, left, right), yes, no)
            return
        self._lowering.branch(node, _COMPARISONS[type(op)][0], left, right, yes, no)

    def _none_test(self, node: ast.Compare, right: ast.expr, none: "Junction", some: "Junction") -> None:
        if not (isinstance(right, ast.Constant) and right.value is None):
            self._lowering.fail(node, "`is` compares with None only: use ==")
        value = self._lowering.expressions.value(node.left)
        if isinstance(value, Constant) and value.value is None:
            self._decided(node, True, none, some)
            return
        if isinstance(value, Place) and isinstance(value.type, StructType) and len(self._lowering.frames) > 1:
            # A struct of the caller's, handed to a function that takes None as well.
            self._decided(node, False, none, some)
            return
        if not isinstance(value, Pointer):
            self._lowering.fail(node, f"this is {describe(value)}, which is never None")
        if not value.nullable:
            # In a loop the test may have been made by the repetition before.
            if not self._lowering.frame.loops:
                self._lowering.fail(node, f"this is {describe(value)} and never None: the test can go")
            self._decided(node, False, none, some)
            return
        narrowed: tuple[Names, Names] = ({}, {**self._narrowed(node.left, value)})
        self._lowering.branch(node, Jump.JEQ, value.operand, 0, none, some, narrowed=narrowed)

    def _narrowed(self, node: ast.expr, pointer: Pointer) -> dict[str, Value]:
        name = node.target if isinstance(node, ast.NamedExpr) else node
        return {name.id: with_pointer_checked(pointer)} if isinstance(name, ast.Name) else {}

    def _truth(self, node: ast.expr, value: Value, yes: "Junction", no: "Junction") -> None:
        if isinstance(value, Pointer):
            self._lowering.fail(node, "a pointer has no truth: write `is None` or `is not None`")
        number = self._lowering.expressions.as_number(node, value)
        if isinstance(number, Constant):
            self._decided(node, bool(number.value), yes, no)
            return
        self._lowering.branch(node, Jump.JNE, number.operand, 0, yes, no)

    def _decided(self, node: ast.AST, truth: bool, yes: "Junction", no: "Junction") -> None:
        self._lowering.goto(yes if truth else no, node)


def _limited(name: str, number: Scalar, limit: int | None) -> "Names":
    if limit is None or limit < 0 or (number.limit is not None and number.limit <= limit and number.seen):
        return {}
    return {name: evolve(number, limit=limit, seen=True)}


def _fold(op: ast.cmpop, left: int, right: int) -> bool:
    match op:
        case ast.Eq():
            return left == right
        case ast.NotEq():
            return left != right
        case ast.Lt():
            return left < right
        case ast.LtE():
            return left <= right
        case ast.Gt():
            return left > right
        case _:
            return left >= right
