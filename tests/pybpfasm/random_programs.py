"""Random programs, and a reference that says what each computes: it follows docs/language.md and not the compiler."""

import random
from collections.abc import Callable
from operator import invert, neg, pos

import attrs
from semantics_bench import In

from pybpfasm.lang.types import htonl, htons

MASK = (1 << 64) - 1


@attrs.frozen
class Expression:
    """A random expression: its text, its type (`u`nsigned, `s`igned, `b`ool, `p`ort), and what it is worth."""

    text: str
    type: str
    value: Callable[[dict[str, int]], int]
    constant: bool = False


def wrapped(number: int, type_: str) -> int:
    """A number cut to 64 bits, as its type reads them."""
    number &= MASK
    return number - (1 << 64) if type_ == "s" and number >> 63 else number


def divided(one: int, other: int) -> int:
    """Unsigned division of the kernel."""
    return one // other if other else 0


def remainder(one: int, other: int) -> int:
    """Unsigned remainder of the kernel."""
    return one % other if other else one


def reference_choose(x: int, y: int, z: int) -> int:
    """What `choose` computes."""
    if x < y:
        return z
    if z == 7:
        return x
    for i in (3, 5):
        if y & i == i:
            return x + y + i & MASK
    return y


def reference_signed_choice(x: int, y: int) -> int:
    """What `signed_choice` computes."""
    if x < y:
        return -5
    return y if y < 0 else 9


FIELDS = {"u": ["a", "b", "c", "d", "e"], "s": ["s", "t", "n"], "p": ["port", "other_port"]}
WIDTHS = {"a": 64, "b": 64, "s": 64, "c": 32, "n": 32, "d": 16, "e": 8}
INTERESTING = [0, 1, 2, 3, 7, 8, 63, 64, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 63, MASK]
BINARY: dict[str, Callable[[int, int], int]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
}
ORDER: dict[str, Callable[[int, int], bool]] = {
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
}


class Generator:
    """Writes random programs together with what they compute."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - programs for a test
        self.locals: dict[str, str] = {}
        self.lines: list[str] = []

    # Statements. Each is written with an indent, and gives what it does to the state.

    def program(self, length: int) -> tuple[str, Callable[[dict[str, int]], None]]:
        """A body, and what it does to a state of input fields, locals and `o.` fields."""
        run = self.block(length, 0)
        for name in self.locals:
            self.lines.append(f"o.a = o.a * 31 + {name}" if self.locals[name] != "s" else f"o.s = o.s * 31 + {name}")

        def whole(state: dict[str, int]) -> None:
            run(state)
            for name, type_ in self.locals.items():
                into = "s" if type_ == "s" else "a"
                state[f"o.{into}"] = wrapped(state[f"o.{into}"] * 31 + state[name], type_)

        return "\n".join(self.lines), whole

    def block(self, length: int, depth: int) -> Callable[[dict[str, int]], None]:
        """Some statements in a row."""
        runs = [self.statement(depth) for _ in range(length)]

        def run(state: dict[str, int]) -> None:
            for each in runs:
                each(state)

        return run

    def statement(self, depth: int) -> Callable[[dict[str, int]], None]:
        """One statement."""
        kinds = ["new", "store", "store", "set", "augmented", "clobber"] + (["if"] if depth < 2 else [])
        kind = self.random.choice(kinds)
        if kind == "clobber":
            self.write(depth, "clobber()")
            return lambda _: None
        if kind == "if":
            return self.branches(depth)
        if kind == "store":
            return self.store(depth)
        if kind in ("set", "augmented") and self.locals:
            return self.change(depth, augmented=kind == "augmented")
        if depth:
            return self.store(depth)
        name, type_ = f"x{len(self.locals)}", self.random.choice("us")
        value = self.variable(type_, 3)
        self.locals[name] = type_
        return self.assign(depth, name, value)

    def assign(self, depth: int, name: str, value: Expression) -> Callable[[dict[str, int]], None]:
        """`name = value`."""
        self.write(depth, f"{name} = {value.text}")

        def run(state: dict[str, int]) -> None:
            state[name] = value.value(state)

        return run

    def change(self, depth: int, *, augmented: bool) -> Callable[[dict[str, int]], None]:
        """A local gets another value."""
        name = self.random.choice(list(self.locals))
        type_ = self.locals[name]
        if not augmented:
            return self.assign(depth, name, self.variable(type_, 3))
        sign = self.random.choice(list(BINARY))
        value = self.expression(type_, 2)
        self.write(depth, f"{name} {sign}= {value.text}")

        def run(state: dict[str, int]) -> None:
            state[name] = wrapped(BINARY[sign](state[name], value.value(state)), type_)

        return run

    def store(self, depth: int) -> Callable[[dict[str, int]], None]:
        """A result goes to a field, which keeps what fits."""
        field = self.random.choice(list(WIDTHS))
        value = self.variable(self.random.choice("usb"), 3)
        self.write(depth, f"o.{field} = {value.text}")

        def run(state: dict[str, int]) -> None:
            number = value.value(state) & (1 << WIDTHS[field]) - 1
            signed = field in "sn" and number >> WIDTHS[field] - 1
            state[f"o.{field}"] = number - (1 << WIDTHS[field]) if signed else number

        return run

    def branches(self, depth: int) -> Callable[[dict[str, int]], None]:
        """An `if` with both arms."""
        condition = self.condition(2)
        self.write(depth, f"if {condition.text}:")
        yes = self.block(self.random.randint(1, 2), depth + 1)
        self.write(depth, "else:")
        no = self.block(self.random.randint(1, 2), depth + 1)
        return lambda state: yes(state) if condition.value(state) else no(state)

    def write(self, depth: int, text: str) -> None:
        """A line of source."""
        self.lines.append("    " * depth + text)

    # Expressions.

    def variable(self, type_: str, depth: int) -> Expression:
        """An expression that is no constant."""
        while (found := self.expression(type_, depth)).constant:
            pass
        return found

    def expression(self, type_: str, depth: int) -> Expression:
        """Any expression of a type."""
        if type_ == "b":
            return self.condition(depth, only_bools=True)
        if depth == 0 or self.random.random() < 0.15:
            return self.leaf(type_)
        return self.unsigned(depth) if type_ == "u" else self.signed(depth)

    def leaf(self, type_: str) -> Expression:
        """A field, a local or a constant."""
        names = [name for name, known in self.locals.items() if known == type_]
        choice = self.random.random()
        if choice < 0.3:
            number = self.random.choice(INTERESTING)
            if type_ == "s":
                number = (number >> 1) * self.random.choice((1, -1))
            return Expression(str(number), type_, lambda _: number, constant=True)
        name = self.random.choice(names) if names and choice < 0.6 else f"v.{self.random.choice(FIELDS[type_])}"
        return Expression(name, type_, lambda state: state[name])

    def unsigned(self, depth: int) -> Expression:
        """An unsigned number."""
        kind = self.random.choice(["binary"] * 4 + ["divide", "shift", "count", "unary", "choice", "swap", "call"])
        one = self.variable("u", depth - 1)
        if kind == "binary":
            return self.binary(one, "u", depth)
        if kind == "divide":
            sign, compute = self.random.choice((("//", divided), ("%", remainder)))
            other = self.expression("u", depth - 1)
            if other.constant and other.text == "0":
                other = self.variable("u", 0)
            return self.joined(one, sign, other, "u", compute)
        if kind == "shift":
            count = self.random.randint(0, 63)
            other = Expression(str(count), "u", lambda _: count, constant=True)
            return self.shifted(one, other, "u")
        if kind == "count":
            return self.shifted(one, self.variable("u", depth - 1), "u")
        if kind == "unary":
            return self.unary(one, "u")
        if kind == "choice":
            return self.choice(one, self.expression("u", depth - 1), "u", depth)
        if kind == "swap":
            call, mask = self.random.choice((("ntohs(htons", 0xFFFF), ("ntohl(htonl", 0xFFFFFFFF)))
            return Expression(f"{call}({one.text}))", "u", lambda state: one.value(state) & mask)
        x, y = self.expression("u", depth - 1), self.expression("u", depth - 1)
        return Expression(
            f"choose({x.text}, {one.text}, {y.text})",
            "u",
            lambda state: reference_choose(x.value(state), one.value(state), y.value(state)),
        )

    def signed(self, depth: int) -> Expression:
        """A signed number."""
        kind = self.random.choice(["binary", "binary", "shift", "unary", "choice", "call"])
        one = self.variable("s", depth - 1)
        if kind == "binary":
            return self.binary(one, "s", depth)
        if kind == "shift":
            return self.shifted(one, self.variable("u", depth - 1), "s")
        if kind == "unary":
            return self.unary(one, "s")
        other = self.expression("s", depth - 1)
        if kind == "choice":
            return self.choice(one, other, "s", depth)
        return Expression(
            f"signed_choice({one.text}, {other.text})",
            "s",
            lambda state: reference_signed_choice(one.value(state), other.value(state)),
        )

    def binary(self, one: Expression, type_: str, depth: int) -> Expression:
        """Sums, products, bits."""
        sign = self.random.choice(list(BINARY))
        return self.joined(one, sign, self.expression(type_, depth - 1), type_, BINARY[sign])

    def joined(
        self, one: Expression, sign: str, other: Expression, type_: str, compute: Callable[[int, int], int]
    ) -> Expression:
        """Two sides, in either order where that is allowed."""
        left, right = one, other
        if self.random.random() < 0.5:
            left, right = other, one
        return Expression(
            f"({left.text} {sign} {right.text})",
            type_,
            lambda state: wrapped(compute(left.value(state), right.value(state)), type_),
        )

    def shifted(self, one: Expression, count: Expression, type_: str) -> Expression:
        """A shift; a count is taken modulo 64."""
        sign = self.random.choice(("<<", ">>"))

        def value(state: dict[str, int]) -> int:
            number, places = one.value(state), count.value(state) & 63
            return wrapped(number << places if sign == "<<" else number >> places, type_)

        return Expression(f"({one.text} {sign} {count.text})", type_, value)

    def unary(self, one: Expression, type_: str) -> Expression:
        """A sign or an inversion."""
        sign = self.random.choice("-~+")
        signs: dict[str, Callable[[int], int]] = {"-": neg, "~": invert, "+": pos}
        compute = signs[sign]
        return Expression(f"({sign}{one.text})", type_, lambda state: wrapped(compute(one.value(state)), type_))

    def choice(self, one: Expression, other: Expression, type_: str, depth: int) -> Expression:
        """A conditional expression."""
        test = self.condition(depth - 1)
        return Expression(
            f"({one.text} if {test.text} else {other.text})",
            type_,
            lambda state: one.value(state) if test.value(state) else other.value(state),
        )

    def condition(self, depth: int, *, only_bools: bool = False) -> Expression:
        """What an `if` may test: a comparison, its negation, several joined; or a number, where its truth is asked."""
        kind = self.random.choice(["compare"] * 3 + ["and", "or", "not", "between", "number", "ports"])
        if kind in ("and", "or") and depth > 0:
            one, other = (self.condition(depth - 1, only_bools=only_bools) for _ in range(2))
            if kind == "and":
                return Expression(
                    f"({one.text} and {other.text})", "b", lambda s: bool(one.value(s) and other.value(s))
                )
            return Expression(f"({one.text} or {other.text})", "b", lambda s: bool(one.value(s) or other.value(s)))
        if kind == "not" and depth > 0:
            negated = self.condition(depth - 1)
            return Expression(f"(not {negated.text})", "b", lambda state: not negated.value(state))
        if kind == "number" and not only_bools:
            number = self.variable(self.random.choice("us"), max(depth - 1, 0))
            return Expression(number.text, "b", lambda state: bool(number.value(state)))
        if kind == "between":
            x, low, high = (self.variable("u", max(depth - 1, 0)) for _ in range(3))
            return Expression(
                f"between({x.text}, {low.text}, {high.text})",
                "b",
                lambda state: low.value(state) <= x.value(state) <= high.value(state),
            )
        if kind == "ports":
            left, right = self.random.choices(FIELDS["p"], k=2)
            sign = self.random.choice(("==", "!="))
            return Expression(
                f"(v.{left} {sign} v.{right})", "b", lambda s: ORDER[sign](s[f"v.{left}"], s[f"v.{right}"])
            )
        return self.comparison(depth)

    def comparison(self, depth: int) -> Expression:
        """Two numbers of one kind compared."""
        type_ = self.random.choice("us")
        one = self.variable(type_, max(depth - 1, 0))
        other = self.expression(type_, max(depth - 1, 0))
        sign = self.random.choice(list(ORDER))
        if other.text == "0" and sign in ("<", ">="):
            sign = "=="
        left, right = (one, other) if self.random.random() < 0.5 else (other, one)
        if right.text == "0" and sign in ("<", ">="):
            sign = "!="
        return Expression(
            f"({left.text} {sign} {right.text})", "b", lambda s: ORDER[sign](left.value(s), right.value(s))
        )


def random_input(chance: random.Random) -> In:
    """An input out of interesting numbers."""
    signed = [number >> 1 for number in INTERESTING] + [-(number >> 1) for number in INTERESTING] + [-1 << 63]
    port = chance.choice(INTERESTING)
    return In(
        a=chance.choice(INTERESTING),
        b=chance.getrandbits(64),
        s=chance.choice(signed),
        t=chance.choice(signed),
        c=chance.choice(INTERESTING) & 0xFFFFFFFF,
        n=chance.choice((-1 << 31, -1, 0, 5, (1 << 31) - 1)),
        d=chance.choice(INTERESTING) & 0xFFFF,
        e=chance.choice(INTERESTING) & 0xFF,
        port=htons(port),
        other_port=htons(chance.choice((port, 80))),
        ip=htonl(0),
        other_ip=htonl(0),
    )
