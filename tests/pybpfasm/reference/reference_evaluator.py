"""What a program of the language computes, by docs/language.md alone: it walks Python's tree and knows no compiler.

A number is a `Num`: its value and its kind, unsigned or signed with 64 bits, bool, or a constant, which has no width.
What is in network order is a `Net`: its bits, and the number that it stands for. A struct is a `Memory`.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import attrs

MASK = (1 << 64) - 1


@attrs.frozen
class Num:
    """A number; `kind` is u, s, b or c."""

    kind: str
    value: int


@attrs.frozen
class Net:
    """A number in network order, of so many bits."""

    bits: int
    value: int


@attrs.frozen
class FieldType:
    """How a field holds a number: `kind` is u, s or n (network order); `count` makes it an array."""

    kind: str
    bits: int
    count: int = 0


Layout = Mapping[str, "FieldType | Layout"]


@attrs.define
class Memory:
    """A struct's fields: numbers as they lie there, lists of them, structs."""

    layout: Layout
    fields: dict[str, Any]


class Leave(Exception):  # noqa: N818 - a way out and no error
    """A `return`, with its value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Break(Exception):  # noqa: N818 - a way out and no error
    """A `break`."""


class Continue(Exception):  # noqa: N818 - a way out and no error
    """A `continue`."""


def wrapped(kind: str, value: int, bits: int = 64) -> int:
    """The low bits of a number, as its kind reads them."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if kind == "s" and value >> (bits - 1) else value


_WIDTHS = {f"{sign}{bits}": (kind, bits) for sign, kind in (("u", "u"), ("i", "s")) for bits in (8, 16, 32, 64)}
_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_ORDER: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Evaluator:
    """Runs functions of a module's text. `layouts` are its structs."""

    def __init__(self, source: str, layouts: Mapping[str, Layout]) -> None:
        self._functions = {each.name: each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef)}
        self._layouts = layouts

    def run(self, name: str, memory: Memory) -> int:
        """The program's result, as a test run tells it: 32 bits. `data.lookup(0)` gives `memory`, which it changes."""
        self._memory = memory
        result = self._call(self._functions[name], {"ctx": None})
        assert isinstance(result, Num)
        return result.value & 0xFFFFFFFF

    # --- functions and statements -------------------------------------------------------------------------------------

    def _call(self, function: ast.FunctionDef, names: dict[str, Any]) -> Any:
        frame = _Frame(self, names)
        for argument in function.args.args:
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id in _WIDTHS:
                frame.declared[argument.arg] = argument.annotation.id
                names[argument.arg] = _declared(names[argument.arg], argument.annotation.id)
        try:
            frame.suite(function.body)
        except Leave as leave:
            returns = function.returns
            if isinstance(returns, ast.Name) and returns.id in _WIDTHS:
                return _declared(leave.value, returns.id)
            return leave.value
        return None

    def call(self, node: ast.Call, frame: "_Frame") -> Any:
        """The value of a call."""
        if isinstance(node.func, ast.Attribute):
            return self._memory  # data.lookup(0)
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name in self._layouts:
            given = {each.arg: frame.value(each.value) for each in node.keywords if each.arg}
            made = Memory(self._layouts[name], {})
            for field, value in given.items():
                write(made, field, value)
            return made
        if name == "cast":
            assert isinstance(node.args[0], ast.Name)
            return _declared(frame.value(node.args[1]), node.args[0].id)
        arguments = [frame.value(each) for each in node.args]
        if name in self._functions:
            function = self._functions[name]
            return self._call(function, dict(zip([each.arg for each in function.args.args], arguments, strict=True)))
        return _BUILT_IN[name](*arguments)


class _Frame:
    """A function that is running: its names, and what they were declared to be."""

    def __init__(self, evaluator: Evaluator, names: dict[str, Any]) -> None:
        self._evaluator = evaluator
        self.names = names
        self.declared: dict[str, str] = {}

    def suite(self, body: list[ast.stmt]) -> None:
        for each in body:
            self._statement(each)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=targets, value=ast.Tuple(elts=items)):
                values = [self.value(each) for each in items]
                assert isinstance(targets[0], ast.Tuple)
                for target, value in zip(targets[0].elts, values, strict=True):
                    self._assign(target, value)
            case ast.Assign(targets=targets, value=value):
                found = self.value(value)
                for target in targets:
                    self._assign(target, found)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=type_), value=value):
                assert value is not None
                self.declared[name] = type_
                self.names[name] = _declared(self.value(value), type_)
            case ast.AugAssign(target=target, op=op, value=value):
                read = ast.parse(ast.unparse(target), mode="eval").body
                self._assign(target, _binary(op, self.value(read), self.value(value)))
            case ast.If(test=test, body=body, orelse=orelse):
                self.suite(body if self._true(test) else orelse)
            case ast.Match(subject=subject, cases=cases):
                self._match(self.value(subject), cases)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(), args=arguments) as rounds):
                self._loop(node, [lambda n=n: self.names.__setitem__(name, n) for n in self._rounds(rounds, arguments)])
            case ast.While(test=test):
                self._while(node, test)
            case ast.Return(value=value):
                raise Leave(None if value is None else self.value(value))
            case ast.Break():
                raise Break
            case ast.Continue():
                raise Continue
            case ast.Expr(value=value):
                self.value(value)
            case _:
                raise AssertionError(ast.dump(node))

    def _rounds(self, call: ast.Call, arguments: list[ast.expr]) -> list[Num]:
        assert isinstance(call.func, ast.Name)
        if call.func.id == "unroll":
            (items,) = arguments
            assert isinstance(items, ast.Tuple)
            return [self.value(each) for each in items.elts]
        bounds = [self.value(each) for each in arguments]
        kind = next((each.kind for each in bounds if each.kind in "us"), "u")
        return [Num(kind, number) for number in range(*(each.value for each in bounds))]

    def _loop(self, node: ast.For, rounds: list[Callable[[], None]]) -> None:
        for begin in rounds:
            begin()
            try:
                self.suite(node.body)
            except Continue:
                continue
            except Break:
                return
        self.suite(node.orelse)

    def _while(self, node: ast.While, test: ast.expr) -> None:
        while self._true(test):
            try:
                self.suite(node.body)
            except Continue:
                continue
            except Break:
                return
        self.suite(node.orelse)

    def _match(self, subject: Num, cases: list[ast.match_case]) -> None:
        for case in cases:
            if self._matches(subject, case.pattern) and (case.guard is None or self._true(case.guard)):
                self.suite(case.body)
                return

    def _matches(self, subject: Num, pattern: ast.pattern) -> bool:
        match pattern:
            case ast.MatchAs(pattern=None):
                return True
            case ast.MatchOr(patterns=patterns):
                return any(self._matches(subject, each) for each in patterns)
            case ast.MatchValue(value=value):
                return _compared(ast.Eq(), subject, self.value(value))
            case _:
                raise AssertionError(ast.dump(pattern))

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = _declared(value, self.declared[name]) if name in self.declared else value
            case ast.Attribute(value=owner, attr=attr):
                write(self.value(owner), attr, value)
            case ast.Subscript(value=ast.Attribute(value=owner, attr=attr), slice=index):
                memory, number = self.value(owner), self.value(index).value
                type_ = memory.layout[attr]
                memory.fields[attr][number] = _stored(type_, value)
            case _:
                raise AssertionError(ast.dump(target))

    # --- expressions --------------------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=bool() as truth):
                return Num("b", int(truth))
            case ast.Constant(value=int() as number):
                return Num("c", number)
            case ast.Name(id=name):
                return self.names[name]
            case ast.Attribute(value=owner, attr=attr):
                return read(self.value(owner), attr)
            case ast.Subscript(value=ast.Attribute(value=owner, attr=attr), slice=index):
                memory = self.value(owner)
                type_ = memory.layout[attr]
                return Num(type_.kind, memory.fields[attr][self.value(index).value])
            case ast.BinOp(left=left, op=op, right=right):
                return _binary(op, self.value(left), self.value(right))
            case ast.UnaryOp(op=ast.Not()) | ast.BoolOp() | ast.Compare():
                return Num("b", int(self._true(node)))
            case ast.UnaryOp(op=op, operand=operand):
                return _unary(op, self.value(operand))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._chosen(test, body, orelse)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                self.names[name] = self.value(value)
                return self.names[name]
            case ast.Call():
                return self._evaluator.call(node, self)
            case _:
                raise AssertionError(ast.dump(node))

    def _chosen(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> Any:
        """One side; a constant takes the other side's sign, which can be known without a run only by its type."""
        taken = self.value(body if self._true(test) else orelse)
        if isinstance(taken, Num) and taken.kind == "c":
            other = self._kind(orelse if taken == self.value(body) else body)
            return Num(other, wrapped(other, taken.value)) if other in ("u", "s") else taken
        return taken

    def _kind(self, node: ast.expr) -> str:
        """The kind of what an expression would give; nothing of it has an effect."""
        saved = dict(self.names)
        try:
            found = self.value(node)
        finally:
            self.names.clear()
            self.names.update(saved)
        return found.kind if isinstance(found, Num) else "n"

    def _true(self, node: ast.expr) -> bool:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return all(self._true(each) for each in values)
            case ast.BoolOp(values=values):
                return any(self._true(each) for each in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._true(operand)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._chain(self.value(left), ops, others)
            case _:
                return bool(self.value(node).value)

    def _chain(self, left: Any, ops: list[ast.cmpop], others: list[ast.expr]) -> bool:
        for op, node in zip(ops, others, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                assert isinstance(node, ast.Tuple)
                return any(_compared(ast.Eq(), left, self.value(each)) for each in node.elts) == isinstance(op, ast.In)
            if isinstance(op, ast.Is | ast.IsNot):
                return (left is None) == isinstance(op, ast.Is)
            right = self.value(node)
            if not _compared(op, left, right):
                return False
            left = right
        return True


def read(memory: Memory, name: str) -> Any:
    """A field: a number widened by its sign, what is in network order, or a struct in place."""
    type_ = memory.layout[name]
    if not isinstance(type_, FieldType):
        return memory.fields[name]
    value = memory.fields[name]
    return Net(type_.bits, value) if type_.kind == "n" else Num(type_.kind, value)


def write(memory: Memory, name: str, value: Any) -> None:
    """A field keeps the low bits of a number; a struct is copied."""
    type_ = memory.layout[name]
    if isinstance(value, Memory):
        memory.fields[name] = Memory(value.layout, dict(value.fields))
    else:
        assert isinstance(type_, FieldType)
        memory.fields[name] = _stored(type_, value)


def _stored(type_: Any, value: Any) -> int:
    return value.value if isinstance(value, Net) else wrapped(type_.kind, value.value, type_.bits)


def _declared(value: Any, type_: str) -> Any:
    if not isinstance(value, Num) or type_ not in _WIDTHS:
        return value
    kind, bits = _WIDTHS[type_]
    return Num(kind, wrapped(kind, value.value, bits))


def _common(left: Num, right: Num) -> str:
    kinds = {"u" if each.kind == "b" else each.kind for each in (left, right)} - {"c"}
    assert len(kinds) <= 1, (left, right)
    return kinds.pop() if kinds else "c"


def _binary(op: ast.operator, left: Num, right: Num) -> Num:
    if isinstance(op, ast.LShift | ast.RShift):
        return _shifted(op, left, right)
    kind = _common(left, right)
    if isinstance(op, ast.FloorDiv | ast.Mod):
        one, other = (wrapped("u", each.value) if kind != "c" else each.value for each in (left, right))
        quotient, rest = (one // other, one % other) if other else (0, one)
        return Num(kind, quotient if isinstance(op, ast.FloorDiv) else rest)
    value = _ARITHMETIC[type(op)](left.value, right.value)
    return Num(kind, value if kind == "c" else wrapped(kind, value))


def _shifted(op: ast.operator, left: Num, right: Num) -> Num:
    kind = "u" if left.kind == "b" or (left.kind == "c" and right.kind != "c") else left.kind
    count = right.value if right.kind == "c" else right.value & 63
    value = left.value << count if isinstance(op, ast.LShift) else wrapped(kind, left.value) >> count
    return Num(kind, value if kind == "c" else wrapped(kind, value))


def _unary(op: ast.unaryop, value: Num) -> Num:
    kind = "u" if value.kind == "b" else value.kind
    number = {ast.USub: operator.neg, ast.Invert: operator.invert, ast.UAdd: operator.pos}[type(op)](value.value)
    return Num(kind, number if kind == "c" else wrapped(kind, number))


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(left, Net):
        return bool(_ORDER[type(op)](left.value, right.value))
    kind = _common(left, right)
    one, other = (each.value if kind == "c" else wrapped(kind, each.value) for each in (left, right))
    return _ORDER[type(op)](one, other)


def _sdiv(left: Num, right: Num) -> Num:
    quotient = abs(left.value) // abs(right.value) if right.value else 0
    return Num("s", wrapped("s", quotient if (left.value < 0) == (right.value < 0) else -quotient))


def _smod(left: Num, right: Num) -> Num:
    if not right.value:
        return Num("s", left.value)
    rest = abs(left.value) % abs(right.value)
    return Num("s", -rest if left.value < 0 else rest)


def _least(*values: Num) -> Num:
    return _extreme(values, min)


def _most(*values: Num) -> Num:
    return _extreme(values, max)


def _extreme(values: tuple[Num, ...], choose: Callable[[list[int]], int]) -> Num:
    kind = next((each.kind for each in values if each.kind in "us"), "c")
    return Num(kind, choose([each.value if kind == "c" else wrapped(kind, each.value) for each in values]))


_BUILT_IN: dict[str, Callable[..., Any]] = {
    "sdiv": _sdiv,
    "smod": _smod,
    "min": _least,
    "max": _most,
    "abs": lambda value: Num("u", wrapped("u", abs(value.value))),
    "int": lambda value: Num("u", value.value) if value.kind == "b" else value,
    "bool": lambda value: Num("b", int(value.value != 0)),
    "htons": lambda value: Net(16, value.value & 0xFFFF),
    "htonl": lambda value: Net(32, value.value & 0xFFFFFFFF),
    "htonll": lambda value: Net(64, value.value & MASK),
    "ntohs": lambda value: Num("u", value.value),
    "ntohl": lambda value: Num("u", value.value),
    "ntohll": lambda value: Num("u", value.value),
}
