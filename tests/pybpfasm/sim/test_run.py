"""Running: results, traces, single steps, coverage, and what is refused before the first instruction."""

import sys

import pytest
from shapes import program, shape

import pybpfasm as bpf
from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Jump
from pybpfasm.spec import SourceLine
from pybpfasm.uapi import MapType, ProgramType

ADD = (isa.mov_imm(0, 1), isa.alu_imm(Alu.ADD, 0, 2), isa.exit_program())


def branch(lines: bool = False) -> object:
    """A program that returns 1 for a SockOps whose op is 5, else 2."""
    where = (
        SourceLine(0, "a.py", 1, 1, "if op == 5:"),
        SourceLine(2, "a.py", 2, 1, "return 2"),
        SourceLine(4, "a.py", 3, 1, "return 1"),
    )
    return program(
        ProgramType.SOCK_OPS,
        isa.load(4, 1, 1, 0),
        isa.jump_if_imm(Jump.JEQ, 1, 5, "five"),
        isa.mov_imm(0, 2),
        isa.exit_program(),
        isa.Label("five"),
        isa.mov_imm(0, 1),
        isa.exit_program(),
        **({"lines": where} if lines else {}),
    )


def test_the_plain_case() -> None:
    """r1 and r2 are address and length of a copy of mem; without it both are 0."""
    result = sim.run([isa.store_imm(1, 1, 0, 7), isa.mov(0, 2), isa.exit_program()], mem=b"\0\1")
    assert (result.ret, result.mem) == (2, b"\7\1")
    assert sim.run([isa.mov(0, 1), isa.alu(Alu.OR, 0, 2), isa.exit_program()]).ret == 0


def test_signed_results() -> None:
    """The answer as signed 64 and 32 bits."""
    result = sim.run([isa.mov_imm(0, -7), isa.exit_program()])
    assert (result.ret, result.signed, result.ret32) == ((1 << 64) - 7, -7, -7)


def test_traces() -> None:
    """A trace has each instruction with the registers that it changed, in a list or one by one."""
    entries = sim.run(ADD, trace=True).trace
    assert [(entry.slot, dict(entry.changed)) for entry in entries] == [(0, {0: 1}), (1, {0: 3}), (2, {})]
    assert str(entries[1]) == "   1: (07) r0 += 2  ; r0 = 0x3"
    seen: list[int] = []
    result = sim.run(ADD, trace=lambda entry: seen.append(entry.slot))
    assert (seen, result.trace) == ([0, 1, 2], [])


def test_single_steps() -> None:
    """A machine stands before each instruction, shows its registers, and ends with the result."""
    machine = sim.step(ADD)
    assert machine.pc == 0
    assert machine.step()
    assert (machine.pc, machine.registers[0]) == (1, 1)
    assert machine.step()
    assert not machine.step()
    assert (machine.result, machine.ended, machine.step()) == (3, True, False)


def test_a_machine_goes_on_after_steps() -> None:
    """run() goes to the end from wherever step() left off."""
    machine = sim.step(ADD)
    machine.step()
    with pytest.raises(sim.SimError, match="the program has not ended yet"):
        _ = machine.result
    assert machine.run() == 3


def test_coverage() -> None:
    """Slots and edges of one run, of several, and what is missing with its source line."""
    spec = branch(lines=True)
    one, other = (sim.run(spec, sim.SockOps(op=op)).coverage for op in (5, 6))
    assert one.slots == {0, 1, 4, 5}
    assert one.edges == {1: {True}}
    assert [str(each) for each in one.missing()] == [
        "slot 1, (15) if r1 == 0x5 goto pc+2 (a.py:1: if op == 5:): never fell through",
        "slot 2, (b7) r0 = 2 (a.py:2: return 2): never ran",
        "slot 3, (95) exit (a.py:2: return 2): never ran",
    ]
    assert one.missing_lines == {("a.py", 2)}
    both = sim.Coverage.merged([one, other])
    assert both == one | other
    assert (both.missing(), both.missing_lines) == ([], frozenset())
    assert str(both) == "p: 6 of 6 instructions, 0 things missing"
    with pytest.raises(ValueError, match="not the same program"):
        _ = one | sim.run(ADD).coverage


def test_a_program_that_is_not_compiled_is_refused() -> None:
    """A function with a decorator is no spec yet: the text says how to compile it."""

    @bpf.connect4
    def never(ctx: bpf.SockAddr) -> int:
        return 1

    with pytest.raises(sim.SimError, match=r"never is not compiled: run what compile_program\(never\) gives"):
        sim.run(never)


def test_wrong_arguments() -> None:
    """What is no instruction, memory for a spec, and two byte orders are refused."""
    with pytest.raises(sim.SimError, match="item 1 of the program is int, not an Instruction"):
        sim.run([ADD[0], 5])
    with pytest.raises(sim.SimError, match="p takes a context, not mem"):
        sim.run(branch(), mem=b"1")
    with pytest.raises(sim.SimError, match="byteorder is 'big' and the world's is 'little'"):
        sim.run(ADD, world=sim.World(), byteorder="big")


@pytest.mark.parametrize("order", ["middle", ""])
def test_there_are_two_byte_orders(order: str) -> None:
    """Another is refused wherever it can be said."""
    for attempt in (
        lambda: sim.run(ADD, byteorder=order),
        lambda: sim.World(byteorder=order),
        lambda: setattr(sim.World(), "byteorder", order),
        lambda: sim.create_map(shape(MapType.HASH), byteorder=order),
    ):
        with pytest.raises(sim.SimError, match=f"byteorder.* {order!r}"):
            attempt()


@pytest.mark.parametrize("cpus", [0, -1])
def test_a_world_has_a_cpu(cpus: int) -> None:
    """No CPU at all is refused, when the world is made and when it is changed."""
    world = sim.World()
    for attempt in (
        lambda: sim.World(cpus=cpus),
        lambda: setattr(world, "cpus", cpus),
        lambda: sim.create_map(shape(MapType.PERCPU_ARRAY), cpus=cpus),
    ):
        with pytest.raises(sim.SimError, match=f"cpus is {cpus}"):
            attempt()
    assert world.cpus == 4


@pytest.mark.parametrize("limit", [-1, sys.maxsize + 1, 1 << 70])
def test_a_step_limit_has_limits(limit: int) -> None:
    """What cannot be counted to is refused."""
    with pytest.raises(sim.SimError, match=f"step_limit is {limit}: it goes from 0 to"):
        sim.run(ADD, step_limit=limit)
    assert sim.run(ADD, step_limit=sys.maxsize).ret == 3


def test_errors_of_a_tests_own_helper_come_through() -> None:
    """An assertion in a function that a test supplied is not turned into something else."""

    def fails(_machine: sim.Machine) -> int:
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        sim.run([isa.call(5), isa.exit_program()], helpers={5: fails})
