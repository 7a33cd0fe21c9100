"""Instructions as text, in the kernel's syntax (kernel/bpf/disasm.c): what the verifier's log and bpftool print."""

from collections.abc import Iterable, Iterator

from pybpfasm.isa.instruction import Instruction
from pybpfasm.isa.opcodes import LD_IMM64, PSEUDO_MAP_FD, Alu, Class, Jump, Size, X
from pybpfasm.uapi import Helper

_ALU_SIGNS = {
    Alu.ADD: "+=",
    Alu.SUB: "-=",
    Alu.MUL: "*=",
    Alu.DIV: "/=",
    Alu.OR: "|=",
    Alu.AND: "&=",
    Alu.LSH: "<<=",
    Alu.RSH: ">>=",
    Alu.MOD: "%=",
    Alu.XOR: "^=",
    Alu.MOV: "=",
    Alu.ARSH: "s>>=",
}

_JUMP_SIGNS = {
    Jump.JEQ: "==",
    Jump.JGT: ">",
    Jump.JGE: ">=",
    Jump.JSET: "&",
    Jump.JNE: "!=",
    Jump.JSGT: "s>",
    Jump.JSGE: "s>=",
    Jump.JLT: "<",
    Jump.JLE: "<=",
    Jump.JSLT: "s<",
    Jump.JSLE: "s<=",
}

_TYPES = {Size.B: "u8", Size.H: "u16", Size.W: "u32", Size.DW: "u64"}


def format_instruction(instruction: Instruction) -> str:
    """One instruction in the kernel's syntax; an unresolved symbol is shown by its name."""
    group = instruction.opcode & 7
    if instruction.opcode == LD_IMM64:
        return f"r{instruction.dst} = {_wide_immediate(instruction)}"
    if group in (Class.ALU, Class.ALU64):
        return _format_alu(instruction)
    if group in (Class.JMP, Class.JMP32):
        return _format_jump(instruction)
    return _format_memory(instruction)


def listing(instructions: Iterable[Instruction]) -> Iterator[str]:
    """One line an instruction: the number of its first slot, then its text."""
    slot = 0
    for instruction in instructions:
        yield f"{slot:4}: {format_instruction(instruction)}"
        slot += instruction.slots


def _wide_immediate(instruction: Instruction) -> str:
    if instruction.src == PSEUDO_MAP_FD:
        return f"map[{instruction.symbol or f'fd:{instruction.imm}'}]"
    return f"{instruction.imm & (1 << 64) - 1:#x}"


def _format_alu(instruction: Instruction) -> str:
    opcode, dst, src, _, imm, _ = instruction
    code = Alu(opcode & 0xF0)
    letter = "r" if opcode & 7 == Class.ALU64 else "w"
    if code == Alu.END:
        return f"r{dst} = {'be' if opcode & X else 'le'}{imm} r{dst}"
    if code == Alu.NEG:
        return f"{letter}{dst} = -{letter}{dst}"
    operand = f"{letter}{src}" if opcode & X else str(imm)
    return f"{letter}{dst} {_ALU_SIGNS[code]} {operand}"


def _format_jump(instruction: Instruction) -> str:
    opcode, dst, src, offset, imm, symbol = instruction
    code = Jump(opcode & 0xF0)
    if code == Jump.EXIT:
        return "exit"
    if code == Jump.CALL:
        return f"call {_helper_name(imm)}#{imm}"
    target = symbol or f"pc{offset:+d}"
    if code == Jump.JA:
        return f"goto {target}"
    letter = "w" if opcode & 7 == Class.JMP32 else "r"
    operand = f"{letter}{src}" if opcode & X else f"{imm & 0xFFFFFFFF:#x}"
    return f"if {letter}{dst} {_JUMP_SIGNS[code]} {operand} goto {target}"


def _helper_name(number: int) -> str:
    try:
        return f"bpf_{Helper(number).name.lower()}"
    except ValueError:
        return "unknown"


def _format_memory(instruction: Instruction) -> str:
    opcode, dst, src, offset, imm, _ = instruction
    kind = _TYPES[Size(opcode & 0x18)]
    if opcode & 7 == Class.LDX:
        return f"r{dst} = *({kind} *)(r{src} {offset:+d})"
    operand = f"r{src}" if opcode & 7 == Class.STX else str(imm)
    return f"*({kind} *)(r{dst} {offset:+d}) = {operand}"
