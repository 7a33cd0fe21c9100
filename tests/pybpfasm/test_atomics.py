"""Atomic changes of fields, in the kernel; and what is refused."""

# ruff: noqa: E501 - a case a line

from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import CompileError, Target, compile_program
from pybpfasm.kernel import running_target

DECLARATIONS = """
class Data(Struct):
    a: u64
    n: u32
    s: i32
    small: u16
    flags: Annotated[u32, Bits(3)]
    b: u64
    back: i64
    words: Annotated[list[u32], Length(4)]

count = Global[u64](5)
fixed = ReadOnly[u64](5)
"""

# Statements | fields before | fields after.
RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("atomic_add(v.a, 5)\natomic_add(v.n, v.a)", {"a": 3, "n": 0xFFFFFFFF}, {"a": 8, "n": 7}),
    ("atomic_or(v.a, 5)\natomic_and(v.n, 6)\natomic_xor(v.b, v.a)", {"a": 2, "n": 12, "b": 1}, {"a": 7, "n": 4, "b": 6}),
    ("v.b = fetch_add(v.a, 5)", {"a": 3}, {"a": 8, "b": 3}),
    ("v.back = fetch_add(v.s, 5)", {"s": -3}, {"s": 2, "back": -3}),
    ("v.b = fetch_or(v.a, 5) * 100 + fetch_and(v.a, 6) * 10 + fetch_xor(v.a, 1)", {"a": 3}, {"a": 7, "b": 376}),
    ("v.b = exchange(v.a, 9)", {"a": 3}, {"a": 9, "b": 3}),
    ("v.b = compare_exchange(v.a, 3, 9)\nv.n = compare_exchange(v.a, 3, 10)", {"a": 3}, {"a": 9, "b": 3, "n": 9}),
    ("v.b = compare_exchange(v.words[v.a & 3], v.n, v.n + 1)", {"a": 2, "n": 7, "words": [0, 0, 7, 0]}, {"words": [0, 0, 8, 0], "b": 7}),
    ("atomic_add(v.words[v.a & 3], 4)", {"a": 2}, {"words": [0, 0, 4, 0]}),
    ("v.a = fetch_add(count.value, 1)\nv.b = count.value", {}, {"a": 5, "b": 6}),
    ("for i in range(5):\n    v.b += fetch_add(v.a, i)", {}, {"a": 10, "b": 0 + 0 + 1 + 3 + 6}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), RUNS, ids=[each[0] for each in RUNS])
def test_atomics(
    caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The field is changed, and what it was before comes back."""
    found = DataBench(caller, write_module).run(DECLARATIONS, body, before, running_target())
    assert {name: getattr(found, name) for name in after} == after


def test_ordered_accesses(caller: Caller, write_module: MakeModule) -> None:
    """Loads and stores with an order, where the kernel has them (Linux 6.15)."""
    body = "v.b = load_acquire(v.a)\nstore_release(v.n, 7)\nv.back = load_acquire(v.s)"
    target = running_target()
    if not target.has("store-release"):
        module = write_module(with_statements(DECLARATIONS, body))
        with pytest.raises(CompileError, match=r"load_acquire\(\) needs Linux 6.15"):
            compile_program(module.prog, target=target)
        return
    found = DataBench(caller, write_module).run(DECLARATIONS, body, {"a": 5, "s": -2}, target)
    assert (found.b, found.n, found.back) == (5, 7, -2)


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    ("fetch_add(v.a, 1)", "fetch_add(v.a, 1) | fetch", "fetch_add() needs Linux 5.12, this is compiled for 5.10"),
    ("atomic_or(v.a, 1)", "atomic_or(v.a, 1) | atomic", "atomic_or() needs Linux 5.12, this is compiled for 5.10"),
    ("store_release(v.a, 1)", "store_release(v.a, 1) | store", "store_release() needs Linux 6.15, this is compiled for 5.10"),
    ("atomic_add(v.small, 1)", "atomic_add(v.small, 1) | v", "only u32, u64, i32 and i64 are changed at once, this is u16"),
    ("atomic_add(v.flags, 1)", "atomic_add(v.flags, 1) | v", "only u32, u64, i32 and i64 are changed at once, this is a bit field"),
    ("atomic_add(v.words, 1)", "atomic_add(v.words, 1) | v", "only u32, u64, i32 and i64 are changed at once, this is u32[4]"),
    ("atomic_add(v.a + 1, 1)", "atomic_add(v.a + 1, 1) | v", "a field or an element is wanted here"),
    ("x = v.a\natomic_add(x, 1)", "atomic_add(x, 1) | x", "a field or an element is wanted here"),
    ("atomic_add(ctx.type, 1)", "atomic_add(ctx.type, 1) | ctx", "a context has no atomic fields"),
    ("d = Data(a=1, n=1, s=1, small=1, flags=1, b=1, back=1, words=[0] * 4)\natomic_add(d.a, 1)", "atomic_add(d.a, 1) | d", "this is on the stack, where no other CPU sees it: assign it"),
    ("atomic_add(fixed.value, 1)", "atomic_add(fixed.value, 1) | fixed", "this is read-only"),
    ("atomic_add(v.n, 1 << 33)", "atomic_add(v.n, 1 << 33) | 1", "8589934592 does not fit the field, which is u32"),
    ("x = atomic_add(v.n, 1)", "x = atomic_add(v.n, 1) | atomic", "None cannot be given to the name `x`"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken, with what to write instead."""
    module = write_module(with_statements(DECLARATIONS, body))
    assert_refused(module, marked, reason, Target())
