"""What operators and widths are called, in the kernel's and in LLVM's syntax alike."""

from pybpfasm.isa.opcodes import Alu, Atomic, Jump, Size

ALU_SIGNS = {
    "+=": Alu.ADD,
    "-=": Alu.SUB,
    "*=": Alu.MUL,
    "/=": Alu.DIV,
    "|=": Alu.OR,
    "&=": Alu.AND,
    "<<=": Alu.LSH,
    ">>=": Alu.RSH,
    "%=": Alu.MOD,
    "^=": Alu.XOR,
    "=": Alu.MOV,
    "s>>=": Alu.ARSH,
}
SIGNED_DIVISIONS = {"s/=": Alu.DIV, "s%=": Alu.MOD}

JUMP_SIGNS = {
    "==": Jump.JEQ,
    ">": Jump.JGT,
    ">=": Jump.JGE,
    "&": Jump.JSET,
    "!=": Jump.JNE,
    "s>": Jump.JSGT,
    "s>=": Jump.JSGE,
    "<": Jump.JLT,
    "<=": Jump.JLE,
    "s<": Jump.JSLT,
    "s<=": Jump.JSLE,
}

UNSIGNED_TYPES = {"u8": Size.B, "u16": Size.H, "u32": Size.W, "u64": Size.DW}
SIGNED_TYPES = {"s8": Size.B, "s16": Size.H, "s32": Size.W}
SIGN_WIDTHS = {"s8": 8, "s16": 16, "s32": 32}

LOCK_SIGNS = {"+=": Atomic.ADD, "|=": Atomic.OR, "&=": Atomic.AND, "^=": Atomic.XOR}
FETCH_NAMES = {"add": Atomic.ADD, "or": Atomic.OR, "and": Atomic.AND, "xor": Atomic.XOR}
