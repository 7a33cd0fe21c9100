"""Each instruction of RFC 9669, computed by the interpreter in both byte orders; expected values are written out."""

import pytest

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Atomic, Instruction, Jump

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
INT32_MIN, INT64_MIN = 1 << 31, 1 << 63
ORDERS = ("little", "big")


def load(register: int, value: int) -> Instruction:
    """Set a register to any number."""
    return isa.load_imm64(register, value & M64)


def ret(*body: Instruction, **options: object) -> int:
    """r0 of a program that is `body` and an exit."""
    return sim.run([*body, isa.exit_program()], **options).ret


# code, bits, a, b, a code b
ARITHMETIC = [
    (Alu.ADD, 64, M64, 2, 1),
    (Alu.ADD, 32, M64, 2, 1),
    (Alu.SUB, 64, 1, 2, M64),
    (Alu.SUB, 32, 1, 2, M32),
    (Alu.MUL, 64, 1 << 63, 3, 1 << 63),
    (Alu.MUL, 32, 0x1_8000_0001, 3, 0x8000_0003),
    (Alu.DIV, 64, M64, 2, M64 >> 1),
    (Alu.DIV, 64, 7, 0, 0),
    (Alu.DIV, 32, 0x5_0000_0007, 2, 3),
    (Alu.DIV, 32, 0x5_0000_0007, 0, 0),
    (Alu.MOD, 64, M64, 10, 5),
    (Alu.MOD, 64, M64, 0, M64),
    (Alu.MOD, 32, 0x5_0000_0007, 4, 3),
    (Alu.MOD, 32, 0x5_0000_0007, 0, 7),
    (Alu.OR, 64, 0xF0 << 56, 0x0F, 0xF0 << 56 | 0x0F),
    (Alu.OR, 32, 0xF0 << 56, 0x0F, 0x0F),
    (Alu.AND, 64, M64, 0x0F, 0x0F),
    (Alu.AND, 32, M64, 0x7F, 0x7F),
    (Alu.XOR, 64, M64, 1, M64 - 1),
    (Alu.XOR, 32, M64, 1, M32 - 1),
    (Alu.LSH, 64, 3, 63, 1 << 63),
    (Alu.LSH, 64, 3, 64, 3),
    (Alu.LSH, 32, 3, 31, 1 << 31),
    (Alu.LSH, 32, 3, 33, 6),
    (Alu.RSH, 64, M64, 60, 15),
    (Alu.RSH, 64, M64, 65, M64 >> 1),
    (Alu.RSH, 32, M64, 28, 15),
    (Alu.ARSH, 64, INT64_MIN, 62, M64 - 1),
    (Alu.ARSH, 64, INT64_MIN >> 1, 62, 1),
    (Alu.ARSH, 32, INT32_MIN, 30, M32 - 1),
    (Alu.ARSH, 32, 0x1_4000_0000, 30, 1),
    (Alu.MOV, 64, 0, 5, 5),
    (Alu.MOV, 32, M64, 5, 5),
]


@pytest.mark.parametrize(("code", "bits", "a", "b", "expected"), ARITHMETIC)
def test_arithmetic(code: Alu, bits: int, a: int, b: int, expected: int) -> None:
    """The operation with its operand in a register, and in the immediate, gives the number, upper half included."""
    moves = code == Alu.MOV
    register = isa.mov(0, 1, bits=bits) if moves else isa.alu(code, 0, 1, bits=bits)
    assert ret(load(0, a), load(1, b), register) == expected
    assert ret(load(0, a), isa.alu_imm(code, 0, b, bits=bits)) == expected


# bits, a, b, quotient, rest
SIGNED_DIVISION = [
    (64, -7, 2, -3, -1),
    (64, 7, -2, -3, 1),
    (64, -7, -2, 3, -1),
    (64, -7, 0, 0, -7),
    (64, -(1 << 63), -1, -(1 << 63), 0),
    (32, -7, 2, -3, -1),
    (32, 7, -2, -3, 1),
    (32, -7, 0, 0, -7),
    (32, -(1 << 31), -1, -(1 << 31), 0),
]


@pytest.mark.parametrize(("bits", "a", "b", "quotient", "rest"), SIGNED_DIVISION)
def test_signed_division(bits: int, a: int, b: int, quotient: int, rest: int) -> None:
    """Signed division rounds to zero, its rest has the dividend's sign; 32 bits clear the upper half."""
    mask = M64 if bits == 64 else M32
    for code, expected in ((Alu.DIV, quotient), (Alu.MOD, rest)):
        assert ret(load(0, a), load(1, b), isa.alu(code, 0, 1, bits=bits, signed=True)) == expected & mask
        assert ret(load(0, a), isa.alu_imm(code, 0, b, bits=bits, signed=True)) == expected & mask


def test_negative_immediates_are_extended() -> None:
    """An immediate of -1 is 64 ones for 64 bits and 32 ones for 32."""
    assert ret(isa.mov_imm(0, -1)) == M64
    assert ret(isa.mov_imm(0, -1, bits=32)) == M32
    assert ret(load(0, M64), isa.alu_imm(Alu.DIV, 0, -1)) == 1


def test_neg() -> None:
    """Negation, also of the smallest number, which stays."""
    assert ret(isa.mov_imm(0, 5), isa.neg(0)) == M64 - 4
    assert ret(isa.mov_imm(0, 5), isa.neg(0, bits=32)) == M32 - 4
    assert ret(load(0, INT64_MIN), isa.neg(0)) == INT64_MIN
    assert ret(load(0, M32 << 32), isa.neg(0, bits=32)) == 0


@pytest.mark.parametrize(
    ("width", "bits", "value", "expected"),
    [
        (8, 64, 0x80, M64 - 0x7F),
        (16, 64, 0xFFFF_7FFF, 0x7FFF),
        (32, 64, INT32_MIN, M64 - M32 + INT32_MIN),
        (8, 32, 0xFFFF_FF80, M32 - 0x7F),
        (16, 32, 0x1_0000_8000, M32 - 0x7FFF),
    ],
)
def test_moves_that_extend_the_sign(width: int, bits: int, value: int, expected: int) -> None:
    """The sign of the low bits goes up to the width of the move."""
    assert ret(load(1, value), isa.mov_signed(0, 1, width, bits=bits)) == expected


SWAPS = [(16, 0x7788, 0x8877), (32, 0x55667788, 0x88776655), (64, 0x1122334455667788, 0x8877665544332211)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("bits", "kept", "swapped"), SWAPS)
def test_byte_swaps(order: str, bits: int, kept: int, swapped: int) -> None:
    """bswap always swaps, be and le where the machine's order is the other; the bits above become zero."""
    value = load(0, 0x1122334455667788)
    assert ret(value, isa.byte_swap(0, bits), byteorder=order) == swapped
    assert ret(value, isa.to_big_endian(0, bits), byteorder=order) == (swapped if order == "little" else kept)
    assert ret(value, isa.to_little_endian(0, bits), byteorder=order) == (kept if order == "little" else swapped)


MEMORY = bytes.fromhex("8182838485868788")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_loads(order: str, size: int) -> None:
    """A load gives the bytes in the machine's order, zero-extended or, if asked for, sign-extended."""
    number = int.from_bytes(MEMORY[8 - size :], order)
    assert ret(isa.load(size, 0, 1, 8 - size), mem=MEMORY, byteorder=order) == number
    if size < 8:
        signed = ret(isa.load_signed(size, 0, 1, 8 - size), mem=MEMORY, byteorder=order)
        assert signed == number | M64 << size * 8 & M64 if number >> (size * 8 - 1) else number
    assert ret(isa.load_acquire(size, 0, 1, 8 - size), mem=MEMORY, byteorder=order) == number


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_stores(order: str, size: int) -> None:
    """A store writes the low bytes in the machine's order and nothing beside them."""
    value = 0x1122334455667788
    expected = (value & (1 << size * 8) - 1).to_bytes(size, order) + bytes(9 - size)
    program = [load(2, value), isa.mov_imm(0, 0), isa.store(size, 1, 0, 2), isa.exit_program()]
    assert sim.run(program, mem=bytes(9), byteorder=order).mem == expected
    program[2] = isa.store_release(size, 1, 0, 2)
    assert sim.run(program, mem=bytes(9), byteorder=order).mem == expected
    constant = [isa.mov_imm(0, 0), isa.store_imm(size, 1, 0, -2), isa.exit_program()]
    written = sim.run(constant, mem=bytes(9), byteorder=order).mem
    assert written == (-2).to_bytes(size, order, signed=True) + bytes(9 - size)


# code, old, operand, new
ATOMICS = [
    (Atomic.ADD, 0xFFFF_FFFF_FFFF_FFFF, 2, 1),
    (Atomic.OR, 0xF0, 0x0F, 0xFF),
    (Atomic.AND, 0xFF, 0x3C, 0x3C),
    (Atomic.XOR, 0xFF, 0x0F, 0xF0),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(("code", "old", "operand", "new"), ATOMICS)
def test_atomics(order: str, size: int, code: Atomic, old: int, operand: int, new: int) -> None:
    """The memory changes; with fetch the source register has the old number, zero-extended, else what it had."""
    mask = (1 << size * 8) - 1
    before = (old & mask).to_bytes(size, order)
    for fetch, source in ((False, operand), (True, old & mask)):
        program = [isa.mov_imm(0, 0), load(2, operand), isa.atomic(code, size, 1, 0, 2, fetch=fetch), isa.mov(0, 2)]
        result = sim.run([*program, isa.exit_program()], mem=before, byteorder=order)
        assert int.from_bytes(result.mem, order) == new & mask
        assert result.ret == source


@pytest.mark.parametrize("size", [4, 8])
def test_exchange(size: int) -> None:
    """xchg swaps register and memory; 32 bits clear the register's upper half."""
    program = [load(2, M64), isa.exchange(size, 1, 0, 2), isa.mov(0, 2), isa.exit_program()]
    result = sim.run(program, mem=bytes([5] + [0] * 7))
    assert (result.ret, result.mem[:size]) == (5, b"\xff" * size)


@pytest.mark.parametrize(
    ("size", "expected", "stored"), [(4, M64 - M32 + 5, True), (8, M64 - M32 + 5, False), (8, 5, True)]
)
def test_compare_exchange(size: int, expected: int, stored: bool) -> None:
    """cmpxchg compares the low bytes of r0, stores if they are equal, and always leaves the old number in r0."""
    program = [load(0, expected), load(2, 9), isa.compare_exchange(size, 1, 0, 2), isa.exit_program()]
    result = sim.run(program, mem=bytes([5] + [0] * 7))
    assert (result.ret, result.mem[0]) == (5, 9 if stored else 5)


# code, bits, a, b, whether a code b
COMPARISONS = [
    (Jump.JEQ, 64, 1 << 32, 0, False),
    (Jump.JEQ, 32, 1 << 32, 0, True),
    (Jump.JNE, 64, 1 << 32, 0, True),
    (Jump.JNE, 32, 1 << 32, 0, False),
    (Jump.JGT, 64, M64, 1, True),
    (Jump.JGT, 32, 5 << 32, 1, False),
    (Jump.JGE, 64, 7, 7, True),
    (Jump.JGE, 32, 6, 7, False),
    (Jump.JLT, 64, 1, M64, True),
    (Jump.JLT, 32, 5 << 32, 1, True),
    (Jump.JLE, 64, 7, 7, True),
    (Jump.JLE, 32, 8, 7, False),
    (Jump.JSET, 64, 1 << 40, 1 << 40, True),
    (Jump.JSET, 32, 1 << 40, 1 << 40, False),
    (Jump.JSGT, 64, M64, 1, False),
    (Jump.JSGT, 32, 1, M32, True),
    (Jump.JSGE, 64, M64, M64, True),
    (Jump.JSGE, 32, INT32_MIN, 0, False),
    (Jump.JSLT, 64, INT64_MIN, 0, True),
    (Jump.JSLT, 32, INT32_MIN, 0, True),
    (Jump.JSLE, 64, 1, M64, False),
    (Jump.JSLE, 32, M32, M32, True),
]


@pytest.mark.parametrize(("code", "bits", "a", "b", "holds"), COMPARISONS)
def test_conditional_jumps(code: Jump, bits: int, a: int, b: int, holds: bool) -> None:
    """The jump is taken exactly if the comparison holds, with a register and with an immediate."""
    jumps = [isa.jump_if(code, 1, 2, "yes", bits=bits)]
    if b <= 0x7FFFFFFF or b == M64 or (bits == 32 and b <= M32):
        jumps.append(isa.jump_if_imm(code, 1, -1 if b == M64 else b, "yes", bits=bits))
    for jump in jumps:
        body = [load(1, a), load(2, b), isa.mov_imm(0, 1), jump, isa.mov_imm(0, 0), isa.Label("yes")]
        assert ret(*isa.resolve_labels(body)) == holds


def test_jumps_and_long_jumps() -> None:
    """ja and gotol skip what lies between."""
    for jump in (isa.jump, isa.jump_long):
        body = [isa.mov_imm(0, 1), jump("end"), isa.mov_imm(0, 2), isa.Label("end")]
        assert ret(*isa.resolve_labels(body)) == 1


def test_may_goto_leaves_at_its_limit() -> None:
    """may_goto lets a loop go on as often as the limit says."""
    body = [
        isa.mov_imm(0, 0),
        isa.Label("again"),
        isa.may_goto("out"),
        isa.alu_imm(Alu.ADD, 0, 1),
        isa.jump("again"),
        isa.Label("out"),
    ]
    assert ret(*isa.resolve_labels(body), may_goto_limit=10) == 10


@pytest.mark.parametrize("longer", [0, 50])
@pytest.mark.parametrize("steps", [{}, {"step_limit": 9000}])
def test_may_goto_leaves_in_time(longer: int, steps: dict[str, int]) -> None:
    """A loop that nothing but may_goto ends comes to its end without any limit said, however long its body is."""
    more = [isa.mov_imm(1, 0)] * longer
    body = [isa.Label("again"), isa.may_goto("out"), *more, isa.jump("again"), isa.Label("out"), isa.mov_imm(0, 1)]
    result = sim.run(isa.resolve_labels([*body, isa.exit_program()]), **steps)
    assert result.ret == 1
    assert 0.5 <= result.steps / steps.get("step_limit", 1_000_000) < 0.51


def test_functions_have_frames_of_their_own() -> None:
    """r6 to r9 and r10 are the caller's again after a call, and each frame has its own stack."""
    program = isa.link_functions(
        [
            ("main", [isa.mov_imm(6, 6), isa.store_imm(8, 10, -8, 5), isa.mov_imm(1, 3), isa.call_function("f"),
                      isa.load(8, 1, 10, -8), isa.alu(Alu.ADD, 0, 1), isa.alu(Alu.ADD, 0, 6), isa.exit_program()]),
            ("f", [isa.mov_imm(6, 99), isa.store_imm(8, 10, -8, 77), isa.mov(0, 1), isa.exit_program()]),
        ]
    )  # fmt: skip
    assert sim.run(program).ret == 3 + 5 + 6


def test_a_function_writes_to_its_callers_stack() -> None:
    """A pointer into the caller's stack works in the function."""
    program = isa.link_functions(
        [
            ("main", [isa.mov(1, 10), isa.alu_imm(Alu.ADD, 1, -8), isa.call_function("f"), isa.load(8, 0, 10, -8),
                      isa.exit_program()]),
            ("f", [isa.store_imm(8, 1, 0, 42), isa.mov_imm(0, 0), isa.exit_program()]),
        ]
    )  # fmt: skip
    assert sim.run(program).ret == 42


def test_recursion_ends_at_eight_frames() -> None:
    """A ninth frame is an error that says so."""
    program = isa.link_functions([("f", [isa.call_function("f"), isa.exit_program()])])
    with pytest.raises(sim.SimError, match="9 functions deep: 8 are possible"):
        sim.run(program)


def test_call_register_takes_numbers_and_addresses() -> None:
    """callx calls a helper by its number, and a function by its address."""
    assert ret(isa.mov_imm(3, 8), isa.call_register(3), world=sim.World(cpu=2)) == 2
    program = isa.link_functions(
        [
            ("main", [isa.load_function(3, "f"), isa.call_register(3), isa.exit_program()]),
            ("f", [isa.mov_imm(0, 7), isa.exit_program()]),
        ]
    )
    assert sim.run(program).ret == 7


@pytest.mark.parametrize("order", ORDERS)
def test_packet_loads(order: str) -> None:
    """Legacy loads give network order, r6 holding the context; past the packet's end the program returns 0."""
    ctx = sim.SkBuff(packet=bytes.fromhex("0102030405"))
    keep, end = isa.mov(6, 1), isa.exit_program()
    assert sim.run([keep, isa.load_packet(4, 1), end], ctx, byteorder=order).ret == 0x02030405
    indirect = [keep, isa.mov_imm(7, 2), isa.load_packet_indirect(2, 7, 1), end]
    assert sim.run(indirect, ctx, byteorder=order).ret == 0x0405
    assert sim.run([keep, isa.load_packet(4, 2), isa.mov_imm(0, 9), end], ctx, byteorder=order).ret == 0


@pytest.mark.parametrize(
    ("instruction", "why"),
    [
        (Instruction(0x0D, 1), "a jump to an address in a register is not simulated"),
        (Instruction(0xBF, 1, 1, 1, 1 << 16), "arenas"),
        (Instruction(0xBF, 1, 1, -1), "per-CPU addresses"),
        (Instruction(0xFF), "opcode 0xff is not known"),
        (isa.mov_imm(10, 1), "r10 is the frame pointer"),
        (isa.load(8, 10, 1, 0), "r10 is the frame pointer"),
        (Instruction(0x05, offset=9), "it goes to slot 10, the program has slots 0 to 1"),
        (isa.jump("nowhere"), "label 'nowhere' is not resolved"),
        (Instruction(0x18, 1, symbol="LINUX_HAS_SYSCALL"), "'LINUX_HAS_SYSCALL' is not resolved"),
        (Instruction(0x85, src=2, symbol="bpf_x"), "bpf_x is not simulated: supply it with helpers="),
        (Instruction(0x85, imm=9999), "there is no helper 9999"),
        (Instruction(0x85, imm=167), "helper sys_close|helper .* is not simulated: supply it with helpers={Helper"),
    ],
)
def test_what_cannot_run_says_why(instruction: Instruction, why: str) -> None:
    """An instruction that is refused ends the run with slot, text and reason."""
    with pytest.raises(sim.SimError, match=why) as caught:
        sim.run([instruction, isa.exit_program()], mem=bytes(8))
    assert caught.value.slot == 0


def test_a_jump_into_a_wide_instruction_is_refused() -> None:
    """No instruction begins in the second slot of ld_imm64, and none after the last."""
    with pytest.raises(sim.SimError, match="second half of ld_imm64"):
        sim.run([Instruction(0x05, offset=1), load(0, 1), isa.exit_program()])
    with pytest.raises(sim.SimError, match="runs past its last instruction"):
        sim.run([isa.mov_imm(0, 1)])
    with pytest.raises(sim.SimError, match="runs past its last instruction"):
        sim.run([])


def test_nospec_does_nothing() -> None:
    """The kernel's speculation barrier is passed over."""
    assert ret(isa.mov_imm(0, 4), Instruction(0xC2)) == 4
