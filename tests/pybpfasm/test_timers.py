"""Timers of maps' values, which call a function of the program later."""

# ruff: noqa: E501 - a case a line

import struct
import time

import pytest
from data_bench import with_statements
from written_modules import MakeModule
from written_programs import assert_refused

from pybpfasm.compiler import CompileError, compile_program
from pybpfasm.kernel import features
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.kernel.target import named_target, running_target

DECLARATIONS = """
class Data(Struct):
    a: u64
    b: u64
    timer: Timer = Timer()
    n: u32 = 0

class Stat(Struct):
    n: u64

stats = HashMap[u32, Stat](max_entries=4)

@bpf.callback
def expired(key: u32, value: Data) -> int:
    value.a += key + 5
    if value.a < 12:
        timer_start(value.timer, 1000)
    return 0

@bpf.callback
def wrong_result(key: u32, value: Data) -> int:
    return 1

@bpf.callback
def wrong_value(key: u32, value: Stat) -> int:
    return 0
"""

PROGRAM = """
data = Array[u32, Data](max_entries=2)

@bpf.xdp
def prog(ctx: XdpMd) -> int:
    v = data.lookup(1)
    if v is None:
        return 0
    v.n = 1 if timer_init(v.timer, data) == 0 else 2
    if timer_set_callback(v.timer, data, expired) == 0:
        v.b = 1
    timer_start(v.timer, 1000)
    return 2

@bpf.xdp
def stop(ctx: XdpMd) -> int:
    v = data.lookup(1)
    if v is None:
        return 0
    return 1 if timer_cancel(v.timer) < 0 else 2
"""


@pytest.mark.needs(features.LOOP)
def test_timers(write_module: MakeModule) -> None:
    """A timer's function is called with the key and the value, and may start it again."""
    module = write_module(DECLARATIONS + PROGRAM)
    spec, stop = (compile_program(each, target=running_target()) for each in (module.prog, module.stop))
    key = struct.pack("<I", 1)
    with (
        Map.create(spec.maps["data"]) as data,
        Program.load(spec, {"data": data}) as program,
        Program.load(stop, {"data": data}) as stopping,
    ):
        assert program.run(bytes(64)).retval == 2
        until = time.monotonic() + 5
        while (found := module.Data.from_bytes(bytes(data.lookup(key) or b""))).a < 12 and time.monotonic() < until:
            time.sleep(0.001)
        assert (found.a, found.b, found.n) == (12, 1, 1)
        assert stopping.run(bytes(64)).retval == 2


# Statements | the line and the piece of it that the error points at | the beginning of the reason.
RULES = [
    ("timer_start(v.a, 5)", "timer_start(v.a, 5) | v.a", "a Timer of a map's value is wanted, this is int"),
    ("d = Data(a=1, b=2)\ntimer_start(d.timer, 5)", "timer_start(d.timer, 5) | d.timer", "this timer is on the stack"),
    ("timer_init(v.timer, stats)", "timer_init(v.timer, stats) | stats", "the values of this map have no Timer"),
    ("timer_init(v.timer, 5)", "timer_init(v.timer, 5) | 5", "the map that the timer lies in is wanted, this is int"),
    ("timer_set_callback(v.timer, data, 5)", "timer_set_callback(v.timer, data, 5) | 5", "a function that is marked @callback is wanted"),
    ("timer_set_callback(v.timer, data, wrong_value)", "timer_set_callback(v.timer, data, wrong_value) | timer", "parameter `value` of wrong_value is Stat, Data is what it gets"),
    ("timer_set_callback(v.timer, data, wrong_result)", "return 1 | 1", "this callback returns 0, not 1"),
    ("v.a = v.timer.opaque[0]", "v.a = v.timer.opaque[0] | v.timer", "a lock's own bytes are the kernel's"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "marked", "reason"), RULES, ids=[each[0] for each in RULES])
def test_refusals(write_module: MakeModule, body: str, marked: str, reason: str) -> None:
    """Each rule is refused where it is broken."""
    module = write_module(with_statements(DECLARATIONS, body))
    assert_refused(module, marked, reason, named_target("6.12"))


def test_older_kernels(write_module: MakeModule) -> None:
    """A kernel without timers is told apart."""
    module = write_module(with_statements(DECLARATIONS, "timer_cancel(v.timer)"))
    with pytest.raises(CompileError, match=r"timer_cancel\(\) needs Linux 5.15, this is compiled for 5.10"):
        compile_program(module.prog)
