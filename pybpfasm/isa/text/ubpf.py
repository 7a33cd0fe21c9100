"""uBPF's syntax, which the public suite bpf_conformance is written in; it is read only.

mov32 %r1, 0x7
ldxw %r0, [%r1+4]
jset32 %r1, 8, exit         exit, unless it is a label, is the last exit of the text
lock fetch add [%r10-8], %r1
call local function
"""

from collections.abc import Callable

from pybpfasm.isa.instruction import Instruction
from pybpfasm.isa.opcodes import (
    CALL,
    CALL_REGISTER,
    EXIT,
    FETCH,
    JA,
    JA_LONG,
    LD_IMM64,
    MOV32_X,
    MOV64_X,
    SIZE_OF_BYTES,
    Alu,
    Atomic,
    CallKind,
    Class,
    Jump,
    Mode,
    Size,
)
from pybpfasm.isa.text.grammar import (
    NUMBER,
    Form,
    Groups,
    Part,
    distance,
    immediate,
    offset,
    wide_immediate,
    word,
)

_R = Part(r"%?r(10|[0-9])\b", "a register (%r0 to %r10)")
_PLACE = (
    word("["),
    _R,
    Part(r"([-+][ \t]*+(?:0[xX][0-9a-fA-F]+|[0-9]+)\b)?", "`+` or `-` and an offset"),
    word("]"),
)
_TARGET = Part(r"([-+](?:0[xX][0-9a-fA-F]+|[0-9]+)|[A-Za-z_][\w.]*+)", "a distance with its sign (+3), or a label")

_SIZES = {"b": Size.B, "h": Size.H, "w": Size.W, "dw": Size.DW}
_ALU_NAMES = {
    code.name.lower(): (int(code), 0)
    for code in (
        Alu.ADD, Alu.SUB, Alu.MUL, Alu.DIV, Alu.OR, Alu.AND, Alu.LSH, Alu.RSH, Alu.MOD, Alu.XOR, Alu.MOV, Alu.ARSH,
    )
} | {"sdiv": (int(Alu.DIV), 1), "smod": (int(Alu.MOD), 1)}  # fmt: skip
_JUMPS = [code for code in Jump if code not in (Jump.JA, Jump.CALL, Jump.EXIT, Jump.JCOND)]
_SWAPS = {
    **{f"le{bits}": (Class.ALU | Alu.END, bits) for bits in (16, 32, 64)},
    **{f"be{bits}": (Class.ALU | Alu.END | 8, bits) for bits in (16, 32, 64)},
    **{f"{name}{bits}": (Class.ALU64 | Alu.END, bits) for name in ("bswap", "swap") for bits in (16, 32, 64)},
}
_MOVSX = {
    f"movsx{width}{bits}": (MOV64_X if bits == 64 else MOV32_X, width)
    for bits in (32, 64)
    for width in (8, 16, 32)
    if width < bits
}
_LOCKS = {
    **{code.name.lower(): int(code) for code in (Atomic.ADD, Atomic.OR, Atomic.AND, Atomic.XOR)},
    **{f"fetch {code.name.lower()}": code | FETCH for code in (Atomic.ADD, Atomic.OR, Atomic.AND, Atomic.XOR)},
    "xchg": int(Atomic.XCHG),
    "cmpxchg": int(Atomic.CMPXCHG),
}

Build = Callable[[Groups], Instruction]


def _int(groups: Groups, group: int) -> int:
    return int(groups[group])


def _alu_register(opcode: int, signed: int) -> Build:
    return lambda groups: Instruction(opcode | 8, _int(groups, 0), _int(groups, 1), signed)


def _alu_immediate(opcode: int, signed: int) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), 0, signed, immediate(groups, 1))


def _one_register(opcode: int, imm: int = 0) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), imm=imm)


def _moved(opcode: int, width: int) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), _int(groups, 1), width)


def _load(opcode: int) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), _int(groups, 1), offset(groups, 2))


def _store(opcode: int) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), _int(groups, 2), offset(groups, 1))


def _store_immediate(opcode: int) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), 0, offset(groups, 1), immediate(groups, 2))


def _lock(opcode: int, imm: int) -> Build:
    return lambda groups: Instruction(opcode, _int(groups, 0), _int(groups, 2), offset(groups, 1), imm)


def _target(opcode: int, dst: int, src: int, imm: int, groups: Groups, group: int) -> Instruction:
    text = groups[group]
    if text[0] in "+-":
        return Instruction(opcode, dst, src, distance(text, group), imm)
    return Instruction(opcode, dst, src, 0, imm, text)


def _jump_register(opcode: int) -> Build:
    return lambda groups: _target(opcode | 8, _int(groups, 0), _int(groups, 1), 0, groups, 2)


def _jump_immediate(opcode: int) -> Build:
    return lambda groups: _target(opcode, _int(groups, 0), 0, immediate(groups, 1), groups, 2)


def _long_jump(groups: Groups) -> Instruction:
    text = groups[0]
    if text[0] in "+-":
        return Instruction(int(JA_LONG), imm=immediate(groups, 0))
    return Instruction(int(JA_LONG), symbol=text)


def _local_call(groups: Groups) -> Instruction:
    text = groups[0]
    if text[0] in "+-0123456789":
        return Instruction(int(CALL), src=CallKind.FUNCTION, imm=immediate(groups, 0))
    return Instruction(int(CALL), src=CallKind.FUNCTION, symbol=text)


def _forms_by_mnemonic() -> dict[str, tuple[Form, ...]]:
    forms: dict[str, tuple[Form, ...]] = {}

    def add(mnemonic: str, *ways: tuple[Build, tuple[Part, ...]]) -> None:
        forms[mnemonic] = tuple(Form(build, word(mnemonic), *parts) for build, parts in ways)

    comma = word(",")
    for group, suffix in ((Class.ALU64, ""), (Class.ALU, "32")):
        for name, (code, signed) in _ALU_NAMES.items():
            opcode = group | code
            add(
                name + suffix,
                (_alu_register(opcode, signed), (_R, comma, _R)),
                (_alu_immediate(opcode, signed), (_R, comma, NUMBER)),
            )
        add("neg" + suffix, (_one_register(group | Alu.NEG), (_R,)))
    for name, (opcode, bits) in _SWAPS.items():
        add(name, (_one_register(int(opcode), bits), (_R,)))
    for name, (opcode, width) in _MOVSX.items():
        add(name, (_moved(int(opcode), width), (_R, comma, _R)))
    for name, size in _SIZES.items():
        add("ldx" + name, (_load(Class.LDX | Mode.MEM | size), (_R, comma, *_PLACE)))
        add("stx" + name, (_store(Class.STX | Mode.MEM | size), (*_PLACE, comma, _R)))
        add("st" + name, (_store_immediate(Class.ST | Mode.MEM | size), (*_PLACE, comma, NUMBER)))
        if size != Size.DW:
            add("ldxs" + name, (_load(Class.LDX | Mode.MEMSX | size), (_R, comma, *_PLACE)))
    for group, suffix in ((Class.JMP, ""), (Class.JMP32, "32")):
        for jump in _JUMPS:
            opcode = group | jump
            add(
                jump.name.lower() + suffix,
                (_jump_register(opcode), (_R, comma, _R, comma, _TARGET)),
                (_jump_immediate(opcode), (_R, comma, NUMBER, comma, _TARGET)),
            )
    add("ja", (lambda groups: _target(int(JA), 0, 0, 0, groups, 0), (_TARGET,)))
    add("ja32", (_long_jump, (_TARGET,)))
    add("exit", (lambda _: Instruction(int(EXIT)), ()))
    wide = lambda groups: Instruction(int(LD_IMM64), _int(groups, 0), 0, 0, wide_immediate(groups, 1))  # noqa: E731 - as its neighbours
    add("lddw", (wide, (_R, comma, NUMBER)))
    add(
        "call",
        (_local_call, (word("local"), _TARGET)),
        (_one_register(int(CALL_REGISTER)), (_R,)),
        (lambda groups: Instruction(int(CALL), imm=immediate(groups, 0)), (NUMBER,)),
    )
    forms["lock"] = tuple(
        Form(_lock(Class.STX | Mode.ATOMIC | SIZE_OF_BYTES[bytes_], imm), word("lock"),
             *(word(each + (suffix if each == name.split()[-1] else "")) for each in name.split()), *_PLACE, comma, _R)
        for name, imm in _LOCKS.items()
        for bytes_, suffix in ((8, ""), (4, "32"))
    )  # fmt: skip
    return forms


_FORMS = _forms_by_mnemonic()


def ubpf_forms(mnemonic: str) -> tuple[Form, ...]:
    """The forms of a statement by its first word."""
    return _FORMS.get(mnemonic, ())
