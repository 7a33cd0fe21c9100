"""What compiled programs compute in the kernel is what docs/language.md says."""

import errno
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from cgroup_caller import Caller
from random_programs import FIELDS, WIDTHS, Generator, random_input
from semantics_bench import Bench, In, Inner
from written_modules import MakeModule

from pybpfasm import btf
from pybpfasm.kernel.maps import Map
from pybpfasm.lang.maps import Array
from pybpfasm.lang.types import htonl, htons, u32

MASK = (1 << 64) - 1
UNSIGNED_INT = btf.Int("unsigned int", 4)


@pytest.fixture
def bench(caller: Caller, write_module: MakeModule) -> Iterator[Bench]:
    """Where programs run."""
    made = Bench(caller, write_module)
    yield made
    made.close()


INPUT = In(
    a=0xFEDCBA9876543210,
    b=3,
    s=-17,
    t=5,
    c=0xFFFFFFFF,
    n=-2,
    d=0xFFFF,
    e=0x80,
    port=htons(0x1234),
    other_port=htons(0x3412),
    ip=htonl(0x7F000001),
    other_ip=htonl(0x0100007F),
)

# --- the rules one by one ---------------------------------------------------------------------------------------------

# Expression over INPUT | the field that takes it | what is in that field afterwards.
RULES = [
    ("v.a + v.a", "a", 0xFDB97530ECA86420),
    ("v.b - 4", "a", MASK),
    ("v.b - v.a", "a", 3 - 0xFEDCBA9876543210 & MASK),
    ("0 - v.b", "a", MASK - 2),
    ("-v.b", "a", MASK - 2),
    ("~v.b", "a", MASK - 3),
    ("+v.b", "a", 3),
    ("v.a * v.a", "a", 0xFEDCBA9876543210**2 & MASK),
    ("v.b + -1", "a", 2),
    ("v.a // v.b", "a", 0xFEDCBA9876543210 // 3),
    ("v.a % v.b", "a", 0xFEDCBA9876543210 % 3),
    ("v.a // (v.b - 3)", "a", 0),
    ("v.a % (v.b - 3)", "a", 0xFEDCBA9876543210),
    ("7 // (v.b - 3)", "a", 0),
    ("7 % (v.b - 3)", "a", 7),
    ("-1 // v.b", "a", MASK // 3),
    ("v.a >> 60", "a", 0xF),
    ("v.a << 60", "a", 0),
    ("1 << v.b", "a", 8),
    ("v.b << (v.b + 64)", "a", 24),
    ("v.a >> (v.b - 3 + 64)", "a", 0xFEDCBA9876543210),
    ("v.a & 0xFFFFFFFF00000000", "a", 0xFEDCBA9800000000),
    ("v.b | 1 << 63", "a", 1 << 63 | 3),
    ("v.b ^ 0xFFFFFFFFFFFFFFFF", "a", MASK ^ 3),
    ("v.b ^ -1", "a", MASK ^ 3),
    ("(1 << 63) * 4 >> 63", "a", 4),
    ("-7 // 2 + 10", "a", None),
    ("v.s", "s", -17),
    ("v.s + v.t", "s", -12),
    ("v.s * v.t", "s", -85),
    ("v.s - 1", "s", -18),
    ("1 - v.s", "s", 18),
    ("-v.s", "s", 17),
    ("~v.s", "s", 16),
    ("v.s >> 2", "s", -5),
    ("v.s << 2", "s", -68),
    ("-8 >> v.b", "s", -1),
    ("v.s & 0xFF", "s", 0xEF),
    ("v.n", "s", -2),
    ("v.n + v.s", "s", -19),
    ("v.n", "n", -2),
    ("v.n", "a", MASK - 1),
    ("v.n", "c", 0xFFFFFFFE),
    ("v.c + 1", "a", 1 << 32),
    ("v.c + 1", "c", 0),
    ("v.c", "n", -1),
    ("v.d + 2", "d", 1),
    ("v.e * 2", "e", 0),
    ("v.e * 2", "a", 256),
    ("v.a", "e", 0x10),
    ("v.a", "d", 0x3210),
    ("v.a", "c", 0x76543210),
    ("-1", "a", MASK),
    ("-1", "e", 255),
    ("-1", "s", -1),
    ("v.b == 3", "a", 1),
    ("v.b != 3", "a", 0),
    ("not v.b", "a", 0),
    ("not (v.b - 3)", "a", 1),
    ("v.a > v.b", "a", 1),
    ("v.a > 0x7FFFFFFF", "a", 1),
    ("v.a > 0x80000000", "a", 1),
    ("v.b < 0xFFFFFFFFFFFFFFFF", "a", 1),
    ("0 < v.b", "a", 1),
    ("v.s < v.t", "a", 1),
    ("v.s < 0", "a", 1),
    ("v.s >= -17", "a", 1),
    ("v.s <= -18", "a", 0),
    ("v.n < 1", "a", 1),
    ("(v.b == 3) + (v.a > 5) + 1", "a", 3),
    ("v.b == 3 and v.s < 0", "a", 1),
    ("v.b == 4 or v.s > 0", "a", 0),
    ("not (v.b == 3 and v.s > 0)", "a", 1),
    ("5 if v.b else 6", "a", 5),
    ("5 if not v.b else 6", "a", 6),
    ("v.a if v.b == 4 else v.b", "a", 3),
    ("v.s if v.b == 3 else 0", "s", -17),
    ("0 if v.b == 3 else v.s", "s", 0),
    ("-1 if v.b == 3 else 1", "s", -1),
    ("v.port", "port", htons(0x1234)),
    ("htons(0x1234)", "port", htons(0x1234)),
    ("htons(v.a)", "port", htons(0x3210)),
    ("ntohs(v.port)", "a", 0x1234),
    ("ntohl(v.ip) >> 24", "a", 127),
    ("htonl(v.a)", "ip", htonl(0x76543210)),
    ("ntohl(htonl(v.a))", "a", 0x76543210),
    ("ip4('127.0.0.1')", "ip", htonl(0x7F000001)),
    ("v.ip == ip4('127.0.0.1')", "a", 1),
    ("v.ip == v.other_ip", "a", 0),
    ("v.port != v.other_port", "a", 1),
    ("v.port if v.b == 3 else htons(9)", "port", htons(0x1234)),
    ("choose(v.b, 4, v.a)", "a", 0xFEDCBA9876543210),
    ("choose(v.b, 3, 7)", "a", 3),
    ("choose(v.b, 3, 8)", "a", 9),
    ("choose(v.a, 4, 8)", "a", 4),
    ("choose(v.a, 5, choose(1, 2, 6))", "a", (0xFEDCBA9876543210 + 10) & MASK),
    ("signed_choice(v.s, 4) + 1", "s", -4),
    ("signed_choice(v.t, v.s)", "s", -17),
    ("signed_choice(6, v.t)", "s", 9),
    ("between(v.b, 1, 3)", "a", 1),
    ("between(v.b, 4, 9) or between(v.b, 2, 3)", "a", 1),
    ("1 < v.b < 4", "a", 1),
    ("1 < v.b < 3 < v.a", "a", 0),
    ("v.s < 0 <= v.t", "a", 1),
    ("v.b in (1, 2, 3)", "a", 1),
    ("v.b not in (1, 2)", "a", 1),
    ("v.b in range(3)", "a", 0),
    ("v.port in (htons(1), htons(0x1234))", "a", 1),
    ("2 < v.b in (3, 4)", "a", 1),
    ("(k := v.b + 1) * k", "a", 16),
    ("bpf.cast(u8, v.a)", "a", 0x10),
    ("bpf.cast(u32, v.a) + 1", "a", 0x76543211),
    ("bpf.cast(i8, v.e)", "s", -128),
    ("bpf.cast(i16, v.d)", "s", -1),
    ("bpf.cast(i64, v.a)", "s", 0xFEDCBA9876543210 - (1 << 64)),
    ("bpf.cast(u64, v.s)", "a", MASK - 16),
    ("bpf.cast(i8, 0xFF)", "s", -1),
    ("bpf.sdiv(v.s, 5)", "s", -3),
    ("bpf.smod(v.s, 5)", "s", -2),
    ("bpf.sdiv(v.s, -5)", "s", 3),
    ("bpf.smod(v.t, v.s)", "s", 5),
    ("bpf.sdiv(v.s, v.t - 5)", "s", 0),
    ("bpf.smod(v.s, v.t - 5)", "s", -17),
    ("bpf.sdiv(bpf.cast(i64, 1 << 63), v.t - 6)", "s", -(1 << 63)),
    ("bpf.smod(bpf.cast(i64, 1 << 63), v.t - 6)", "s", 0),
    ("bpf.sdiv(-7, 2)", "s", -3),
    ("min(v.a, v.b)", "a", 3),
    ("max(v.b, 7, 2)", "a", 7),
    ("min(v.s, v.t)", "s", -17),
    ("max(v.s, -3)", "s", -3),
    ("min(2, 3)", "a", 2),
    ("abs(v.s)", "a", 17),
    ("abs(-4)", "a", 4),
    ("bool(v.b) + bool(v.b - 3)", "a", 1),
    ("int(v.b == 3)", "a", 1),
    ("len((1, 2, 3)) + len('ab')", "a", 5),
    ("narrow(v.a, v.a)", "a", 0x10 + 0x3210),
    ("narrow_result(v.a)", "a", 0x10),
]


@pytest.mark.parametrize(("expression", "field", "expected"), RULES, ids=[f"{rule[0]} -> {rule[1]}" for rule in RULES])
def test_rule(bench: Bench, expression: str, field: str, expected: Any) -> None:
    """Each rule of docs/language.md, by an expression whose value was worked out by hand."""
    if expected is None:
        expected = eval(expression)  # noqa: S307 - constants are computed as Python computes them
    (found,) = bench.run(f"o.{field} = {expression}", [INPUT])
    assert getattr(found, field) == expected


# Statements over INPUT | what they leave behind.
STATEMENTS: list[tuple[str, dict[str, Any]]] = [
    (  # several values in memory are all there before the first is overwritten
        """
o.first = Inner(x=1, y=2)
o.second = Inner(x=3, y=4)
o.first, o.second = o.second, o.first
o.first.x, o.second, o.a = 9, o.first, o.second.y
""",
        {"first": Inner(x=9, y=4), "second": Inner(x=3, y=4), "a": 2},
    ),
    (  # arrays and texts: the same
        """
lists = Lists(one=[1, 2, 3], other=[4, 5, 6], name=b"", label=b"")
lists.one, lists.other = lists.other, lists.one
lists.name = b"abc"
lists.label = b"xyz"
lists.name, lists.label = lists.label, lists.name
o.a = lists.one[0] * 100 + lists.other[2] * 10 + (lists.name == b"xyz") + (lists.label == b"abc")
""",
        {"a": 432},
    ),
    (  # a loop's name is what it is declared to be
        """
i: u8 = 0
total = 0
for i in range(254, 258):
    total = total * 10 + (i & 7)
o.a = total
o.b = i
j: i8 = 0
below = 0
for j in range(126, 130):
    below += j < 0
o.c = below
for i in bpf.unroll(range(3)):
    o.d = i
k: i64 = 0
for k in range(v.b & 7):
    o.s = k - 5
""",
        {"a": 6701, "b": 1, "c": 2, "d": 2, "s": -3},
    ),
    (  # so is the parameter of an inline function
        "o.a = counted(7)",
        {"a": 255 + 0 + 1},
    ),
    (  # near the ends of 64 bits
        """
rounds = 0
for i in range(0xFFFFFFFFFFFFFFFD, 0xFFFFFFFFFFFFFFFF):
    rounds += 1
    o.a = i
for i in range(0x8000000000000001, 0x7FFFFFFFFFFFFFFF, -1):
    rounds += 16
    o.b = i
for j in range(-0x8000000000000000, -0x7FFFFFFFFFFFFFFE):
    rounds += 256
    o.s = j
o.c = rounds
""",
        {"a": MASK - 1, "b": 1 << 63, "s": -(1 << 63) + 1, "c": 2 + 2 * 16 + 2 * 256},
    ),
    (  # a stop that no counter reaches is none
        """
rounds = 0
for i in range(v.b & 7, 0xFFFFFFFFFFFFFFFF, -1):
    rounds += 1
for i in range(v.e, (1 << 64) - 200, -1):
    rounds += 1
for i in range(10, v.c & 1, -3):
    rounds += 16
for i in range(v.b == 3):
    rounds += 256
o.a = rounds
""",
        {"a": 3 * 16 + 256},
    ),
    (  # the name of what is unrolled is a constant of its declared type
        """
i: i64 = 0
total = 0
for i in bpf.unroll((0, 1, 2)):
    assert i < 3
    total += v.b * i
o.a = total
j: u8 = 0
for k in range(2):
    for j in bpf.unroll((-1, 257)):
        o.b = o.b * 1000 + j
o.s = i
""",
        {"a": 9, "b": 255_001_255_001, "s": 2},
    ),
    (  # a name gets a struct of its own where its place is overwritten
        """
o.first = Inner(x=1, y=2)
o.second = Inner(x=3, y=4)
p, o.first = o.first, o.second
o.a = p.x * 10 + p.y
""",
        {"a": 12, "first": Inner(x=3, y=4)},
    ),
    (  # a range that is looked into is two comparisons
        """
found = 0
if v.b in range(1 << 64):
    found += 1
if v.a in range(1 << 16):
    found += 10
if v.s in range(-17, -16):
    found += 100
if v.s in range(-16, 1 << 70):
    found += 1000
if v.b not in range(-5, 0):
    found += 10000
if v.b in range(4, 1 << 40):
    found += 100000
o.a = found
""",
        {"a": 10101},
    ),
    (  # constants are Python's, and so are their elements
        """
o.a = (1 << 64) - 1
o.b = PORTS[1] * 1000 + PAIRS[1][0] + LETTERS[2]
for low, high in bpf.unroll(PAIRS):
    o.c = low * 100 + high
""",
        {"a": MASK, "b": 443 * 1000 + 7 + ord("c"), "c": 709},
    ),
    (  # a bool is a number where one is wanted
        """
x: u8 = v.b == 3
y: int = v.b == 4
o.a = x * 10 + y
o.b = narrow(v.b == 3, True)
o.s = signed_choice(v.b == 3, 0)
""",
        {"a": 10, "b": 2, "s": 9},
    ),
    (  # constants that the verifier refuses, and that only the optimizer finds: it refuses such counts and divisors
        """
zero: u64 = 0
every = ~zero
small: u32 = 0
o.a = v.a << every
o.b = v.a >> (every - 1)
o.c = v.a // zero
o.d = v.d % small
o.s = v.s >> every
o.port = v.port
""",
        {"a": 0, "b": 3, "c": 0, "d": 0xFFFF, "s": -1},
    ),
    (
        """
x: u32 = v.a
x += v.c
o.a = x
y: i8 = v.e
o.s = y
z: u16 = 0
z -= 1
o.b = z
""",
        {"a": 0x7654320F, "s": -128, "b": 0xFFFF},
    ),
    (
        """
x, y = v.b, 4
x, y = y, x
o.a = x
o.b = y
o.d = o.e = 7
""",
        {"a": 4, "b": 3, "d": 7, "e": 7},
    ),
    (
        """
if (k := v.b + 1) > 3 and k < 5:
    o.a = k
k = min(k, 9)
while (k := k // 2) > 1:
    o.b += 1
o.c = k
""",
        {"a": 4, "b": 1, "c": 1},
    ),
    (
        """
match v.b:
    case 1 | 2:
        o.a = 1
    case 3 if v.a == 0:
        o.a = 2
    case 3:
        o.a = 3
    case _:
        o.a = 4
match v.port:
    case Ports.WEB:
        o.b = 1
    case _:
        o.b = 2
match v.b == 3:
    case True:
        o.c = 5
""",
        {"a": 3, "b": 2, "c": 5},
    ),
    (
        # Six cases, which are searched by halves: values that are one of them, between them, below and above them.
        """
for given in bpf.unroll(range(3, 9)):
    n = v.b + given - 3
    match n:
        case 5 | 0xFFFFFFFFFFFFFFFF:
            o.a += 1
        case 3:
            o.a += 10
        case 0:
            o.b += 1
        case 8 | 7 | 0x10000000000:
            o.a += 100
        case _:
            o.b += 10
match v.s:
    case -17:
        o.e = 1
    case 1 | 2 | 3 | 4 | 5:
        o.e = 2
match v.e:
    case 1 | 2 | 3 | 4 | 5:
        o.d = 1
    case _:
        o.d = 2
""",
        {"a": 211, "b": 20, "e": 1, "d": 2},
    ),
    (
        """
n = 0
total = 0
while n < 10:
    n += 1
    if n == 3:
        continue
    if n == 7:
        break
    total += n
else:
    total = 1000
o.a = total
o.b = n
""",
        {"a": 1 + 2 + 4 + 5 + 6, "b": 7},
    ),
    (
        """
total = 0
for i in range(v.b & 7):
    for j in range(i, 5, 2):
        total += i * 10 + j
else:
    total += 1000
o.a = total
for i in range(5, -1, -2):
    o.b = o.b * 10 + bpf.cast(u64, i)
for i in range(v.b - 3 & 7):
    o.c = 9
""",
        {"a": 1000 + (0 + 2 + 4) + (11 + 13) + (22 + 24), "b": 531, "c": 0},
    ),
    (
        """
for i in range(4):
    if i == 9:
        break
else:
    o.a = 5
for i in range(4):
    if i == 2:
        break
else:
    o.b = 5
for i in unroll((1, 2)):
    pass
else:
    o.c = 6
o.d = i
""",
        {"a": 5, "b": 0, "c": 6, "d": 2},
    ),
    (
        """
x = 1
y = 2
for i in range(20):
    x, y = y, x + y
o.a = x
o.b = y
""",
        {"a": 17711, "b": 28657},
    ),
    (
        """
p = scratch.lookup(99)
for i in range(3):
    if p is not None:
        o.b += p.a
        break
    none = Inner(x=0, y=0)
    s = Out(a=i + 5, b=0, s=0, c=0, n=0, d=0, e=0, port=htons(0), ip=htonl(0), first=none, second=none)
    scratch.update(99, s)
    p = scratch.lookup(99)
scratch.delete(99)
""",
        {"b": 5},
    ),
    (
        """
x: i64 = 5
x -= 10
if x < 0:
    o.a = 1
o.s = x
""",
        {"a": 1, "s": -5},
    ),
    (
        """
x = v.b
x += 1
x *= x
x <<= 2
x |= 1
x ^= 3
x -= 2
x //= 3
x %= 8
x &= 5
x >>= 1
o.a = x
""",
        {"a": 2},
    ),
    (
        """
o.d += v.d
o.d += 2
o.e -= 1
""",
        {"d": 1, "e": 255},
    ),
    (
        """
x = v.b
y = x
x = 9
o.a = y
o.b = x
""",
        {"a": 3, "b": 9},
    ),
    (
        """
total = 0
for i in range(10):
    if i == 2:
        continue
    if i == 5:
        break
    total += i
o.a = total
""",
        {"a": 8},
    ),
    (
        """
total = v.b
for i in unroll((1, 2)):
    for j in unroll((10, 20)):
        if total > 30:
            break
        total += i * j
o.a = total
o.b = i * 100 + 1
""",
        {"a": 33, "b": 201},
    ),
    (
        """
for i in unroll(()):
    o.a = 1
o.b = 2
""",
        {"a": 0, "b": 2},
    ),
    (
        """
if v.b == 3:
    x = 1
elif v.b == 4:
    x = 2
else:
    x = 3
o.a = x
""",
        {"a": 1},
    ),
    (
        """
if v.b == 4:
    x = 1
elif v.b == 3:
    x = 2
else:
    x = 3
o.a = x
""",
        {"a": 2},
    ),
    (
        """
if v.b == 4:
    x = 1
elif v.b == 5:
    x = 2
else:
    x = 3
o.a = x
""",
        {"a": 3},
    ),
    (
        """
if False:
    o.a = 1
else:
    o.b = 1
""",
        {"a": 0, "b": 1},
    ),
    (
        """
o.first = Inner(x=300 - 100, y=v.c)
o.second = o.first
o.first.x = 1
""",
        {"first": Inner(x=1, y=4294967295), "second": Inner(x=200, y=4294967295)},
    ),
    (
        """
k = Inner(x=1, y=2)
m = k
m.x = 9
o.first = k
k.x = 5
o.second = m
""",
        {"first": Inner(x=9, y=2), "second": Inner(x=5, y=2)},
    ),
    (
        """
for i in range(3):
    k = Inner(x=i, y=2)
o.first = k
""",
        {"first": Inner(x=2, y=2)},
    ),
    (
        """
n = Inner(x=1, y=2)
n.x += 255
o.first = n
""",
        {"first": Inner(x=0, y=2)},
    ),
    (
        """
n = Nest(inner=Inner(x=4, y=v.b), z=8)
o.first = n.inner
m = n.inner
m.y = 77
o.second = n.inner
o.a = n.z
""",
        {"first": Inner(x=4, y=3), "second": Inner(x=4, y=77), "a": 8},
    ),
    (
        """
d = Defaults()
o.first = d.inner
o.a = d.z
o.port = d.port
""",
        {"first": Inner(x=6, y=7), "a": 1099511627776, "port": htons(0x50)},
    ),
    ("o.a = bump(o).b\no.c = 1", {"a": 1, "b": 1, "c": 1}),
    ("bump(o).b += 10", {"b": 11}),
    ("p = scratch.lookup(v.b)\no.a = p.a if p is not None else 4", {"a": 4}),
    (
        """
x = Out(a=1, b=2, s=-3, c=4, n=-5, d=6, e=7, port=v.port, ip=v.ip, first=Inner(x=1, y=2), second=o.second)
o.a = scratch.update(v.b, x) == 0
p = scratch.lookup(3)
if p is not None:
    o.s = p.s
    o.n = p.n
    o.port = p.port
    o.first = p.first
    p.a += 1
    q = p
    o.b = q.a
o.c = scratch.delete(3) == 0
o.d = scratch.delete(3) == -2
""",
        {"a": 1, "s": -3, "n": -5, "port": htons(0x1234), "first": Inner(x=1, y=2), "b": 2, "c": 1, "d": 1},
    ),
    (
        """
x = v.a
clobber()
y = v.b
clobber()
z = v.s
clobber()
o.a = x
o.b = y
o.s = z
""",
        {"a": 18364758544493064720, "b": 3, "s": -17},
    ),
    ("x = 3 if pick(v) is None else 4\no.a = x", {"a": 4}),
    (
        """
p = pick(v)
if p is None:
    return 1
o.a = p.b
""",
        {"a": 3},
    ),
    ("p = o.first if v.b == 3 else o.second\np.x = 5", {"first": Inner(x=5, y=0)}),
    (
        """
p = side(o, v.b)
if p is not None:
    p.y = 6
o.c = side(o, v.c) is None
""",
        {"second": Inner(x=0, y=6), "c": 1},
    ),
]

MORE = """
class Nest(Struct):
    inner: Inner
    z: u16

class Defaults(Struct):
    inner: Inner = Inner(x=6, y=7)
    z: u64 = 1 << 40
    port: be16 = htons(80)

PORTS = (80, 443)
PAIRS = ((1, 2), (7, 9))
LETTERS = b"abc"

class Lists(Struct):
    one: Annotated[list[u32], Length(3)]
    other: Annotated[list[u32], Length(3)]
    name: Annotated[bytes, Length(5)]
    label: Annotated[bytes, Length(5)]

@bpf.inline
def counted(i: u8) -> int:
    total = 0
    for i in range(255, 258):
        total += i
    return total

@bpf.inline
def bump(out: Out) -> Out:
    out.b += 1
    return out

@bpf.inline
def pick(given: In) -> In | None:
    if given.b == 4:
        return None
    return given

@bpf.inline
def side(out: Out, which: int) -> Inner | None:
    if which == 3:
        return out.second
    return None
"""


@pytest.mark.parametrize(("body", "expected"), STATEMENTS, ids=[body.strip().split("\n")[0] for body, _ in STATEMENTS])
def test_statements(bench: Bench, body: str, expected: dict[str, Any]) -> None:
    """Statements do what Python's do: loops, branches, copies, aliases, structs, maps, pointers."""
    (found,) = bench.run(body, [INPUT], MORE)
    assert {name: getattr(found, name) for name in expected} == expected


def test_many_values_live_across_calls(bench: Bench) -> None:
    """More values than registers live across helper calls, and all come out as they went in."""
    count = 40
    body = "".join(f"x{i} = v.a * {i + 1} + v.b\nclobber()\n" for i in range(count))
    body += "total = 0\n" + "".join(f"total = total * 31 + x{i}\n" for i in range(count)) + "o.a = total"
    (found,) = bench.run(body, [INPUT])
    total = 0
    for i in range(count):
        total = total * 31 + INPUT.a * (i + 1) + INPUT.b
    assert found.a == total & MASK


SETSOCKOPT = """
@helper(Helper.SETSOCKOPT)
def setsockopt(ctx: SockAddr, level: int, option: int, value: Mark, size: int) -> i64:
    raise NotImplementedError
"""
MARK = """
class Mark(Struct):
    mark: u32

marks = Array[u32, Mark](max_entries=1)
"""


def test_values_that_do_not_live_together_share_the_stack(bench: Bench) -> None:
    """Of many values kept over calls, one after the other, each gives its place on the stack to the next."""
    body = "total = v.b\n"
    for i in range(40):
        names = [f"x{i}_{j}" for j in range(8)]
        body += "".join(f"{name} = total * {j} + v.b\n" for j, name in enumerate(names)) + "clobber()\n"
        body += f"total = {' + '.join(names)}\n"
    (found,) = bench.run(body + "o.a = total", [INPUT])
    total = INPUT.b
    for _ in range(40):
        total = sum(total * j + INPUT.b for j in range(8))
    assert found.a == total & MASK


@pytest.mark.parametrize("mark", [0, 0x539, 0xFFFFFFFF])
def test_a_helper_with_five_arguments(bench: Bench, mark: int) -> None:
    """Five arguments, some kept over other calls, arrive in their order: bpf_setsockopt sets the socket's mark."""
    body = """
size = (v.b & 0) + 4
clobber()
option = v.t + 31
clobber()
value = marks.lookup(0)
if value is None:
    return 0
value.mark = v.c
o.s = setsockopt(ctx, v.t - 4, option, value, size)
"""
    declaration: Any = Array[u32, Inner](max_entries=1)
    spec = attrs.evolve(declaration.spec("marks"), value=btf.Struct("Mark", 4, (btf.Member("mark", UNSIGNED_INT, 0),)))
    with Map.create(spec) as marks:
        bench.maps["marks"] = marks
        changed = In(**{**vars(INPUT), "c": mark})
        (found,) = bench.run(body, [changed], MARK + SETSOCKOPT)
        del bench.maps["marks"]
    assert found.s == 0
    assert bench.answers == [("connected", mark)]


def test_the_result_decides(bench: Bench) -> None:
    """A program's result is what the hook acts on: 0 refuses the connect with EPERM."""
    bench.run("if v.b == 3:\n    return 0", [INPUT, In(**{**vars(INPUT), "b": 4})])
    assert [answer for answer, _ in bench.answers] == [str(errno.EPERM), "connected"]


def test_an_assigned_field_of_the_context_sticks(bench: Bench) -> None:
    """A port in network order that a program assigns is where the socket connects to; read again, it is the same."""
    bench.run("o.port = ctx.user_port\nctx.user_port = htons(9999)\no.a = ntohs(ctx.user_port)", [INPUT])
    found = bench.outputs.get(0)
    assert found is not None
    assert (found.port, found.a) == (htons(9), 9999)


# --- random programs against the reference ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(bench: Bench, seed: int) -> None:
    """Random programs leave in the kernel what the reference says, for several inputs each."""
    for number in range(5):
        generator = Generator(seed * 1000 + number)
        body, run = generator.program(8)
        inputs = [random_input(generator.random) for _ in range(3)]
        for given, found in zip(inputs, bench.run(body, inputs), strict=True):
            state = {f"v.{name}": getattr(given, name) for name in FIELDS["u"] + FIELDS["s"]}
            state |= {f"v.{name}": int.from_bytes(getattr(given, name).packed, "big") for name in FIELDS["p"]}
            state |= {f"o.{name}": 0 for name in WIDTHS}
            run(state)
            expected = {name: state[f"o.{name}"] for name in WIDTHS}
            assert {name: getattr(found, name) for name in WIDTHS} == expected, f"{given}\n{body}"
