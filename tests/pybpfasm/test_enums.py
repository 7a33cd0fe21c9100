"""Enums are numbers: in fields of a declared width, as parameters and results, in comparisons and `match`."""

# ruff: noqa: E501 - a case a line

from typing import Any

import pytest
from cgroup_caller import Caller
from data_bench import DataBench, with_statements
from written_modules import MakeModule
from written_programs import assert_points_at

from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.errors import BpfError

DECLARATIONS = """
from enum import IntEnum, IntFlag

class State(IntEnum):
    NEW = 1
    OLD = 2

class Flags(IntFlag):
    A = 1
    B = 4

class Data(Struct):
    state: Annotated[State, u32]
    flags: Annotated[Flags, u8]
    n: u64

@bpf.inline
def following(state: State) -> State:
    return State.OLD if state == State.NEW else State.NEW

@bpf.subprogram
def has(flags: Flags, flag: Flags) -> bool:
    return flags & flag != 0
"""

RUNS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("v.state = State.OLD\nv.n = State.OLD + 1", {"state": 1}, {"state": 2, "n": 3}),
    ("v.state = following(v.state)", {"state": 1}, {"state": 2}),
    ("v.state = following(v.state)", {"state": 2}, {"state": 1}),
    ("s: State = v.state\nv.n = s", {"state": 2}, {"n": 2}),
    ("v.flags |= Flags.B\nv.n = 1 if has(v.flags, Flags.A) else 2", {"flags": 1}, {"flags": 5, "n": 1}),
    ("v.flags |= Flags.B\nv.n = 1 if has(v.flags, Flags.A) else 2", {}, {"flags": 4, "n": 2}),
    ("match v.state:\n    case State.NEW:\n        v.n = 7\n    case State.OLD:\n        v.n = 8\n    case _:\n        v.n = 9", {"state": 2}, {"n": 8}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "before", "after"), RUNS, ids=[each[0] for each in RUNS])
def test_enums(caller: Caller, write_module: MakeModule, body: str, before: dict[str, Any], after: dict[str, Any]) -> None:  # fmt: skip
    """A field has the declared width, a parameter and a result is a number."""
    found = DataBench(caller, write_module).run(DECLARATIONS, body, {"state": 0, "flags": 0, **before})
    assert {name: getattr(found, name) for name in after} == after


def test_a_constant_has_to_fit(write_module: MakeModule) -> None:
    """A member is a constant like any other."""
    module = write_module(with_statements(DECLARATIONS, "v.flags = 300"))
    with pytest.raises(CompileError) as caught:
        compile_program(module.prog)
    assert caught.value.reason == "300 does not fit Data.flags, which is u8"
    assert_points_at(caught.value, "v.flags = 300 | 300")


def test_a_field_says_how_wide_it_is(write_module: MakeModule) -> None:
    """An enum by itself has no width."""
    with pytest.raises(BpfError, match=r"say how wide it is, Annotated\[State, u32\]"):
        write_module(DECLARATIONS + "class Bare(Struct):\n    state: State\n")
