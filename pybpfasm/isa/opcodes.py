"""The opcode byte, by RFC 9669, section 3, and the numbers that give an opcode its variants.

ALU and JMP classes            LD, LDX, ST, STX classes

7      4   3   2    0          7    5 4  3 2    0
+-------+-----+------+         +-----+----+------+
| code  |source|class|         | mode|size| class|
+-------+-----+------+         +-----+----+------+
"""

from enum import IntEnum


class Class(IntEnum):
    """Instruction classes: the low three bits."""

    LD = 0x00
    LDX = 0x01
    ST = 0x02
    STX = 0x03
    ALU = 0x04
    JMP = 0x05
    JMP32 = 0x06
    ALU64 = 0x07


class Alu(IntEnum):
    """Arithmetic codes: the high four bits of ALU and ALU64."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30
    OR = 0x40
    AND = 0x50
    LSH = 0x60
    RSH = 0x70
    NEG = 0x80
    MOD = 0x90
    XOR = 0xA0
    MOV = 0xB0
    ARSH = 0xC0
    END = 0xD0


class Jump(IntEnum):
    """Jump codes: the high four bits of JMP and JMP32."""

    JA = 0x00
    JEQ = 0x10
    JGT = 0x20
    JGE = 0x30
    JSET = 0x40
    JNE = 0x50
    JSGT = 0x60
    JSGE = 0x70
    CALL = 0x80
    EXIT = 0x90
    JLT = 0xA0
    JLE = 0xB0
    JSLT = 0xC0
    JSLE = 0xD0
    JCOND = 0xE0


class Size(IntEnum):
    """Widths of a memory access."""

    W = 0x00
    H = 0x08
    B = 0x10
    DW = 0x18


class Mode(IntEnum):
    """How memory is addressed."""

    IMM = 0x00
    ABS = 0x20
    IND = 0x40
    MEM = 0x60
    MEMSX = 0x80
    ATOMIC = 0xC0


class Atomic(IntEnum):
    """What an atomic instruction does: its immediate, without FETCH (uapi linux/bpf.h)."""

    ADD = 0x00
    OR = 0x40
    AND = 0x50
    XOR = 0xA0
    XCHG = 0xE1
    CMPXCHG = 0xF1
    LOAD_ACQUIRE = 0x100
    STORE_RELEASE = 0x110


# With it, an atomic ADD, OR, AND or XOR leaves the old value in its source register.
FETCH = 0x01


class WideKind(IntEnum):
    """What the immediate of ld_imm64 stands for: its source register (BPF_PSEUDO_… of uapi linux/bpf.h)."""

    IMM = 0
    MAP_FD = 1
    MAP_VALUE = 2
    BTF_ID = 3
    FUNC = 4
    MAP_INDEX = 5
    MAP_INDEX_VALUE = 6


class CallKind(IntEnum):
    """What a call's immediate stands for: its source register."""

    HELPER = 0
    FUNCTION = 1
    KFUNC = 2


# The source bit of ALU and JMP: operand in the immediate, or in a register.
K = 0x00
X = 0x08

LD_IMM64 = Class.LD | Mode.IMM | Size.DW

MOV64_X = Class.ALU64 | Alu.MOV | X
MOV32_X = Class.ALU | Alu.MOV | X
JA = Class.JMP | Jump.JA
JA_LONG = Class.JMP32 | Jump.JA
JA_REGISTER = Class.JMP | Jump.JA | X
CALL = Class.JMP | Jump.CALL
CALL_REGISTER = Class.JMP | Jump.CALL | X
EXIT = Class.JMP | Jump.EXIT
MAY_GOTO = Class.JMP | Jump.JCOND

# The kernel's own, seen only in what it gives back of loaded programs (include/linux/filter.h).
NOSPEC = 0xC2
PER_CPU_OFFSET = -1

# Offsets that make another instruction of an ALU opcode.
SIGNED_OFFSET = 1
ADDR_SPACE_CAST_OFFSET = 1

SIZE_OF_BYTES = {1: Size.B, 2: Size.H, 4: Size.W, 8: Size.DW}
BYTES_OF_SIZE = {size: count for count, size in SIZE_OF_BYTES.items()}

# The jump that is taken exactly when the other is not.
INVERSE = {
    Jump.JEQ: Jump.JNE,
    Jump.JNE: Jump.JEQ,
    Jump.JGT: Jump.JLE,
    Jump.JLE: Jump.JGT,
    Jump.JGE: Jump.JLT,
    Jump.JLT: Jump.JGE,
    Jump.JSGT: Jump.JSLE,
    Jump.JSLE: Jump.JSGT,
    Jump.JSGE: Jump.JSLT,
    Jump.JSLT: Jump.JSGE,
}
