"""Memory safety: what a verifier would not let pass is an error that names instruction, place and bounds."""

import pytest

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Atomic, Instruction
from pybpfasm.spec import MapSpec, ProgramSpec, SourceLine, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType

END = (isa.mov_imm(0, 0), isa.exit_program())


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (isa.load(4, 2, 1, 6), r"read of 4 bytes at mem\+6: mem has bytes 0 to 7"),
        (isa.load(1, 2, 1, -1), r"read of 1 byte at mem-1: mem has bytes 0 to 7"),
        (isa.store_imm(8, 1, 1, 0), r"write of 8 bytes at mem\+1: mem has bytes 0 to 7"),
        (isa.load(8, 2, 10, -8), r"read of 8 bytes at stack\+504: byte stack\+504 was never written"),
        (isa.load(8, 2, 10, 0), r"read of 8 bytes at stack\+512: stack has bytes 0 to 511"),
        (isa.store_imm(1, 10, -513, 0), r"write of 1 byte at stack-1: stack has bytes 0 to 511"),
    ],
)
def test_bad_accesses(access: Instruction, message: str) -> None:
    """Outside the region, or of bytes that nobody wrote: region, offset, size and bounds are named."""
    with pytest.raises(sim.AccessError, match=message) as caught:
        sim.run([access, *END], mem=bytes(8))
    assert caught.value.slot == 0
    assert str(caught.value).startswith("program, slot 0, (")


def test_the_source_line_is_named() -> None:
    """An error in a program that knows its source names file, line and text."""
    spec = ProgramSpec(
        name="broken",
        type=ProgramType.XDP,
        attach_type=AttachType.XDP,
        context="xdp_md",
        instructions=(isa.mov_imm(2, 0), isa.load(1, 0, 2, 4), isa.exit_program()),
        maps={},
        lines=(SourceLine(0, "a.py", 3, 1, "x = None"), SourceLine(1, "a.py", 4, 5, "return x.y")),
    )
    with pytest.raises(sim.AccessError) as caught:
        sim.run(spec, sim.Xdp())
    assert str(caught.value) == (
        "broken, slot 1, (71) r0 = *(u8 *)(r2 +4) (a.py:4: return x.y): read of 1 byte at NULL+4: the pointer is NULL"
    )


def test_numbers_are_no_addresses() -> None:
    """A number that is in no region is said to be none."""
    with pytest.raises(sim.AccessError, match="at 0x1000000000: the number is no address"):
        sim.run([isa.load_imm64(1, 0x1000000000), isa.load(1, 0, 1, 0), *END])


@pytest.mark.parametrize(
    "number",
    [
        1 << 33,
        0x400000000,
        1 << 63,
        1000 << 32 | 1000,
        1234 << 32 | 1234,
        0x7FFFFFFFFFFF,
        0xFFFFFFFFFFFFFFFF,
        0xFFFF << 48,
    ],
)
def test_plain_numbers_hit_nothing(number: int) -> None:
    """Flags, limits and two numbers in one are no addresses, however many regions there are."""
    mem = bytes(64)
    with pytest.raises(sim.AccessError, match="the number is no address"):
        sim.run([isa.store_imm(8, 10, -8, 0), isa.load_imm64(3, number), isa.load(1, 0, 3, 0), *END], mem=mem)


def test_the_stack_of_a_function_ends_with_it() -> None:
    """A pointer to the stack of a function that has returned is dead."""
    program = isa.link_functions(
        [
            ("main", [isa.call_function("f"), isa.load(8, 0, 0, 0), isa.exit_program()]),
            ("f", [isa.store_imm(8, 10, -8, 1), isa.mov(0, 10), isa.alu_imm(Alu.ADD, 0, -8), isa.exit_program()]),
        ]
    )
    with pytest.raises(sim.AccessError, match=r"stack2\+504: the function whose stack it was has returned"):
        sim.run(program)


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (isa.atomic(Atomic.ADD, 8, 1, 4, 2), r"an atomic write of 8 bytes at mem\+4 is not aligned"),
        (isa.exchange(4, 1, 2, 2), r"an atomic write of 4 bytes at mem\+2 is not aligned"),
        (isa.load_acquire(2, 0, 1, 1), r"an atomic read of 2 bytes at mem\+1 is not aligned"),
        (isa.store_release(8, 1, 1, 2), r"an atomic write of 8 bytes at mem\+1 is not aligned"),
        (isa.load_acquire(8, 0, 1, 16), r"read of 8 bytes at mem\+16: mem has bytes 0 to 15"),
    ],
)
def test_atomic_operations_are_aligned(access: Instruction, message: str) -> None:
    """An atomic operation is one of a multiple of its size."""
    with pytest.raises(sim.SimError, match=message):
        sim.run([access, *END], mem=bytes(16))


@pytest.mark.parametrize(
    ("body", "register"),
    [
        ([isa.mov(0, 6)], "r6"),
        ([isa.mov(0, 6, bits=32)], "r6"),
        ([isa.alu(Alu.ADD, 7, 1)], "r7"),
        ([isa.alu_imm(Alu.XOR, 8, 1)], "r8"),
        ([isa.neg(9)], "r9"),
        ([isa.byte_swap(9, 16)], "r9"),
        ([isa.mov_signed(0, 9, 8)], "r9"),
        ([Instruction(0x15, 3, 0, 0, 0)], "r3"),
        ([Instruction(0x1D, 1, 3, 0, 0)], "r3"),
        ([Instruction(0x5E, 1, 3, 0, 0)], "r3"),
        ([isa.load(1, 0, 5, 0)], "r5"),
        ([isa.store(1, 1, 0, 5)], "r5"),
        ([isa.store_imm(1, 5, 0, 0)], "r5"),
        ([isa.exchange(8, 1, 0, 5)], "r5"),
        ([isa.compare_exchange(8, 1, 0, 2)], "r0"),
        ([isa.call(Helper.GET_SMP_PROCESSOR_ID), isa.mov(0, 1)], "r1 .* a call leaves r1 to r5 without one"),
        ([isa.call_register(4)], "r4"),
        ([], "without a value in r0"),
    ],
)
def test_unset_registers(body: list[Instruction], register: str) -> None:
    """Reading a register that has no value is an error that names it."""
    with pytest.raises(sim.UninitialisedError, match=register):
        sim.run([*body, isa.exit_program()], mem=bytes(8))


def test_an_unset_argument_of_a_helper_is_named() -> None:
    """A helper's argument that was not set is named with the helper."""
    shape = MapSpec("m", MapType.HASH, Untyped(8), Untyped(8), 1)
    program = [isa.mov(2, 1), isa.load_map(1, "m"), isa.call(Helper.MAP_UPDATE_ELEM), *END]
    with pytest.raises(sim.UninitialisedError, match="r3, an argument of map_update_elem, has no value"):
        sim.run(program, mem=bytes(8), maps={"m": sim.create_map(shape)})


def test_an_endless_program_ends() -> None:
    """The step limit is an error that says how many instructions ran."""
    with pytest.raises(sim.StepLimitError, match="did not end within 1000 instructions"):
        sim.run([Instruction(0x05, offset=-1)], step_limit=1000)


@pytest.mark.parametrize("trace", [False, True])
def test_steps_are_counted(trace: bool) -> None:
    """The result counts the instructions that ran, and a limit of so many is enough."""
    assert sim.run(list(END), step_limit=2, trace=trace).steps == 2
    with pytest.raises(sim.StepLimitError):
        sim.run(list(END), step_limit=1, trace=trace)
