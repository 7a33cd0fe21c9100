"""What programs do with arrays, text, unions, bit fields and packed structs, computed in the kernel; and the refusals."""

# ruff: noqa: E501 - a case a line

from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import Target
from pybpfasm.kernel import running_target

DECLARATIONS = """
class Pair(Struct):
    x: u8
    y: u32

class Number(Union):
    whole: u32
    halves: Annotated[list[u16], Length(2)]
    ip: be32

class Odd(Struct, packed=True):
    tag: u8
    word: u64
    short: u16

class Wide(Struct, align=16):
    one: u64

class Header(Struct):
    version: Annotated[u8, Bits(4)]
    length: Annotated[u8, Bits(4)]
    mark: Annotated[u32, Bits(20)]
    shift: Annotated[i32, Bits(5)]

class Data(Struct):
    i: u64
    small: u8
    port: be16
    signed: i32
    out: u64
    back: i64
    words: Annotated[list[u32], Length(4)]
    shorts: Annotated[list[i16], Length(5)]
    ports: Annotated[list[be16], Length(2)]
    pairs: Annotated[list[Pair], Length(3)]
    grid: Annotated[list[Annotated[list[u8], Length(4)]], Length(3)]
    name: Annotated[bytes, Length(16)]
    other: Annotated[bytes, Length(16)]
    short_name: Annotated[bytes, Length(3)]
    number: Number
    header: Header
    odd: Odd
    pair: Pair

class Boxed(Struct):
    tag: u8
    items: Annotated[list[u32], Length(4)]
    name: Annotated[bytes, Length(5)] = b"none"
    pairs: Annotated[list[Pair], Length(2)]

class Bytes(Struct):
    all: Annotated[list[u8], Length(8)]

class Choice(Struct):
    n: Number
    tail: u8

class Bit(Struct):
    a: Annotated[u16, Bits(3)]
    b: Annotated[u16, Bits(13)] = 5

FOUR = (1, 2, 3, 4)
K = 2

@bpf.inline
def total(p: Pair) -> int:
    return p.x + p.y
"""

# Statements | fields before | fields after.
RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # arrays
    ("v.out = v.words[2]", {"words": [1, 2, 3, 4]}, {"out": 3}),
    ("v.words[1] = v.words[0] + 5", {"words": [1, 2, 3, 4]}, {"words": [1, 6, 3, 4]}),
    ("v.words[K] = 7", {}, {"words": [0, 0, 7, 0]}),
    ("v.words[v.i & 3] = 9", {"i": 6}, {"words": [0, 0, 9, 0]}),
    ("v.out = v.words[v.i % 4]", {"i": 7, "words": [1, 2, 3, 4]}, {"out": 4}),
    ("v.out = v.words[v.i >> 62]", {"i": 3 << 62, "words": [1, 2, 3, 4]}, {"out": 4}),
    ("v.out = v.words[min(v.i, 3)]", {"i": 70, "words": [1, 2, 3, 4]}, {"out": 4}),
    ("v.back = v.shorts[v.i % 5]", {"i": 9, "shorts": [1, 2, 3, 4, -5]}, {"back": -5}),
    ("v.back = v.shorts[v.small // 52]", {"small": 255, "shorts": [1, 2, 3, 4, -5]}, {"back": -5}),
    ("i = v.i\nif i < 4:\n    v.words[i] = 1", {"i": 3}, {"words": [0, 0, 0, 1]}),
    ("i = v.i\nif i < 4:\n    v.words[i] = 1", {"i": 4}, {"words": [0, 0, 0, 0]}),
    ("i = v.i\nif i > 3:\n    return 1\nv.words[i] += 2", {"i": 1}, {"words": [0, 2, 0, 0]}),
    ("if (i := v.i) <= 3:\n    v.words[i] += 2", {"i": 1}, {"words": [0, 2, 0, 0]}),
    ("i = v.i\nif 3 >= i:\n    v.words[i] += 2", {"i": 1}, {"words": [0, 2, 0, 0]}),
    ("i = v.i\nif i != 2:\n    return 1\nv.words[i] += 2", {"i": 2}, {"words": [0, 0, 2, 0]}),
    ("for i in range(len(v.words)):\n    v.out += v.words[i]", {"words": [1, 2, 3, 4]}, {"out": 10}),
    ("for i in range(4):\n    v.words[3 - i & 3] = i", {}, {"words": [3, 2, 1, 0]}),
    ("v.words = [1, v.i, 3, v.words[0]]", {"i": 8, "words": [7, 0, 0, 0]}, {"words": [1, 8, 3, 7]}),
    ("v.words = [v.words[1], v.words[0], 0, 0]", {"words": [7, 6, 5, 4]}, {"words": [6, 7, 0, 0]}),
    ("v.words = [5] * 4", {}, {"words": [5, 5, 5, 5]}),
    ("v.words = FOUR", {}, {"words": [1, 2, 3, 4]}),
    ("if v.ports[1] == v.port:\n    v.ports[0] = v.ports[1]", {}, {}),
    ("v.pairs[1].x = 3\nv.pairs[v.i % 3].y = 9", {"i": 2}, {"pairs": [(0,0),(3,0),(0,9)]}),
    ("v.pairs[v.i % 3] = Pair(x=1, y=2)", {"i": 1}, {"pairs": [(0,0),(1,2),(0,0)]}),
    ("p = v.pairs[v.i % 3]\np.y = 5\nv.out = total(p)", {"i": 1}, {"out": 5, "pairs": [(0,0),(0,5),(0,0)]}),
    ("v.grid[v.i & 1][v.small & 3] = 8", {"i": 1, "small": 2}, {"grid": [[0] * 4, [0, 0, 8, 0], [0] * 4]}),
    ("v.grid[2] = v.grid[0]", {"grid": [[1, 2, 3, 4], [0] * 4, [0] * 4]}, {"grid": [[1, 2, 3, 4], [0] * 4, [1, 2, 3, 4]]}),
    ("v.out = len(v.grid) * 100 + len(v.name)", {}, {"out": 316}),
    ("p = v.pair\np.x = 4\nv.out = total(v.pair)", {}, {"out": 4}),
    ("v.pair.x = 1\nv.pairs = [Pair(x=2, y=0), Pair(x=3, y=0), Pair(x=4, y=0)]\np = v.pair\nfor i in range(3):\n    v.out += p.x\n    p = v.pairs[i]", {}, {"out": 6}),
    # text
    ("v.name = b'abc'", {"name": b"0123456789"}, {"name": b"abc"}),
    ("v.name = v.other", {"other": b"other"}, {"name": b"other"}),
    ("if v.name == b'abc':\n    v.out = 1", {"name": b"abc"}, {"out": 1}),
    ("if v.name == b'abc':\n    v.out = 1", {"name": b"abcd"}, {"out": 0}),
    ("if v.name != b'abc':\n    v.out = 1", {"name": b"abc\0x"}, {"out": 1}),
    ("if b'abc' == v.name:\n    v.out = 1", {"name": b"abc"}, {"out": 1}),
    ("b = v.name == v.other\nv.out = b + 1", {"name": b"abc", "other": b"abc"}, {"out": 2}),
    ("b = v.name != v.other\nv.out = b + 1", {"name": b"abc", "other": b"abC"}, {"out": 2}),
    ("if v.name.startswith(b'0123456789a'):\n    v.out = 1", {"name": b"0123456789abc"}, {"out": 1}),
    ("b = v.name.startswith(b'ab')\nv.out = 3 if not b else 4", {"name": b"axbc"}, {"out": 3}),
    ("if v.short_name == b'abc':\n    v.out = v.short_name[2]", {"short_name": b"abc"}, {"out": 99}),
    ("v.out = v.name[v.i & 15]\nv.name[1] = 0x41", {"i": 2, "name": b"abc"}, {"out": 99, "name": b"aAc"}),
    # unions
    ("v.number.whole = 0x12345678\nv.out = v.number.halves[1]", {}, {"out": 0x1234}),
    ("v.number = Number(halves=[1, 2])\nv.out = v.number.whole", {}, {"out": 0x20001}),
    ("n = Number(ip=htonl(1))\nv.out = n.whole", {}, {"out": 1 << 24}),
    ("c = Choice(n=Number(halves=[1, v.small]), tail=3)\nv.out = c.n.whole", {"small": 3}, {"out": 0x30001}),
    # bit fields
    ("v.header.version = 4\nv.header.length = 5\nv.out = v.header.version * 100 + v.header.length", {}, {"out": 405}),
    ("v.header.mark = v.i\nv.out = v.header.mark", {"i": 0xFFFABCDE}, {"out": 0xABCDE}),
    ("v.header.shift = v.back\nv.back = v.header.shift", {"back": -3}, {"back": -3}),
    ("v.header.shift = 15\nv.header.shift += 1\nv.back = v.header.shift", {}, {"back": -16}),
    ("b = Bit(a=v.i)\nv.out = b.a * 100 + b.b", {"i": 15}, {"out": 705}),
    # packed and nested, on the stack
    ("o = Odd(tag=1, word=v.i, short=v.small)\nv.out = o.word\nv.odd = o", {"i": 1 << 60 | 77, "small": 9}, {"out": 1 << 60 | 77}),
    ("v.odd.word = v.i\nv.out = v.odd.word", {"i": 1 << 60 | 77}, {"out": 1 << 60 | 77}),
    ("b = Boxed(tag=1, items=[1, 2, v.i, 4], pairs=[Pair(x=1, y=2), v.pair])\nv.out = b.items[2] + b.pairs[0].y\nv.name[0] = b.name[3]", {"i": 5}, {"out": 7, "name": b"e"}),
]  # fmt: skip

# The same on the stack with indices that are not constant: Linux 5.12.
ON_STACK: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("b = Bytes(all=[0] * 8)\nb.all[v.i & 7] = 5\nv.out = b.all[3]", {"i": 3}, {"out": 5}),
    ("b = Bytes(all=[0] * 8)\nb.all[3] = 1\nb.all[v.i & 7] = 5\nb.all[4] = 1\nv.out = b.all[3]", {"i": 3}, {"out": 5}),
    ("b = Boxed(tag=1, items=[1, 2, 3, 4], pairs=[Pair(x=1, y=2), Pair(x=3, y=4)])\nv.out = b.pairs[v.i & 1].y", {"i": 1}, {"out": 4}),
    ("b = Boxed(tag=1, items=FOUR, pairs=[v.pair] * 2)\np = b.pairs[v.i & 1]\np.y = 6\nv.out = b.pairs[1].y", {"i": 1}, {"out": 6}),
    ("b = bpf.Buffer(10)\nfor i in range(10):\n    b[i] = i * i\nv.out = b[v.i % 10] + len(b)", {"i": 9}, {"out": 91}),
]  # fmt: skip


@pytest.fixture
def bench(caller: Caller, write_module: MakeModule) -> DataBench:
    """Where programs run."""
    return DataBench(caller, write_module)


def check(found: Any, wanted: dict[str, Any]) -> None:
    """The fields that are named have their values."""
    for name, value in wanted.items():
        held = getattr(found, name)
        assert ([(each.x, each.y) for each in held] if name == "pairs" else held) == value


@pytest.mark.parametrize(("body", "before", "after"), RUNS, ids=[each[0] for each in RUNS])
def test_memory(bench: DataBench, body: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """The kernel computes what the page says, with code for the oldest kernel."""
    check(bench.run(DECLARATIONS, body, before), after)


@pytest.mark.parametrize(("body", "before", "after"), ON_STACK, ids=[each[0] for each in ON_STACK])
def test_indices_on_the_stack(bench: DataBench, body: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """What is on the stack can be indexed where the kernel allows it."""
    check(bench.run(DECLARATIONS, body, before, running_target()), after)


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    ("v.words[4] = 1", "v.words[4] = 1 | 4", "index 4 is outside the array's 4 elements"),
    ("v.out = v.words[-1]", "v.out = v.words[-1] | -1", "index -1 is outside the array's 4 elements"),
    ("v.out = v.words[v.i]", "v.out = v.words[v.i] | v.i]", "the array has 4 elements, this index can be anything: bound it by `& 3`, `min(…, 3)`, or test it, `if v.i < 4`"),
    ("v.out = v.words[v.small]", "v.out = v.words[v.small] | v.small", "the array has 4 elements, this index can be 255"),
    ("v.out = v.shorts[v.i & 7]", "v.out = v.shorts[v.i & 7] | v.i", "the array has 5 elements, this index can be 7: bound it by `min(…, 4)`"),
    ("v.out = v.words[v.signed]", "v.out = v.words[v.signed] | v.signed", "this index is signed"),
    ("v.out = v.words[v.port]", "v.out = v.words[v.port] | v.port", "a number is wanted"),
    ("v.out = v.words[0:2]", "v.out = v.words[0:2] | 0:2", "there are no slices"),
    ("i = v.i\nif i < 4:\n    v.out = 1\nv.words[i] = 1", "v.words[i] = 1 | i]", "the array has 4 elements"),
    ("i = v.i\nif i < 4:\n    i += 1\n    v.words[i] = 1", "v.words[i] = 1 | i]", "the array has 4 elements, this index can be 4"),
    ("v.words = [1, 2]", "v.words = [1, 2] | [1", "Data.words has 4 elements, here are 2"),
    ("v.words = 5", "v.words = 5 | 5", "Data.words is u32[4], this is int"),
    ("v.words = v.shorts", "v.words = v.shorts | v.shorts", "Data.words is u32[4], this is i16[5]"),
    ("v.words = [1, 2, 3, v.port]", "v.words = [1, 2, 3, v.port] | [1", "Data.words[3] is u32, this is be16"),
    ("v.pairs = [v.pairs[1], v.pair, v.pair]", "v.pairs = [v.pairs[1], v.pair, v.pair] | [v", "these may be the array's own elements: assign one by one"),
    ("w = v.words", "w = v.words | v.words", "an array cannot be given a name: use its elements"),
    ("x = [1, 2]", "x = [1, 2] | [1", "an array cannot be given to the name `x`"),
    ("v.out = v.i[0]", "v.out = v.i[0] | v.i", "int cannot be indexed"),
    ("v.name = b'0123456789abcdefg'", "v.name = b'0123456789abcdefg' | b'", "Data.name is char[16], this has 17 bytes"),
    ("v.name = 5", "v.name = 5 | 5", "Data.name is char[16], this is int"),
    ("v.name = v.short_name", "v.name = v.short_name | v.short_name", "Data.name is char[16], this is char[3]"),
    ("if v.name == v.short_name:\n    v.out = 1", "if v.name == v.short_name: | v.name", "char[16] is compared with char[3]"),
    ("if v.name == 'abc':\n    v.out = 1", "if v.name == 'abc': | v.name", "char[16] is compared with str: b'…' or text"),
    ("if v.name < b'abc':\n    v.out = 1", "if v.name < b'abc': | v.name", "text has no order here"),
    ("if v.name == b'abc\\0':\n    v.out = 1", "if v.name == b'abc\\0': | v.name", "text ends before its zero bytes"),
    ("if v.short_name == b'abcd':\n    v.out = 1", "if v.short_name == b'abcd': | v.short", "4 bytes can never be in char[3]"),
    ("if v.name.startswith('a'):\n    v.out = 1", "if v.name.startswith('a'): | 'a'", "a constant b'…' is wanted, this is str"),
    ("if v.name.endswith(b'a'):\n    v.out = 1", "if v.name.endswith(b'a'): | v.name", "char[16] has no attribute `endswith`"),
    ("if v.name:\n    v.out = 1", "if v.name: | v.name", "a number is wanted, this is char[16]"),
    ("n = Number(whole=1, ip=htonl(1))", "n = Number(whole=1, ip=htonl(1)) | Number", "Number is a union: give exactly one of its fields"),
    ("n = Number()", "n = Number() | Number", "Number is a union: give exactly one of its fields"),
    ("a = Pair(x=1, y=2)\nb = Pair(x=3, y=4)\nfor i in range(3):\n    v.out += a.x\n    a = b", "for i in range(3): | for", "`a` is another struct when the loop comes around: assign its fields, or use two names"),
    ("v.header.version = 16", "v.header.version = 16 | 16", "16 does not fit Header.version, which is 4 bits of u8"),
    ("v.out = v.header.nope", "v.out = v.header.nope | nope", "Header has no field `nope`"),
    ("b = Bytes(all=[0] * v.i)", "b = Bytes(all=[0] * v.i) | v.i", "this has to be known when the program is compiled"),
    ("b = Bytes(all=[0] * 8)\nb.all[v.i & 7] = 5", "b.all[v.i & 7] = 5 | b", "to index what is on the stack by a number that is not constant needs Linux 5.12, this is compiled for 5.10"),
    ("b = bpf.Buffer(v.i)", "b = bpf.Buffer(v.i) | v.i", "this has to be known when the program is compiled"),
    ("b = bpf.Buffer(600)", "b = bpf.Buffer(600) | bpf", "a buffer has 1 to 512 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken, with what to write instead."""
    module = write_module(with_statements(DECLARATIONS, body))
    assert_refused(module, marked, reason, Target())
