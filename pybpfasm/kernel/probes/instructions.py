"""Instructions that newer kernels have, each tried in a program, and the level of `-mcpu` that they come to.

    v1  the base                     v3  32-bit jumps                                          5.1
    v2  unsigned less-than   4.14    v4  signed division and loads, byte swap, long jump       6.6

The levels are LLVM's (BPFSubtarget). What came later has no level of its own: atomics that fetch, may_goto, acquire
and release, jumps through a table. Some of it needs the machine's JIT compiler.
"""

from collections.abc import Iterable
from enum import IntEnum

from pybpfasm import isa
from pybpfasm.isa import Alu, Atomic, Instruction, Jump, Label
from pybpfasm.kernel.features import Feature, loading
from pybpfasm.uapi import AttachType, ProgramType


class IsaLevel(IntEnum):
    """A set of instructions, each with all that is in those before; the number is that of LLVM's `-mcpu=v…`."""

    V1 = 1
    V2 = 2
    V3 = 3
    V4 = 4


def _running(name: str, since: str, *instructions: Instruction | Label) -> Feature:
    """That a program with these can be loaded; r0 is 1 before, and the stack's first 8 bytes are 0."""

    def probe() -> str | None:
        code: Iterable[Instruction | Label] = (
            isa.mov_imm(0, 1),
            isa.store_imm(8, 10, -8, 0),
            *instructions,
            Label("end"),
            isa.mov_imm(0, 0),
            isa.exit_program(),
        )
        return loading(ProgramType.SOCKET_FILTER, AttachType(0), tuple(isa.resolve_labels(code)))

    return Feature(name, since, probe)


UNSIGNED_LESS = _running("jumps by unsigned less-than (v2)", "4.14", isa.jump_if_imm(Jump.JLT, 0, 3, "end"))
JUMPS_32 = _running("32-bit jumps (v3)", "5.1", isa.jump_if_imm(Jump.JEQ, 0, 1, "end", bits=32))
SIGNED_DIVISION = _running("signed division (v4)", "6.6", isa.alu_imm(Alu.DIV, 0, 3, signed=True))
SIGNED_MOVES = _running("sign-extending moves (v4)", "6.6", isa.mov_signed(0, 0, 8))
SIGNED_LOADS = _running("sign-extending loads (v4)", "6.6", isa.load_signed(1, 0, 10, -8))
BYTE_SWAP = _running("unconditional byte swap (v4)", "6.6", isa.byte_swap(0, 32))
# A kernel that looks for the distance where short jumps have it gets to a register that has no value.
LONG_JUMP = _running(
    "jumps over 32 bits of distance (v4)",
    "6.6",
    isa.jump_if_imm(Jump.JEQ, 0, 2, "not taken"),
    isa.jump_long("end"),
    Label("not taken"),
    isa.mov(0, 9),
)
LOOPS = _running(
    "loops with a bound", "5.3", Label("again"), isa.alu_imm(Alu.ADD, 0, 1), isa.jump_if_imm(Jump.JLT, 0, 9, "again")
)
FETCHING_ATOMICS = _running("atomics that fetch", "5.12", isa.atomic(Atomic.ADD, 8, 10, -8, 0, fetch=True))
COMPARE_EXCHANGE = _running("compare and exchange", "5.12", isa.compare_exchange(8, 10, -8, 0))
# Before 6.14 it must have a distance.
MAY_GOTO = _running("may_goto", "6.9", isa.may_goto("end"), isa.mov_imm(0, 2))
LOAD_ACQUIRE = _running("load-acquire", "6.15", isa.load_acquire(8, 0, 10, -8))
STORE_RELEASE = _running("store-release", "6.15", isa.store_release(8, 10, -8, 0))

INSTRUCTIONS: tuple[Feature, ...] = (
    UNSIGNED_LESS,
    JUMPS_32,
    SIGNED_DIVISION,
    SIGNED_MOVES,
    SIGNED_LOADS,
    BYTE_SWAP,
    LONG_JUMP,
    LOOPS,
    FETCHING_ATOMICS,
    COMPARE_EXCHANGE,
    MAY_GOTO,
    LOAD_ACQUIRE,
    STORE_RELEASE,
)

_LEVELS = {
    IsaLevel.V2: (UNSIGNED_LESS,),
    IsaLevel.V3: (JUMPS_32,),
    IsaLevel.V4: (SIGNED_DIVISION, SIGNED_MOVES, SIGNED_LOADS, BYTE_SWAP, LONG_JUMP),
}


def find_isa_level() -> IsaLevel:
    """The highest level of which the kernel has all instructions. Raises `KernelError` if it does not say (EPERM)."""
    level = IsaLevel.V1
    for higher, needed in _LEVELS.items():
        if not all(each.supported() for each in needed):
            break
        level = higher
    return level
