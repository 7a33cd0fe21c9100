"""Arguments are evaluated in the order in which they are written, as Python evaluates them."""

import pytest

import pybpfasm as bpf
from pybpfasm import HashMap, SockAddr, Struct, u32, u64
from pybpfasm import helpers as h
from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.isa import Class, Jump
from pybpfasm.uapi import Helper


class Pair(Struct):
    """Two numbers."""

    first: u64
    second: u64


pairs = HashMap[u32, Pair](max_entries=1)


@bpf.inline
def difference(x: int, y: int) -> int:
    """One less the other."""
    return x - y


@bpf.connect4
def fields_out_of_order(ctx: SockAddr) -> int:
    """The clock is asked first."""
    pairs.update(1, Pair(second=h.ktime_get_ns(), first=h.get_current_uid_gid()))
    return 1


@bpf.connect4
def arguments_out_of_order(ctx: SockAddr) -> int:
    """Python would ask the clock first."""
    if difference(y=h.ktime_get_ns(), x=h.get_current_uid_gid()) == 0:
        return 0
    return 1


def test_fields_are_evaluated_as_written() -> None:
    """The helper of the field that is written first is called first, whatever the struct's layout."""
    calls = [
        each.imm for each in compile_program(fields_out_of_order).instructions if each.opcode == Class.JMP | Jump.CALL
    ]
    assert calls[:2] == [Helper.KTIME_GET_NS, Helper.GET_CURRENT_UID_GID]


def test_arguments_out_of_order_are_refused() -> None:
    """A call whose arguments would be evaluated in another order than Python's is an error at the call."""
    with pytest.raises(
        CompileError, match=r"write the arguments of difference\(\) in the order of its parameters"
    ) as raised:
        compile_program(arguments_out_of_order)
    assert "difference(y=" in raised.value.location.text
