"""Random instructions that there are, of every opcode and variant."""

from hypothesis import settings
from hypothesis import strategies as st

from pybpfasm.isa import Instruction, WideKind
from pybpfasm.isa.opcodes import CALL, LD_IMM64, MOV32_X, MOV64_X
from pybpfasm.isa.validity import ATOMICS, DST, FIELDS, IMM, OFFSET, SRC, UNKNOWN, VARIANT

# On a busy machine an example may take long; a few are enough where each opcode has its own.
unhurried = settings(deadline=None)
few = settings(deadline=None, max_examples=20)

OPCODES = [opcode for opcode in range(256) if FIELDS[opcode] != UNKNOWN]
NARROW_ATOMICS = (0xCB, 0xD3)

registers = st.integers(0, 10)
signed16 = st.integers(-0x8000, 0x7FFF)
signed32 = st.integers(-0x80000000, 0x7FFFFFFF)
unsigned32 = st.integers(0, 0xFFFFFFFF)
one_half = st.sampled_from([WideKind.MAP_FD, WideKind.FUNC, WideKind.MAP_INDEX])
two_halves = st.sampled_from([WideKind.IMM, WideKind.MAP_VALUE, WideKind.BTF_ID, WideKind.MAP_INDEX_VALUE])


def _plain(opcode: int) -> st.SearchStrategy[Instruction]:
    fields = FIELDS[opcode]
    return st.builds(
        Instruction,
        st.just(opcode),
        registers if fields & DST else st.just(0),
        registers if fields & SRC else st.just(0),
        signed16 if fields & OFFSET else st.just(0),
        signed32 if fields & IMM else st.just(0),
    )


def _wide() -> st.SearchStrategy[Instruction]:
    opcode, zero = st.just(int(LD_IMM64)), st.just(0)
    low = st.builds(Instruction, opcode, registers, one_half.map(int), zero, unsigned32)
    both = st.builds(Instruction, opcode, registers, two_halves.map(int), zero, st.integers(0, (1 << 64) - 1))
    return low | both


def _call() -> st.SearchStrategy[Instruction]:
    opcode, zero = st.just(int(CALL)), st.just(0)
    helper = st.builds(Instruction, opcode, zero, zero, zero, signed32)
    return helper | st.builds(Instruction, opcode, zero, st.sampled_from([1, 2]), signed16, signed32)


def _move(opcode: int) -> st.SearchStrategy[Instruction]:
    variants = st.sampled_from([0, 8, 16, 32, -1] if opcode == MOV64_X else [0, 8, 16])
    moves = st.builds(Instruction, st.just(opcode), registers, registers, variants)
    if opcode == MOV32_X:
        return moves
    return moves | st.builds(Instruction, st.just(opcode), registers, registers, st.just(1), signed32)


def _variant(opcode: int) -> st.SearchStrategy[Instruction]:
    if opcode == LD_IMM64:
        return _wide()
    if opcode == CALL:
        return _call()
    if opcode in (MOV32_X, MOV64_X):
        return _move(opcode)
    if opcode & 0xE7 == 0xC3:
        codes = [0x100, 0x110] if opcode in NARROW_ATOMICS else sorted(map(int, ATOMICS))
        return st.builds(Instruction, st.just(opcode), registers, registers, signed16, st.sampled_from(codes))
    if opcode & 0xF0 == 0xD0:
        return st.builds(Instruction, st.just(opcode), registers, imm=st.sampled_from([16, 32, 64]))
    source = registers if FIELDS[opcode] & SRC else st.just(0)
    immediate = signed32 if FIELDS[opcode] & IMM else st.just(0)
    return st.builds(Instruction, st.just(opcode), registers, source, st.sampled_from([0, 1]), immediate)  # divisions


def of_opcode(opcode: int) -> st.SearchStrategy[Instruction]:
    """Any instruction that has this opcode."""
    return _variant(opcode) if FIELDS[opcode] & VARIANT else _plain(opcode)


instructions = st.sampled_from(OPCODES).flatmap(of_opcode)
streams = st.lists(instructions, max_size=40)
