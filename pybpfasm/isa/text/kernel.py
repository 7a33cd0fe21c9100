"""The kernel's syntax: what the verifier's log and `bpftool prog dump xlated` print (kernel/bpf/disasm.c).

    (bf) r6 = r1                        opcode in parentheses; not needed when read
    (61) r0 = *(u32 *)(r1 +4)
    (15) if r0 == 0x2 goto pc+3
    (18) r1 = map[id:5]                 a map not yet resolved stands as map[name]
    (85) call bpf_map_lookup_elem#1

A number that has its `0x` is a wide immediate (`r1 = 0x5` takes two slots), one without is not.
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
    JA_REGISTER,
    LD_IMM64,
    MAY_GOTO,
    MOV32_X,
    MOV64_X,
    NOSPEC,
    Alu,
    Atomic,
    CallKind,
    Class,
    K,
    Mode,
    Size,
    WideKind,
    X,
)
from pybpfasm.isa.text.grammar import (
    IDENTIFIER,
    NAME,
    NUMBER,
    SIGNED_NUMBER,
    Build,
    Form,
    Groups,
    Part,
    ValueRangeError,
    distance,
    immediate,
    number,
    offset,
    one_of,
    same_register,
    unsigned,
    wide_immediate,
)
from pybpfasm.isa.text.printing import Format, printer
from pybpfasm.isa.text.signs import (
    ALU_SIGNS,
    FETCH_NAMES,
    JUMP_SIGNS,
    LOCK_SIGNS,
    SIGN_WIDTHS,
    SIGNED_DIVISIONS,
    SIGNED_TYPES,
    UNSIGNED_TYPES,
)

# --- printing ---------------------------------------------------------------------------------------------------------


def _template(opcode: int, template: str, *fields: int) -> Format:
    """A printer that fills fields of the instruction, by their index, into a template."""
    text = f"({opcode:02x}) {template}"
    if len(fields) == 1:
        only = fields[0]
        return lambda instruction: text % instruction[only]
    first, second, *rest = fields
    if not rest:
        return lambda instruction: text % (instruction[first], instruction[second])
    return lambda instruction: text % tuple([instruction[field] for field in fields])


_DST, _SRC, _OFFSET, _IMM = 1, 2, 3, 4


def _formats() -> dict[int, Format]:
    formats: dict[int, Format] = {}
    for group, letter in ((Class.ALU64, "r"), (Class.ALU, "w")):
        for operator, code in ALU_SIGNS.items():
            sign = operator.replace("%", "%%")
            formats[group | code | K] = _template(group | code | K, f"{letter}%d {sign} %d", _DST, _IMM)
            formats[group | code | X] = _template(group | code | X, f"{letter}%d {sign} {letter}%d", _DST, _SRC)
        for operator, code in SIGNED_DIVISIONS.items():
            sign = operator.replace("%", "%%")
            for source, operand, field in ((K, "%d", _IMM), (X, f"{letter}%d", _SRC)):
                opcode = group | code | source
                signed = _template(opcode, f"{letter}%d {sign} {operand}", _DST, field)
                formats[opcode] = _by_offset(formats[opcode], signed)
        formats[group | Alu.NEG] = _template(group | Alu.NEG, f"{letter}%d = -{letter}%d", _DST, _DST)
    for opcode, name in _SWAPS.items():
        formats[opcode] = _template(opcode, f"r%d = {name}%d r%d", _DST, _IMM, _DST)
    formats[MOV64_X] = _move(formats[MOV64_X], MOV64_X, "r")
    formats[MOV32_X] = _move(formats[MOV32_X], MOV32_X, "w")
    for group, letter in ((Class.JMP, "r"), (Class.JMP32, "w")):
        for sign, jump in JUMP_SIGNS.items():
            formats[group | jump | K] = _jump_imm(group | jump | K, f"if {letter}%d {sign} 0x%x goto ")
            formats[group | jump | X] = _jump(group | jump | X, f"if {letter}%d {sign} {letter}%d goto ", _DST, _SRC)
    formats[JA] = _jump(JA, "goto ")
    formats[MAY_GOTO] = _jump(MAY_GOTO, "may_goto ")
    formats[JA_LONG] = lambda i: f"({JA_LONG:02x}) gotol {i.symbol or f'pc{i.imm:+d}'}"
    formats[JA_REGISTER] = _template(JA_REGISTER, "gotox r%d", _DST)
    formats[CALL] = _format_call
    formats[CALL_REGISTER] = _template(CALL_REGISTER, "callx r%d", _DST)
    formats[EXIT] = lambda _: f"({EXIT:02x}) exit"
    formats[NOSPEC] = lambda _: f"({NOSPEC:02x}) nospec"
    formats[LD_IMM64] = lambda i: f"({LD_IMM64:02x}) r{i.dst} = {_format_wide(i)}"
    for name, size in UNSIGNED_TYPES.items():
        opcode = Class.LDX | Mode.MEM | size
        formats[opcode] = _template(opcode, f"r%d = *({name} *)(r%d %+d)", _DST, _SRC, _OFFSET)
        opcode = Class.STX | Mode.MEM | size
        formats[opcode] = _template(opcode, f"*({name} *)(r%d %+d) = r%d", _DST, _OFFSET, _SRC)
        opcode = Class.ST | Mode.MEM | size
        formats[opcode] = _template(opcode, f"*({name} *)(r%d %+d) = %d", _DST, _OFFSET, _IMM)
        opcode = Class.STX | Mode.ATOMIC | size
        formats[opcode] = _atomic(opcode, name)
        formats[Class.LD | Mode.ABS | size] = _template(Class.LD | Mode.ABS | size, f"r0 = *({name} *)skb[%d]", _IMM)
        opcode = Class.LD | Mode.IND | size
        formats[opcode] = _template(opcode, f"r0 = *({name} *)skb[r%d + %d]", _SRC, _IMM)
    for name, size in SIGNED_TYPES.items():
        opcode = Class.LDX | Mode.MEMSX | size
        formats[opcode] = _template(opcode, f"r%d = *({name} *)(r%d %+d)", _DST, _SRC, _OFFSET)
    return formats


_SWAPS = {
    int(Class.ALU | Alu.END | K): "le",
    int(Class.ALU | Alu.END | X): "be",
    int(Class.ALU64 | Alu.END): "bswap",
}


def _by_offset(plain: Format, signed: Format) -> Format:
    return lambda instruction: signed(instruction) if instruction.offset else plain(instruction)


def _move(plain: Format, opcode: int, letter: str) -> Format:
    start = f"({opcode:02x}) "

    def text(instruction: Instruction) -> str:
        _, dst, src, variant, imm, _ = instruction
        if not variant:
            return plain(instruction)
        if variant == 1:
            return f"{start}r{dst} = addr_space_cast(r{src}, {imm >> 16 & 0xFFFF}, {imm & 0xFFFF})"
        if variant < 0:
            return f"{start}r{dst} = &(void __percpu *)(r{src})"
        return f"{start}{letter}{dst} = (s{variant}){letter}{src}"

    return text


def _jump(opcode: int, template: str, *fields: int) -> Format:
    start = f"({opcode:02x}) {template}"

    def text(instruction: Instruction) -> str:
        target = instruction.symbol or f"pc{instruction.offset:+d}"
        return start % tuple([instruction[field] for field in fields]) + target

    return text


def _jump_imm(opcode: int, template: str) -> Format:
    start = f"({opcode:02x}) {template}"

    def text(instruction: Instruction) -> str:
        _, dst, _, slots, imm, symbol = instruction
        return start % (dst, imm & 0xFFFFFFFF) + (symbol or f"pc{slots:+d}")

    return text


def _format_wide(instruction: Instruction) -> str:
    _, _, kind, _, imm, symbol = instruction
    low, high = imm & 0xFFFFFFFF, imm >> 32 & 0xFFFFFFFF
    match kind:
        case WideKind.MAP_FD:
            return f"map[{symbol or f'id:{low}'}]"
        case WideKind.MAP_VALUE:
            return f"map[{symbol or f'id:{low}'}][0]+{high}"
        case WideKind.MAP_INDEX:
            return f"map[idx:{low}]"
        case WideKind.MAP_INDEX_VALUE:
            return f"map[idx:{low}][0]+{high}"
        case WideKind.FUNC:
            return f"subprog[{symbol or f'{_signed32(low):+d}'}]"
        case WideKind.BTF_ID:
            return f"ksym[{symbol}]" if symbol else f"btf[{low}:{high}]"
        case _:
            return f"addr[{symbol}]+{imm}" if symbol else f"0x{imm & (1 << 64) - 1:x}"


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _format_call(instruction: Instruction) -> str:
    _, _, kind, at, imm, symbol = instruction
    start = f"({CALL:02x}) call "
    if kind == CallKind.FUNCTION:
        # A loaded program's dump has the distance in the offset, and the number of the function in the immediate.
        if symbol is not None:
            return start + (f'"{symbol}"' if _known_helper(symbol) is not None else symbol)
        return start + (f"pc{at:+d}#{imm}" if at else f"pc{imm:+d}")
    if kind == CallKind.KFUNC:
        module = f"{at:+d}" if at else ""
        return f"{start}kernel-function{module}#{symbol or imm}"
    return f"{start}{_helper_name(imm)}#{imm}"


def _known_helper(name: str) -> int | None:
    """The number of the helper that is called so, as in bpf_map_lookup_elem."""
    from pybpfasm.uapi import Helper  # loaded when first used

    member = name.removeprefix("bpf_").upper()
    return int(Helper[member]) if name.startswith("bpf_") and member in Helper.__members__ else None


def _helper_name(helper: int) -> str:
    from pybpfasm.uapi import Helper  # loaded when first used

    try:
        return f"bpf_{Helper(helper).name.lower()}"
    except ValueError:
        return "unknown"


def _atomic(opcode: int, name: str) -> Format:
    start = f"({opcode:02x}) "
    bits = "64" if name == "u64" else ""
    signs = {int(code): sign for sign, code in LOCK_SIGNS.items()}
    fetches = {code | FETCH: word for word, code in FETCH_NAMES.items()}

    def text(instruction: Instruction) -> str:
        _, dst, src, at, imm, _ = instruction
        if imm in signs:
            return f"{start}lock *({name} *)(r{dst} {at:+d}) {signs[imm]} r{src}"
        if imm in fetches:
            return f"{start}r{src} = atomic{bits}_fetch_{fetches[imm]}(({name} *)(r{dst} {at:+d}), r{src})"
        if imm == Atomic.CMPXCHG:
            return f"{start}r0 = atomic{bits}_cmpxchg(({name} *)(r{dst} {at:+d}), r0, r{src})"
        if imm == Atomic.XCHG:
            return f"{start}r{src} = atomic{bits}_xchg(({name} *)(r{dst} {at:+d}), r{src})"
        if imm == Atomic.LOAD_ACQUIRE:
            return f"{start}r{dst} = load_acquire(({name} *)(r{src} {at:+d}))"
        return f"{start}store_release(({name} *)(r{dst} {at:+d}), r{src})"

    return text


format_kernel = printer(_formats())


# --- reading ----------------------------------------------------------------------------------------------------------

_PARTS = {
    "R": Part(r"r(10|[0-9])\b", "a register (r0 to r10)"),
    "RW": Part(r"([rw](?:10|[0-9]))\b", "a register (r0 to r10, w0 to w10)"),
    "TYPE": one_of(UNSIGNED_TYPES, "u8, u16, u32 or u64"),
    "ANY": one_of([*UNSIGNED_TYPES, *SIGNED_TYPES], "u8, u16, u32, u64, s8, s16 or s32"),
    "SIGN": one_of(SIGN_WIDTHS, "s8, s16 or s32"),
    "OFFSET": SIGNED_NUMBER,
    "NUMBER": NUMBER,
    "DECIMAL": Part(r"([-+]?[0-9]+)\b", "a decimal number"),
    "HEXADECIMAL": Part(r"([-+]?0[xX][0-9a-fA-F]+)\b", "a number with 0x"),
    "TARGET": Part(rf"(pc[+-][0-9]+\b|(?!pc[+-])(?:{NAME}))", "`pc` and a distance (pc+3), or a label"),
    "ALU": one_of([*ALU_SIGNS, *SIGNED_DIVISIONS], "an operator such as `+=`"),
    "LOCK": one_of(LOCK_SIGNS, "`+=`, `|=`, `&=` or `^=`"),
    "JUMP": one_of(JUMP_SIGNS, "a comparison such as `==`"),
    "SWAP": Part(r"(be|le|bswap)", "be, le or bswap"),
    "BITS": Part(r"([0-9]+)\b", "16, 32 or 64"),
    "ATOMIC": Part(r"atomic(64)?_", "atomic_ or atomic64_"),
    "FETCH": one_of(["xchg", *(f"fetch_{name}" for name in FETCH_NAMES)], "fetch_add, _or, _and, _xor or xchg"),
    "NAME": IDENTIFIER,
    "MAP": Part(
        rf"(?:(fd|id|idx):([0-9]+)|(?!(?:fd|id|idx):)({NAME}))",
        "a map's name, or id:, fd: or idx: and a number",
    ),
    "AT": Part(r"(?:\[0\]\+([0-9]+))?", "`[0]+` and an offset"),
    "FUNCTION": Part(rf"(?:([-+][0-9]+)|({NAME}))", "a distance or a function's name"),
    "LOCAL": Part(r"pc([-+][0-9]+)(?:#(?:(-?[0-9]+)|[A-Za-z_]\w*+|0x[0-9a-f]+))?", "`pc` and a distance"),
    "KFUNC": Part(rf"kernel-function([-+][0-9]+)?#([-+]?[0-9]+|{NAME})", "kernel-function#…"),
    "CALLEE": Part(rf"({NAME})(?:#(-?[0-9]+))?", "a helper's name and number (name#5), a function's name"),
}
_SWAP_OPCODES = {"le": Class.ALU | Alu.END | K, "be": Class.ALU | Alu.END | X, "bswap": Class.ALU64 | Alu.END}
_ALU_CODES: dict[str, tuple[int, int]] = {
    **{sign: (int(code), 0) for sign, code in ALU_SIGNS.items()},
    **{sign: (int(code), 1) for sign, code in SIGNED_DIVISIONS.items()},
}
_JUMP_CODES = {sign: int(code) for sign, code in JUMP_SIGNS.items()}
_SIZES = {name: int(size) for name, size in UNSIGNED_TYPES.items()}
_LOADS = {
    **{name: int(Class.LDX | Mode.MEM | size) for name, size in UNSIGNED_TYPES.items()},
    **{name: int(Class.LDX | Mode.MEMSX | size) for name, size in SIGNED_TYPES.items()},
}


def _pair(first: str, second: str, group: int) -> tuple[int, int, bool]:
    """Two registers that must be of one width; whether that is 32 bits."""
    if first[0] != second[0]:
        raise ValueRangeError(group, f"`{first}` and `{second}` differ in width: both are r… or both are w…")
    return int(first[1:]), int(second[1:]), first[0] == "w"


def _build_alu_register(groups: Groups) -> Instruction:
    first, sign, second = groups
    dst, src, narrow = _pair(first, second, 2)
    code, signed = _ALU_CODES[sign]
    return Instruction((4 if narrow else 7) | code | 8, dst, src, signed)


def _build_alu_immediate(groups: Groups) -> Instruction:
    register, sign, _ = groups
    code, signed = _ALU_CODES[sign]
    imm = immediate(groups, 2, ": a wide immediate is written with 0x" if sign == "=" else "")
    return Instruction((4 if register[0] == "w" else 7) | code, int(register[1:]), 0, signed, imm)


def _build_neg(groups: Groups) -> Instruction:
    first, second = groups
    return Instruction((4 if first[0] == "w" else 7) | Alu.NEG, same_register(second, first, 1))


def _wide_register(text: str) -> int:
    """The register that an instruction assigns which has no 32-bit form in this syntax."""
    if text[0] == "w":
        raise ValueRangeError(0, f"this writes all 64 bits: r{text[1:]}, not {text}")
    return int(text[1:])


def _result_in_r0(text: str) -> None:
    if _wide_register(text):
        raise ValueRangeError(0, f"the result of this instruction is in r0, not in {text}")


def _build_swap(groups: Groups) -> Instruction:
    first, kind, bits, second = groups
    _wide_register(first)
    dst = same_register(second, first, 3)
    if bits not in ("16", "32", "64"):
        raise ValueRangeError(2, f"a swap has 16, 32 or 64 bits, not {bits}")
    return Instruction(int(_SWAP_OPCODES[kind]), dst, imm=int(bits))


def _build_signed_move(groups: Groups) -> Instruction:
    first, width, second = groups
    dst, src, narrow = _pair(first, second, 2)
    if narrow and width == "s32":
        raise ValueRangeError(1, "a sign of 32 bits needs r registers")
    return Instruction(int(MOV32_X if narrow else MOV64_X), dst, src, SIGN_WIDTHS[width])


def _build_cast(groups: Groups) -> Instruction:
    spaces = number(groups[2]) << 16 | number(groups[3])
    if not (0 <= spaces <= 0xFFFFFFFF and 0 <= number(groups[3]) <= 0xFFFF):
        raise ValueRangeError(2, "an address space has 16 bits")
    imm = spaces - (1 << 32) if spaces >> 31 else spaces
    return Instruction(int(MOV64_X), int(groups[0]), int(groups[1]), 1, imm)


def _build_per_cpu(groups: Groups) -> Instruction:
    return Instruction(int(MOV64_X), int(groups[0]), int(groups[1]), -1)


def _build_load(groups: Groups) -> Instruction:
    return Instruction(_LOADS[groups[1]], _wide_register(groups[0]), int(groups[2]), offset(groups, 3))


def _build_store(groups: Groups) -> Instruction:
    name, base, _, source = groups
    return Instruction(0x63 | _SIZES[name], int(base), int(source), offset(groups, 2))


def _build_store_immediate(groups: Groups) -> Instruction:
    name, base, _, _ = groups
    return Instruction(0x62 | _SIZES[name], int(base), 0, offset(groups, 2), immediate(groups, 3))


def _build_lock(groups: Groups) -> Instruction:
    name, base, _, sign, source = groups
    code = LOCK_SIGNS[sign]
    return Instruction(_atomic_opcode(name, 0), int(base), int(source), offset(groups, 2), int(code))


def _atomic_opcode(name: str, group: int, *, narrow: bool = False) -> int:
    size = UNSIGNED_TYPES[name]
    if size in (Size.B, Size.H) and not narrow:
        raise ValueRangeError(group, f"{name} has no such atomic instruction, u32 and u64 have")
    return Class.STX | Mode.ATOMIC | size


def _check_atomic_bits(bits: str | None, name: str) -> None:
    if (name == "u64") != (bits == "64"):
        raise ValueRangeError(1, "`atomic64` goes with u64, `atomic` with u32")


def _build_fetch(groups: Groups) -> Instruction:
    dst, bits, operation, name, base, _, source = groups
    _check_atomic_bits(bits, name)
    same_register(f"r{source}", f"r{dst}", 6)
    code = Atomic.XCHG if operation == "xchg" else FETCH_NAMES[operation.removeprefix("fetch_")] | FETCH
    return Instruction(_atomic_opcode(name, 3), int(base), int(source), offset(groups, 5), int(code))


def _build_compare_exchange(groups: Groups) -> Instruction:
    first, bits, name, base, _, compared, source = groups
    _result_in_r0(first)
    _check_atomic_bits(bits, name)
    if compared != "0":
        raise ValueRangeError(5, f"what memory is compared with is in r0, not in r{compared}")
    opcode = _atomic_opcode(name, 2)
    return Instruction(opcode, int(base), int(source), offset(groups, 4), int(Atomic.CMPXCHG))


def _build_load_acquire(groups: Groups) -> Instruction:
    dst, name, base, _ = groups
    opcode = _atomic_opcode(name, 1, narrow=True)
    return Instruction(opcode, int(dst), int(base), offset(groups, 3), int(Atomic.LOAD_ACQUIRE))


def _build_store_release(groups: Groups) -> Instruction:
    name, base, _, source = groups
    opcode = _atomic_opcode(name, 0, narrow=True)
    return Instruction(opcode, int(base), int(source), offset(groups, 2), int(Atomic.STORE_RELEASE))


def _packet_opcode(mode: Mode, register: str, name: str) -> int:
    _result_in_r0(register)
    if name not in ("u8", "u16", "u32"):
        raise ValueRangeError(1, "a packet is read in u8, u16 or u32")
    return Class.LD | mode | UNSIGNED_TYPES[name]


def _build_packet(groups: Groups) -> Instruction:
    return Instruction(_packet_opcode(Mode.ABS, *groups[:2]), imm=immediate(groups, 2))


def _build_packet_indirect(groups: Groups) -> Instruction:
    return Instruction(_packet_opcode(Mode.IND, *groups[:2]), src=int(groups[2]), imm=immediate(groups, 3))


def _target(opcode: int, dst: int, src: int, imm: int, groups: Groups, group: int) -> Instruction:
    """An instruction that jumps: by a distance, or to a label."""
    text = groups[group]
    if text[:3] in ("pc+", "pc-"):
        return Instruction(opcode, dst, src, distance(text[2:], group), imm)
    return Instruction(opcode, dst, src, 0, imm, text)


def _build_jump_register(groups: Groups) -> Instruction:
    first, sign, second, _ = groups
    dst, src, narrow = _pair(first, second, 2)
    return _target((6 if narrow else 5) | _JUMP_CODES[sign] | 8, dst, src, 0, groups, 3)


def _build_jump_immediate(groups: Groups) -> Instruction:
    register, sign, _, _ = groups
    opcode = (6 if register[0] == "w" else 5) | _JUMP_CODES[sign]
    return _target(opcode, int(register[1:]), 0, immediate(groups, 2), groups, 3)


def _build_goto(groups: Groups) -> Instruction:
    return _target(int(JA), 0, 0, 0, groups, 0)


def _build_may_goto(groups: Groups) -> Instruction:
    return _target(int(MAY_GOTO), 0, 0, 0, groups, 0)


def _build_gotol(groups: Groups) -> Instruction:
    text = groups[0]
    if text[:3] not in ("pc+", "pc-"):
        return Instruction(int(JA_LONG), symbol=text)
    return Instruction(int(JA_LONG), imm=immediate([text[2:]], 0))


def _build_call(groups: Groups) -> Instruction:
    name, helper = groups
    if helper is not None:
        return Instruction(int(CALL), imm=immediate(groups, 1))
    known = _known_helper(name)
    if known is not None:
        return Instruction(int(CALL), imm=known)
    return Instruction(int(CALL), src=CallKind.FUNCTION, symbol=name)


def _build_call_function(groups: Groups) -> Instruction:
    if groups[1] is None:
        return Instruction(int(CALL), src=CallKind.FUNCTION, imm=immediate(groups, 0))
    return Instruction(int(CALL), 0, CallKind.FUNCTION, offset(groups, 0), immediate(groups, 1))


def _build_call_kfunc(groups: Groups) -> Instruction:
    module = offset(groups, 0)
    name = groups[1]
    if name[0] in "+-0123456789":
        return Instruction(int(CALL), 0, CallKind.KFUNC, module, immediate(groups, 1))
    return Instruction(int(CALL), 0, CallKind.KFUNC, module, 0, name)


def _wide(register: str, kind: int, imm: int, symbol: str | None = None) -> Instruction:
    return Instruction(int(LD_IMM64), int(register), kind, 0, imm, symbol)


def _build_map(groups: Groups) -> Instruction:
    register, by, _, name, at = groups
    high = 0 if at is None else unsigned(groups, 4) << 32
    if by == "idx":
        kind = WideKind.MAP_INDEX if at is None else WideKind.MAP_INDEX_VALUE
        return _wide(register, kind, high | unsigned(groups, 2))
    kind = WideKind.MAP_FD if at is None else WideKind.MAP_VALUE
    return _wide(register, kind, high, name) if name else _wide(register, kind, high | unsigned(groups, 2))


def _build_function_address(groups: Groups) -> Instruction:
    register, _, name = groups
    if name is not None:
        return _wide(register, WideKind.FUNC, 0, name)
    return _wide(register, WideKind.FUNC, unsigned(groups, 1))


def _build_kernel_variable(groups: Groups) -> Instruction:
    return _wide(groups[0], WideKind.BTF_ID, 0, groups[1])


def _build_address(groups: Groups) -> Instruction:
    return _wide(groups[0], WideKind.IMM, wide_immediate(groups, 2), groups[1])


def _build_btf_id(groups: Groups) -> Instruction:
    return _wide(groups[0], WideKind.BTF_ID, unsigned(groups, 2) << 32 | unsigned(groups, 1))


def _fixed(opcode: int) -> Callable[[Groups], Instruction]:
    return lambda _: Instruction(int(opcode))


def _forms(*forms: tuple[Build, str]) -> tuple[Form, ...]:
    return tuple(Form.of(build, pattern, _PARTS) for build, pattern in forms)


# The commonest first.
_ASSIGNMENTS = _forms(
    (_build_alu_register, "{RW} {ALU} {RW}"),
    (_build_alu_immediate, "{RW} {ALU} {DECIMAL}"),
    (_build_load, "{RW} = * ( {ANY} * ) ( {R} {OFFSET} )"),
    (lambda groups: _wide(groups[0], 0, wide_immediate(groups, 1)), "{R} = {HEXADECIMAL}"),
    (_build_map, "{R} = map [ {MAP} ] {AT}"),
    (_build_signed_move, "{RW} = ( {SIGN} ) {RW}"),
    (_build_swap, "{RW} = {SWAP} {BITS} {RW}"),
    (_build_neg, "{RW} = - {RW}"),
    (_build_fetch, "{R} = {ATOMIC} {FETCH} ( ( {TYPE} * ) ( {R} {OFFSET} ) , {R} )"),
    (_build_compare_exchange, "{RW} = {ATOMIC} cmpxchg ( ( {TYPE} * ) ( {R} {OFFSET} ) , {R} , {R} )"),
    (_build_load_acquire, "{R} = load_acquire ( ( {TYPE} * ) ( {R} {OFFSET} ) )"),
    (_build_packet, "{RW} = * ( {ANY} * ) skb [ {NUMBER} ]"),
    (_build_packet_indirect, "{RW} = * ( {ANY} * ) skb [ {R} + {NUMBER} ]"),
    (_build_cast, "{R} = addr_space_cast ( {R} , {NUMBER} , {NUMBER} )"),
    (_build_function_address, "{R} = subprog [ {FUNCTION} ]"),
    (_build_kernel_variable, "{R} = ksym [ {NAME} ]"),
    (_build_btf_id, "{R} = btf [ {NUMBER} : {NUMBER} ]"),
    (_build_address, "{R} = addr [ {NAME} ] + {NUMBER}"),
    (_build_per_cpu, "{R} = & ( void __percpu * ) ( {R} )"),
)
_STORES = _forms(
    (_build_store, "* ( {TYPE} * ) ( {R} {OFFSET} ) = {R}"),
    (_build_store_immediate, "* ( {TYPE} * ) ( {R} {OFFSET} ) = {NUMBER}"),
)
_JUMPS = _forms(
    (_build_jump_immediate, "if {RW} {JUMP} {NUMBER} goto {TARGET}"),
    (_build_jump_register, "if {RW} {JUMP} {RW} goto {TARGET}"),
)
_BY_LETTER = {
    "r": _ASSIGNMENTS,
    "w": _ASSIGNMENTS,
    "*": _STORES,
    "i": _JUMPS,
    "g": _forms(
        (_build_goto, "goto {TARGET}"),
        (_build_gotol, "gotol {TARGET}"),
        (lambda groups: Instruction(int(JA_REGISTER), int(groups[0])), "gotox {R}"),
    ),
    "c": _forms(
        (_build_call, "call {CALLEE}"),
        (_build_call_function, "call {LOCAL}"),
        (_build_call_kfunc, "call {KFUNC}"),
        (lambda groups: Instruction(int(CALL_REGISTER), int(groups[0])), "callx {R}"),
    ),
    "e": _forms((_fixed(EXIT), "exit")),
    "l": _forms((_build_lock, "lock * ( {TYPE} * ) ( {R} {OFFSET} ) {LOCK} {R}")),
    "s": _forms((_build_store_release, "store_release ( ( {TYPE} * ) ( {R} {OFFSET} ) , {R} )")),
    "m": _forms((_build_may_goto, "may_goto {TARGET}")),
    "n": _forms((_fixed(NOSPEC), "nospec")),
}


def kernel_forms(letter: str) -> tuple[Form, ...]:
    """The forms of a statement by its first letter."""
    return _BY_LETTER.get(letter, ())
