"""Each pass on a program for which it has something to do: the function before and after it, reviewed as text."""

# ruff: noqa: E501 - a case a line

from pathlib import Path

import pytest
from written_modules import MakeModule

from pybpfasm.compiler import passes_of
from pybpfasm.compiler.passes import pipeline

GOLDEN = Path(__file__).parent / "golden"

DECLARATIONS = """
class Stat(Struct):
    a: u64
    b: u64
    small: u32
    flags: u32

class Key(Struct):
    x: u32
    y: u32

stats = HashMap[u32, Stat](max_entries=8)
keyed = HashMap[Key, Stat](max_entries=8)
others = HashMap[u32, Stat](max_entries=8)

@bpf.inline
def find(n: u32) -> Stat | None:
    found = stats.lookup(n)
    if found is None:
        found = others.lookup(n)
        if found is None:
            return None
    return found
"""

# A pass | statements of a sock_ops program, with `v`, a value of a map.
PASSES = {
    "frontend": "if ctx.op == 3 and ctx.local_port > 1024:\n    v.a += 1\nreturn 1",
    "fold": "x = ctx.op & 0xFF\ny = x + 3 - 1\nif y > 1000:\n    v.a = 1\nv.b = y * 8\nreturn 1",
    "shorten": "x = 1 if ctx.op == 3 else 0\nif x == 1:\n    v.a = 5\nelse:\n    v.a = 6\nreturn 1",
    "decide": "w = find(ctx.op)\nif w is None:\n    return 1\nw.a += 1\nreturn 1",
    "reuse_loads": "v.a = v.b + v.b\nif v.b == 3:\n    v.small = 1\nreturn 1",
    "remove_dead": "x = v.a * 3\ny = x + v.b\nv.a = v.b\nreturn 1",
    "merge_stores": "k = Key(x=ctx.op & 0, y=ctx.local_port)\nk.x = 5\nif keyed.lookup(k) is None:\n    return 1\nreturn 0",
    "join_neighbours": "v.small = 0\nv.flags = 0\nreturn 1",
    "share_returns": "if ctx.op == 1:\n    return 1\nif ctx.op == 2:\n    v.b = 1\n    return 0\nif v.a == 4:\n    return 1\nv.a = 7\nreturn 0",
    "halve_chains": "\n".join(
        f"{'if' if n == 0 else 'elif'} ctx.op == {n * 7}:\n    v.a = {n}" for n in range(9)
    ) + "\nreturn 1",
    "legalize": "v.a = v.b // 3 + (v.a << 40) + 0x123456789\nreturn 1",
    "move_late": "x = v.a\nh.ktime_get_ns()\nv.b = x\nreturn 1",
    "allocate": "a = v.a\nb = v.b\nc = ctx.op\nd = ctx.local_port\ne = ctx.family\nf = ctx.state\nh.ktime_get_ns()\nv.a = a + b + c + d + e + f\nreturn 1",
}  # fmt: skip


def test_every_pass_has_its_golden() -> None:
    """The passes of the pipeline, and those behind it that change the function."""
    names = {each.__name__ for each in (*pipeline._AGAIN, *pipeline._ONCE)} | {"merge_stores"}
    assert names | {"frontend", "legalize", "move_late", "allocate"} == set(PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_what_a_pass_does(write_module: MakeModule, name: str, request: pytest.FixtureRequest) -> None:
    """The first time that it changes something: what there was, and what it has made of it."""
    body = PASSES[name].replace("\n", "\n    ")
    source = f"@bpf.sock_ops\ndef prog(ctx: SockOps) -> int:\n    v = stats.lookup(1)\n    if v is None:\n        return 0\n    {body}\n"
    steps = passes_of(write_module(DECLARATIONS + source).prog)
    before = "".join(f"# {line}\n" for line in PASSES[name].splitlines())
    for (previous, old), (this, new) in zip((("", ""), *steps[:-1]), steps, strict=True):
        if this == name and new != old:
            shown = f"behind {previous}:\n\n{old}\n\n" if old else ""
            text = f"{before}\n{shown}behind {this}:\n\n{new}\n"
            break
    else:
        pytest.fail(f"{name} changes nothing")
    golden = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_two_compilations_have_the_same_text(write_module: MakeModule) -> None:
    """Behind every pass: the numbers of values and blocks do not depend on the run."""
    module = write_module(f"{DECLARATIONS}\n@bpf.sock_ops\ndef prog(ctx: SockOps) -> int:\n    return ctx.op & 1\n")
    assert passes_of(module.prog) == passes_of(module.prog)
