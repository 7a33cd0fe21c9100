"""Subprograms and callbacks, called in the kernel; and what is refused."""

# ruff: noqa: E501 - a case a line

from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from written_modules import MakeModule, import_source
from written_programs import assert_refused

from pybpfasm.compiler import CompileError, Target, compile_program
from pybpfasm.kernel import running_target

DECLARATIONS = """
class Data(Struct):
    a: u64
    s: i64
    b: u64
    port: be16
    words: Annotated[list[u32], Length(8)]

class Pair(Struct):
    x: u32
    y: u64

class Words(Struct):
    all: Annotated[list[u32], Length(8)]

class Big(Struct):
    all: Annotated[list[u64], Length(30)]

table = HashMap[u32, Pair](max_entries=8)
by_pair = HashMap[Pair, Pair](max_entries=8)
by_ip = HashMap[be32, Pair](max_entries=8)

@bpf.subprogram
def add(x: int, y: int) -> int:
    return x + y

@bpf.subprogram
def five(a: u8, b: u16, c: u32, d: u64, e: i64) -> i64:
    return cast(i64, a + b + c + 1) if d == 4 else e

@bpf.subprogram
def low(x: int) -> u8:
    return x

@bpf.subprogram
def is_web(port: be16) -> bool:
    return port in (htons(80), htons(443))

@bpf.subprogram
def swapped(port: be16) -> be16:
    if port == htons(1):
        return htons(2)
    return port

@bpf.subprogram
def double(p: Pair) -> None:
    p.x *= 2
    p.y *= 2

@bpf.subprogram
def y_of(p: Pair | None) -> int:
    if p is None:
        return 77
    return p.y

@bpf.subprogram
def family(ctx: SockAddr) -> int:
    return ctx.user_family

@bpf.subprogram
def outer(x: int) -> int:
    p = Pair(x=1, y=x)
    double(p)
    return add(p.x, p.y)

@bpf.subprogram
def sign(x: int) -> int:
    if x < 10:
        return -1
    return 1

@bpf.subprogram
def never(x: int) -> int:
    return x

@bpf.subprogram
def recursive(x: int) -> int:
    return recursive(x)

@bpf.subprogram
def six(a: int, b: int, c: int, d: int, e: int, f: int) -> int:
    return a

@bpf.subprogram
def gives_pointer(x: int) -> Pair | None:
    return table.lookup(x)

@bpf.subprogram
def mixed(x: i64, y: u64) -> int:
    if y == 1:
        return x
    return y

@bpf.subprogram
def big(x: int) -> int:
    b = Big(all=[x] * 30)
    by_pair.delete(Pair(x=x, y=1))
    return b.all[3] + deeper(x)

@bpf.subprogram
def deeper(x: int) -> int:
    b = Big(all=[x] * 30)
    table.update(1, Pair(x=b.all[1], y=1))
    return b.all[4] + deepest(x)

@bpf.subprogram
def deepest(x: int) -> int:
    b = Big(all=[x] * 30)
    table.update(1, Pair(x=b.all[1], y=1))
    return b.all[5]

@bpf.callback
def sum_up(index: u32, sums: Pair) -> int:
    sums.x += index
    sums.y += 1
    if sums.x > 20:
        return 1
    return 0

@bpf.callback
def fill(index: u32, words: Words) -> int:
    words.all[index] = index * index
    return 0

@bpf.callback
def nothing(index: int) -> int:
    return 0

@bpf.callback
def visit(key: u32, value: Pair, sums: Pair) -> int:
    sums.x += key
    sums.y += value.y
    value.x = 0
    return 0

@bpf.callback
def visit_pair(key: Pair, value: Pair, sums: Pair) -> int:
    sums.x += key.x
    sums.y += value.y
    return 0

@bpf.callback
def visit_ip(key: be32, value: Pair, sums: Pair) -> int:
    if key == ip4("10.0.0.1"):
        sums.y += value.y
    return 0

@bpf.callback
def wrong_result(index: u32) -> int:
    return 2

@bpf.callback
def no_result(index: u32) -> None:
    return

@bpf.callback
def unannotated(index) -> int:
    return 0

@bpf.callback
def u8_index(index: u8) -> int:
    return 0
"""

# Statements | fields before | fields after.
RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("v.b = add(v.a, 5)", {"a": 3}, {"b": 8}),
    ("v.s = add(v.s, -5)", {"s": 3}, {"s": -2}),
    ("v.b = add(v.a, 5) + add(v.a, 6)\nv.s = add(v.s, -5)", {"a": 3, "s": 1}, {"b": 17, "s": -4}),
    ("v.s = five(v.a, v.a, v.a, 4, -9)", {"a": 0x1FFFF}, {"s": 0xFF + 0xFFFF + 0x1FFFF + 1}),
    ("v.s = five(1, 2, 3, v.a, -9)", {}, {"s": -9}),
    ("v.b = low(v.a)", {"a": 0x1234}, {"b": 0x34}),
    ("if is_web(v.port):\n    v.b = 1\nelse:\n    v.b = is_web(htons(443)) + 4", {"port": 81}, {"b": 5}),
    ("v.port = swapped(v.port)", {"port": 1}, {"port": 2}),
    ("p = Pair(x=1, y=v.a)\ndouble(p)\ndouble(p)\nv.b = p.x + p.y", {"a": 5}, {"b": 24}),
    ("table.update(1, Pair(x=1, y=v.a))\np = table.lookup(1)\nif p is not None:\n    double(p)\nv.b = y_of(table.lookup(1)) + y_of(table.lookup(2)) + y_of(None)", {"a": 5}, {"b": 10 + 77 + 77}),
    ("v.b = family(ctx)", {}, {"b": 2}),
    ("v.b = outer(v.a)", {"a": 5}, {"b": 12}),
    ("v.s = sign(v.a)", {"a": 5}, {"s": -1}),
    ("v.s = sign(v.a)", {"a": 15}, {"s": 1}),
    ("if 5 < 3:\n    v.b = never(5)\nv.a = 1", {}, {"a": 1}),
    ("x = v.a & 3\nif x == 9:\n    v.b = never(5)\nv.a = 1", {}, {"a": 1}),
    ("v.b = v.words[low(v.a) & 7] + v.words[min(low(v.a), 7)]", {"a": 0x102, "words": [0, 0, 6, 0, 0, 0, 0, 0]}, {"b": 12}),
    ("add(1, 2)\nv.a = 1", {}, {"a": 1}),
    ("for i in range(3):\n    v.a = add(v.a, i)", {}, {"a": 3}),
]  # fmt: skip

# With a target that has the helpers: Linux 5.17, 5.13.
CALLED_BACK: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("p = Pair(x=0, y=0)\nv.s = loop(10, sum_up, p)\nv.a = p.x\nv.b = p.y", {}, {"s": 7, "a": 21, "b": 7}),
    ("w = Words(all=[0] * 8)\nv.s = loop(8, fill, w)\nv.words = w.all", {}, {"s": 8, "words": [0, 1, 4, 9, 16, 25, 36, 49]}),
    ("v.s = loop(v.a & 15, nothing)", {"a": 5}, {"s": 5}),
    ("table.update(3, Pair(x=1, y=4))\ntable.update(5, Pair(x=1, y=6))\np = Pair(x=0, y=0)\nv.s = table.for_each(visit, p)\nv.a = p.x\nv.b = p.y", {}, {"s": 2, "a": 8, "b": 10}),
    ("by_pair.update(Pair(x=3, y=1), Pair(x=1, y=4))\np = Pair(x=0, y=0)\nby_pair.for_each(visit_pair, p)\nv.a = p.x\nv.b = p.y", {}, {"a": 3, "b": 4}),
    ("by_ip.update(ip4('10.0.0.1'), Pair(x=1, y=4))\np = Pair(x=0, y=0)\nby_ip.for_each(visit_ip, p)\nv.b = p.y", {}, {"b": 4}),
]  # fmt: skip


def run(caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], target: Any = None) -> Any:
    """The struct after the program has run."""
    from pybpfasm import htons

    fields = {name: htons(value) if name == "port" else value for name, value in before.items()}
    return DataBench(caller, write_module).run(DECLARATIONS, body, fields, target)


def check(found: Any, after: dict[str, Any]) -> None:
    """The fields that are named have their values."""
    from pybpfasm import htons

    wanted = {name: htons(value) if name == "port" else value for name, value in after.items()}
    assert {name: getattr(found, name) for name in after} == wanted


@pytest.mark.parametrize(("body", "before", "after"), RUNS, ids=[each[0] for each in RUNS])
def test_subprograms(
    caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """A subprogram computes what an ordinary function does."""
    check(run(caller, write_module, body, before), after)


@pytest.mark.parametrize(("body", "before", "after"), CALLED_BACK, ids=[each[0] for each in CALLED_BACK])
def test_callbacks(
    caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The kernel calls the body as often as it says, with what it was given."""
    check(run(caller, write_module, body, before, running_target()), after)


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    ("v.a = recursive(1)", "return recursive(x) | recursive", "recursive calls itself, which no function can here: write a loop"),
    ("v.a = six(1, 2, 3, 4, 5, 6)", "def six(a: int, b: int, c: int, d: int, e: int, f: int) -> int: | def", "a subprogram has at most 5 parameters: hand over a struct"),
    ("p = gives_pointer(1)", "p = gives_pointer(1) | gives", "gives_pointer returns Pair | None: a function of its own returns a number or None"),
    ("v.a = mixed(1, 2)", "return y | y", "this returns u64, another `return` of the function i64: declare `-> i64`"),
    ("v.a = add(v.port, 1)", "v.a = add(v.port, 1) | v.port", "this is be16 where int is wanted: convert it with ntohs()"),
    ("double(table.lookup(1))", "double(table.lookup(1)) | table", "this may be None where Pair is wanted"),
    ("v.a = low(300, 1)", "v.a = low(300, 1) | low", "low(): too many positional arguments"),
    ("v.a = double(Pair(x=1, y=2))", "v.a = double(Pair(x=1, y=2)) | double", "Data.a is u64, this is None"),
    ("loop(5, nothing)", "loop(5, nothing) | loop", "loop() needs Linux 5.17, this is compiled for 5.10: write `for … in range(…)`"),
    ("p = Pair(x=0, y=0)\ntable.for_each(visit, p)", "table.for_each(visit, p) | table", "for_each() needs Linux 5.13, this is compiled for 5.10"),
    ("v.words[low(v.a)] = 1", "v.words[low(v.a)] = 1 | low", "the array has 8 elements, this index can be 255"),
]  # fmt: skip

NEWER_RULES = [
    ("loop(5, add)", "loop(5, add) | add", "a function that is marked @callback is wanted, this is add"),
    ("loop(5, sum_up)", "loop(5, sum_up) | loop", "this callback is declared `def sum_up(index: u32) -> int`"),
    ("p = Pair(x=0, y=0)\nloop(5, nothing, p)", "loop(5, nothing, p) | loop", "this callback is declared `def nothing(index: u32, context: Pair) -> int`"),
    ("w = Words(all=[0] * 8)\nloop(5, sum_up, w)", "loop(5, sum_up, w) | loop", "parameter `sums` of sum_up is Pair, Words is what it gets"),
    ("loop(5, sum_up, v)", "loop(5, sum_up, v) | v)", "the context of a callback is a struct on the stack: build one"),
    ("loop(5, u8_index)", "loop(5, u8_index) | loop", "parameter `index` of u8_index is u8, u32 is what it gets"),
    ("loop(5, unannotated)", "loop(5, unannotated) | loop", "this callback is declared `def unannotated(index: u32) -> int`"),
    ("loop(5, no_result)", "loop(5, no_result) | loop", "no_result returns None: a callback returns 0 to go on or 1 to end"),
    ("loop(5, wrong_result)", "return 2 | 2", "a callback returns 0 to go on or 1 to end, not 2"),
    ("loop(1 << 24, nothing)", "loop(1 << 24, nothing) | 1", "loop() goes 8388608 rounds at most"),
    ("loop(5, sum_up, 5)", "loop(5, sum_up, 5) | 5)", "a struct is wanted here, this is int"),
    ("loop(5, sum_up, table.lookup(1))", "loop(5, sum_up, table.lookup(1)) | table", "the context of a callback is a struct on the stack"),
    ("p = Pair(x=0, y=0)\nby_ip.for_each(visit, p)", "by_ip.for_each(visit, p) | by_ip", "parameter `key` of visit is u32, be32 is what it gets"),
    ("w = Words(all=[0] * 8)\nloop(9, fill, w)", "words.all[index] = index * index | index", "the array has 8 elements, this index can be 8"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken, with what to write instead."""
    _refused(write_module, body, marked, reason, Target())


@pytest.mark.parametrize(("body", "marked", "reason"), NEWER_RULES, ids=[each[0] for each in NEWER_RULES])
def test_refusals_of_newer_targets(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """The same for what only newer kernels have at all."""
    _refused(write_module, body, marked, reason, Target(name="6.1", bpf_loop=True, for_each=True))


def _refused(write_module: MakeModule, body: str, marked: str, reason: str, target: Target) -> None:
    module = write_module(with_statements(DECLARATIONS, body))
    assert_refused(module, marked, reason, target)


def test_the_stack_of_all_frames_counts(write_module: MakeModule) -> None:
    """Frames that can be there at the same time have 512 bytes together."""
    module = write_module(with_statements(DECLARATIONS, "v.a = big(v.a)"))
    with pytest.raises(CompileError, match=r"the program needs \d+ bytes of stack, 512 are there"):
        compile_program(module.prog)
    module = write_module(with_statements(DECLARATIONS, "v.a = deepest(v.a)"))
    assert compile_program(module.prog).functions


def test_a_function_is_there_once(write_module: MakeModule) -> None:
    """Two calls with the same kinds of arguments share a function; its name is in the spec."""
    module = write_module(with_statements(DECLARATIONS, "v.a = add(v.a, 1) + add(2, v.b)\nv.s = add(v.s, 1)"))
    spec = compile_program(module.prog)
    assert [each.name for each in spec.functions] == ["add", "add_2"]


def test_loops_run_in_python(tmp_path: Any) -> None:
    """`loop` is an ordinary function outside of programs."""
    module = import_source(
        "import pybpfasm as bpf\ncalled = []\ndef body(index: int, c: list[int]) -> int:\n    c.append(index)\n    return int(index == 3)\n",
        tmp_path,
    )
    from pybpfasm import loop

    found: list[int] = []
    assert loop(10, module.body, found) == 4
    assert found == [0, 1, 2, 3]
    assert loop(2, lambda index: index * 0) == 2


INLINE = """
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

@bpf.inline
def same(x: T) -> T:
    return x

@bpf.inline
def read(ctx: SockAddr, wanted: type[S], x: int) -> int:
    s = wanted(x=x, y=2)
    return s.x + s.y

@bpf.inline
def clamped(x: u32, highest: int = 7, *, step: int = 1) -> int:
    x += step
    if x > highest:
        x = highest
    return x

@bpf.inline
def countdown(n: int) -> int:
    total = 0
    while n > 0:
        total += n
        n -= 1
    return total

@bpf.inline
def other_of(p: Pair, q: Pair) -> int:
    if p.x > q.x:
        p = q
    return p.y

@bpf.subprogram
def scaled(x: u8, by: int = 3) -> int:
    x += 250
    return x * by
"""

INLINE_RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("v.b = same(v.a) + 1\nv.port = same(v.port)\np = same(Pair(x=1, y=v.a))\nv.a = p.y + same(3)", {"a": 5, "port": 3}, {"b": 6, "a": 8, "port": 3}),
    ("p = table.lookup(1)\nif p is None:\n    table.update(1, Pair(x=1, y=4))\np = table.lookup(1)\nif p is not None:\n    q = same(p)\n    v.a = q.y", {}, {"a": 4}),
    ("v.a = read(ctx, Pair, v.b)", {"b": 4}, {"a": 6}),
    ("v.a = clamped(v.b) * 10000 + clamped(v.b, 3) * 100 + clamped(v.b, 90, step=9)", {"b": 5}, {"a": 60314}),
    ("v.a = countdown(4) + countdown(v.b & 3)", {"b": 3}, {"a": 16}),
    ("table.update(1, Pair(x=1, y=4))\ntable.update(2, Pair(x=2, y=6))\np = table.lookup(1)\nq = table.lookup(2)\nif p is None or q is None:\n    return 0\nv.a = other_of(p, q) * 10 + other_of(q, p)", {}, {"a": 44}),
    ("v.a = scaled(v.b) * 100 + scaled(v.b, 2)", {"b": 10}, {"a": 12 * 100 + 8}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), INLINE_RUNS, ids=[each[0] for each in INLINE_RUNS])
def test_inline_functions(
    caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Type variables, defaults, and parameters that are assigned."""
    from pybpfasm import htons

    fields = {name: htons(value) if name == "port" else value for name, value in before.items()}
    found = DataBench(caller, write_module).run(DECLARATIONS + INLINE, body, fields)
    check(found, after)
