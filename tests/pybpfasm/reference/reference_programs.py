"""Random programs of the language, as text: statements that the compiler takes."""

import random

import attrs

# The value of the map that a program works on; `reference_evaluator` is told the same.
DECLARATIONS = """
class Inner(Struct):
    x: u16
    y: u32
    z: i16


class Data(Struct):
    a: u64
    b: u64
    s: i64
    t: i64
    c: u32
    n: i32
    d: u16
    m: i16
    e: u8
    k: i8
    p: be16
    q: be16
    f: be32
    low: Annotated[u32, Bits(3)]
    mid: Annotated[u32, Bits(7)]
    high: Annotated[i32, Bits(5)]
    words: Annotated[list[u32], Length(8)]
    inner: Inner


data = HashMap[u32, Data](max_entries=1)
"""

_UNSIGNED = ("v.a", "v.b", "v.c", "v.d", "v.e", "v.low", "v.mid", "v.inner.x", "v.inner.y")
_SIGNED = ("v.s", "v.t", "v.n", "v.m", "v.k", "v.high", "v.inner.z")
_PORTS = ("v.p", "v.q")
_CONSTANTS = (1, 2, 3, 5, 7, 8, 63, 64, 100, 255, 256, 4095, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40)
_ORDER = ("<", "<=", ">", ">=", "==", "!=")
_ROUNDS = 4


@attrs.define
class Callee:
    """A function that the program may call: what it takes and gives, `u` or `s`; with `on_value` it takes `v` first."""

    name: str
    takes: list[str]
    gives: str


class Writer:
    """Writes one program; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - programs for a test
        self._lines: list[str] = []
        self._locals: dict[str, str] = {}
        self._indices: list[str] = []
        self._positions: list[str] = []  # what unroll gives: constants, which have rules of their own
        self._callees: list[Callee] = []
        self._in_loop = 0
        self._fields = True
        self._names = 0

    def source(self) -> str:
        """The functions and the program, without declarations."""
        for _ in range(self._random.randrange(3)):
            self._function()
        self._lines += ["", "", "@bpf.tc", "def program(ctx: SkBuff) -> int:"]
        self._locals, self._indices, self._positions = {}, [], []
        self._write(1, "v = data.lookup(0)")
        self._write(1, "if v is None:")
        self._write(2, "return 0")
        self._suite(1, self._random.randint(4, 9))
        names = [f"cast(u64, {name})" for name in self._locals]
        self._write(1, f"return cast(u32, {' + '.join([*names, 'v.a', '1'])})")
        return "\n".join(self._lines) + "\n"

    def _function(self) -> None:
        """An inline function or a subprogram of numbers, with an early return now and then."""
        takes = [self._random.choice("us") for _ in range(self._random.randint(1, 3))]
        callee = Callee(f"f{len(self._callees)}", takes, self._random.choice("us"))
        types = [self._random.choice(("u64", "u32", "u8") if kind == "u" else ("i64", "i32", "i8")) for kind in takes]
        listed = ", ".join(f"p{index}: {type_}" for index, type_ in enumerate(types))
        result = self._random.choice(("u64", "u16") if callee.gives == "u" else ("i64", "i16"))
        mark = self._random.choice(("inline", "subprogram"))
        self._lines += ["", "", f"@bpf.{mark}", f"def {callee.name}({listed}) -> {result}:"]
        self._locals, self._fields = {f"p{index}": kind for index, kind in enumerate(takes)}, False
        if self._random.random() < 0.6:
            self._write(1, f"if {self._condition(1)}:")
            self._write(2, f"return {self._typed(callee.gives, 1)}")
        self._write(1, f"return {self._typed(callee.gives, 2)}")
        self._callees.append(callee)
        self._fields = True

    # --- statements ---------------------------------------------------------------------------------------------------

    def _write(self, depth: int, line: str) -> None:
        self._lines.append("    " * depth + line)

    def _suite(self, depth: int, count: int) -> None:
        for _ in range(count):
            self._statement(depth)

    def _statement(self, depth: int) -> None:
        kinds = ["new", "store", "store", "set", "augmented", "element", "bits", "swap", "struct", "port"]
        if depth < 3:
            kinds += ["if", "if", "match", "for", "while", "unroll"]
        if self._in_loop and self._random.random() < 0.15:
            self._write(depth, f"if {self._condition(1)}:")
            self._write(depth + 1, self._random.choice(("break", "continue")))
            return
        getattr(self, f"_{self._random.choice(kinds)}")(depth)

    def _name(self) -> str:
        self._names += 1
        return f"x{self._names}"

    def _new(self, depth: int) -> None:
        if depth > 1:
            self._store(depth)
            return
        kind = self._random.choice("us")
        name, value = self._name(), self._typed(kind, 3)
        types = ("u64", "u64", "u32", "u16", "u8") if kind == "u" else ("i64", "i64", "i32", "i8")
        self._write(depth, f"{name}: {self._random.choice(types)} = {value}")
        self._locals[name] = kind

    def _store(self, depth: int) -> None:
        kind = self._random.choice("us")
        place = self._random.choice(_UNSIGNED if kind == "u" else _SIGNED)
        self._write(depth, f"{place} = {self._typed(kind, 3)}")

    def _set(self, depth: int) -> None:
        names = list(self._locals)
        if not names:
            self._store(depth)
            return
        name = self._random.choice(names)
        self._write(depth, f"{name} = {self._typed(self._locals[name], 3)}")

    def _augmented(self, depth: int) -> None:
        kind = self._random.choice("us")
        places = [*(_UNSIGNED if kind == "u" else _SIGNED), *(n for n, k in self._locals.items() if k == kind)]
        operator = self._random.choice(("+=", "-=", "*=", "&=", "|=", "^="))
        self._write(depth, f"{self._random.choice(places)} {operator} {self._typed(kind, 2)}")

    def _element(self, depth: int) -> None:
        self._write(depth, f"v.words[{self._index()}] {self._random.choice(('=', '+=', '^='))} {self._typed('u', 2)}")

    def _bits(self, depth: int) -> None:
        place, kind = self._random.choice((("v.low", "u"), ("v.mid", "u"), ("v.high", "s")))
        self._write(depth, f"{place} = {self._typed(kind, 2)}")

    def _swap(self, depth: int) -> None:
        kind = self._random.choice("us")
        one, other = self._random.sample(_UNSIGNED if kind == "u" else _SIGNED, 2)
        self._write(depth, f"{one}, {other} = {other}, {self._typed(kind, 1)}")

    def _struct(self, depth: int) -> None:
        fields = f"x={self._typed('u', 1)}, y={self._typed('u', 1)}, z={self._typed('s', 1)}"
        self._write(depth, f"v.inner = Inner({fields})")

    def _port(self, depth: int) -> None:
        value = self._random.choice(
            (
                f"htons({self._typed('u', 1)})",
                "v.q",
                f"v.p if {self._condition(1)} else v.q",
                f"htons({self._constant()})",
            )
        )
        self._write(depth, f"v.p = {value}")
        if self._random.random() < 0.3:
            self._write(depth, f"v.f = htonl({self._typed('u', 1)})")

    def _if(self, depth: int) -> None:
        self._write(depth, f"if {self._condition(2)}:")
        self._suite(depth + 1, self._random.randint(1, 2))
        for _ in range(self._random.randrange(2)):
            self._write(depth, f"elif {self._condition(2)}:")
            self._suite(depth + 1, 1)
        if self._random.random() < 0.5:
            self._write(depth, "else:")
            self._suite(depth + 1, self._random.randint(1, 2))

    def _match(self, depth: int) -> None:
        self._write(depth, f"match {self._random.choice(('v.e', 'v.d', 'v.low', 'v.c'))}:")
        numbers = self._random.sample(range(8), 4)
        self._write(depth + 1, f"case {numbers[0]}:")
        self._suite(depth + 2, 1)
        self._write(depth + 1, f"case {numbers[1]} | {numbers[2]}:")
        self._suite(depth + 2, 1)
        if self._random.random() < 0.5:
            self._write(depth + 1, f"case {numbers[3]} if {self._condition(1)}:")
            self._suite(depth + 2, 1)
        if self._random.random() < 0.7:
            self._write(depth + 1, "case _:")
            self._suite(depth + 2, 1)

    def _body(self, depth: int) -> None:
        self._in_loop += 1
        self._suite(depth, self._random.randint(1, 2))
        self._in_loop -= 1

    def _for(self, depth: int) -> None:
        if self._in_loop:
            self._if(depth)
            return
        name = f"i{self._names}"
        self._names += 1
        bounds = self._random.choice((f"{_ROUNDS}", f"1, {_ROUNDS}", "0, 8, 3", "v.e & 3", "min(v.c, 4)"))
        self._write(depth, f"for {name} in range({bounds}):")
        self._indices.append(name)
        self._body(depth + 1)
        self._indices.remove(name)
        if self._random.random() < 0.3:
            self._write(depth, "else:")
            self._suite(depth + 1, 1)

    def _while(self, depth: int) -> None:
        if self._in_loop:
            self._if(depth)
            return
        name = f"w{self._names}"
        self._names += 1
        self._write(depth, f"{name}: u64 = 0")
        self._write(depth, f"while {name} < {_ROUNDS} and ({self._condition(1)}):")
        self._write(depth + 1, f"{name} += 1")
        self._body(depth + 1)

    def _unroll(self, depth: int) -> None:
        if self._in_loop:
            self._if(depth)
            return
        name = f"i{self._names}"
        self._names += 1
        self._write(depth, f"for {name} in unroll((1, 6, 3)):")
        self._positions.append(name)
        self._body(depth + 1)
        self._positions.remove(name)

    # --- expressions --------------------------------------------------------------------------------------------------

    def _constant(self) -> int:
        return self._random.choice(_CONSTANTS)

    def _index(self) -> str:
        return self._random.choice(
            [*self._indices, *self._positions, "0", "7", "v.a & 7", "v.e % 8", "v.low", "min(v.c, 7)"]
        )

    def _typed(self, kind: str, depth: int) -> str:
        return self._unsigned(depth) if kind == "u" else self._signed(depth)

    def _any(self, depth: int) -> str:
        return self._typed(self._random.choice("us"), depth)

    def _leaf(self, kind: str) -> str:
        known = [name for name, each in self._locals.items() if each == kind]
        fields = list(_UNSIGNED if kind == "u" else _SIGNED) if self._fields else []
        if self._fields and kind == "u":
            fields += [f"v.words[{self._index()}]", "ntohs(v.p)", "ntohl(v.f)", *self._indices]
        if not known + fields:
            return "cast(u64, p0)" if kind == "u" else "cast(i64, p0)"
        return self._random.choice(known * 2 + fields)

    def _unsigned(self, depth: int) -> str:
        if depth == 0:
            return self._leaf("u")
        one, other = self._unsigned(depth - 1), self._unsigned(depth - 1)
        constant = self._constant()
        forms = [
            f"({one} {self._random.choice('+-*&|^')} {other})",
            f"({one} {self._random.choice('+-*&|^')} {constant})",
            f"({one} // {self._random.choice((other, constant))})",
            f"({one} % {self._random.choice((other, constant))})",
            f"({one} << {self._random.choice((self._random.randrange(64), f'({other} & 63)'))})",
            f"({one} >> {self._random.choice((self._random.randrange(64), other))})",
            f"~{one}",
            f"-{one}",
            f"{self._random.choice(('min', 'max'))}({one}, {self._random.choice((other, constant))})",
            f"cast({self._random.choice(('u8', 'u16', 'u32', 'u64'))}, {self._any(depth - 1)})",
            f"({one} if {self._condition(depth - 1)} else {self._random.choice((other, constant))})",
            f"int({self._truth(depth - 1)})",
            f"abs({self._signed(depth - 1)})",
            f"(({self._truth(depth - 1)}) + {one})",
            self._called("u", depth - 1) or one,
        ]
        return self._random.choice(forms)

    def _signed(self, depth: int) -> str:
        if depth == 0:
            return self._leaf("s")
        one, other = self._signed(depth - 1), self._signed(depth - 1)
        constant = self._random.choice((-1, -5, -128, -40000, 3, 17, 1 << 20))
        forms = [
            f"({one} {self._random.choice('+-*&|^')} {other})",
            f"({one} {self._random.choice('+-*&|^')} {constant})",
            f"({one} >> {self._random.randrange(64)})",
            f"({one} << {self._random.randrange(64)})",
            f"-{one}",
            f"~{one}",
            f"{self._random.choice(('sdiv', 'smod'))}({one}, {other})",
            f"{self._random.choice(('min', 'max'))}({one}, {self._random.choice((other, constant))})",
            f"cast({self._random.choice(('i8', 'i16', 'i32', 'i64'))}, {self._any(depth - 1)})",
            f"({one} if {self._condition(depth - 1)} else {self._random.choice((other, constant))})",
            self._called("s", depth - 1) or one,
        ]
        return self._random.choice(forms)

    def _called(self, kind: str, depth: int) -> str:
        possible = [each for each in self._callees if each.gives == kind]
        if not possible:
            return ""
        callee = self._random.choice(possible)
        return f"{callee.name}({', '.join(self._typed(each, depth) for each in callee.takes)})"

    def _condition(self, depth: int) -> str:
        """What may stand behind `if`: a truth, or a number."""
        return self._leaf("u") if depth > 0 and self._random.random() < 0.1 else self._truth(depth)

    def _truth(self, depth: int) -> str:
        kind = self._random.choice("us")
        one, other = self._typed(kind, max(depth - 1, 0)), self._typed(kind, max(depth - 1, 0))
        forms = [
            f"{one} {self._random.choice(_ORDER)} {other}",
            f"{one} {self._random.choice(_ORDER)} {self._constant()}",
            f"{self._leaf('u')} in (3, 64, {self._constant()})",
            f"{one} <= {other} < {self._typed(kind, 0)}",
        ]
        if self._fields:
            forms += ["v.p == v.q", f"v.q != htons({self._constant() & 0xFFFF})", "v.p not in (htons(80), htons(443))"]
        if depth > 0:
            left, right = self._truth(depth - 1), self._truth(depth - 1)
            forms += [f"({left}) and ({right})", f"({left}) or ({right})", f"not ({left})"]
        return self._random.choice(forms)
