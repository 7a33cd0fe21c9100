"""LLVM's syntax: what `llvm-objdump -d --mcpu=v4` prints, and `llvm-mc` and inline assembly read.

    r6 = r1
    w0 = *(u32 *)(r1 + 0x4)
    if r0 == 0x2 goto +0x3
    r1 = 0x112233445566 ll
    call 0x1

What this syntax has no words for stands behind the instruction in angle brackets, where llvm-objdump has the names of
symbols: `call 0x5 <function>` is a call of a function and no helper's.
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

# What a wide immediate with a symbol is, if it is not a map.
_WIDE_NOTES = {
    WideKind.MAP_VALUE: "map value",
    WideKind.BTF_ID: "kernel variable",
    WideKind.FUNC: "function",
    WideKind.IMM: "address",
}

_SWAP_OPCODES = {
    "le": int(Class.ALU | Alu.END | K),
    "be": int(Class.ALU | Alu.END | X),
    "bswap": int(Class.ALU64 | Alu.END),
}


# --- printing ---------------------------------------------------------------------------------------------------------


def _hex(value: int) -> str:
    return f"-{-value:#x}" if value < 0 else f"{value:#x}"


def _distance(value: int) -> str:
    return f"-{-value:#x}" if value < 0 else f"+{value:#x}"


def _place(register: int, offset_: int) -> str:
    return f"(r{register} - {-offset_:#x})" if offset_ < 0 else f"(r{register} + {offset_:#x})"


def _formats() -> dict[int, Format]:
    formats: dict[int, Format] = {}
    for group, letter in ((Class.ALU64, "r"), (Class.ALU, "w")):
        for sign, code in ALU_SIGNS.items():
            divided = next((each for each, divided in SIGNED_DIVISIONS.items() if divided == code), sign)
            formats[group | code | K] = _alu_immediate(letter, sign, divided)
            formats[group | code | X] = _alu_register(letter, sign, divided)
        formats[group | Alu.NEG] = _negation(letter)
    for name, opcode in _SWAP_OPCODES.items():
        formats[opcode] = _swap(name)
    for opcode, letter in ((MOV64_X, "r"), (MOV32_X, "w")):
        formats[opcode] = _move(formats[opcode], letter)
    for group, letter in ((Class.JMP, "r"), (Class.JMP32, "w")):
        for sign, jump in JUMP_SIGNS.items():
            formats[group | jump | K] = _jump_immediate(letter, sign)
            formats[group | jump | X] = _jump_register(letter, sign)
    formats[JA] = lambda i: f"goto {i.symbol or _distance(i.offset)}"
    formats[MAY_GOTO] = lambda i: f"may_goto {i.symbol or _distance(i.offset)}"
    formats[JA_LONG] = lambda i: f"gotol {i.symbol or _distance(i.imm)}"
    formats[JA_REGISTER] = lambda i: f"gotox r{i.dst}"
    formats[CALL] = _format_call
    formats[CALL_REGISTER] = lambda i: f"callx r{i.dst}"
    formats[EXIT] = lambda _: "exit"
    formats[NOSPEC] = lambda _: "nospec"
    formats[LD_IMM64] = _format_wide
    for name, size in UNSIGNED_TYPES.items():
        letter = "r" if size == Size.DW else "w"
        formats[Class.LDX | Mode.MEM | size] = _load(letter, name)
        formats[Class.STX | Mode.MEM | size] = _store(letter, name)
        formats[Class.ST | Mode.MEM | size] = _store_immediate(name)
        formats[Class.STX | Mode.ATOMIC | size] = _atomic(letter, name)
        formats[Class.LD | Mode.ABS | size] = _packet(name)
        formats[Class.LD | Mode.IND | size] = _packet_indirect(name)
    for name, size in SIGNED_TYPES.items():
        formats[Class.LDX | Mode.MEMSX | size] = _load("r", name)
    return formats


def _alu_immediate(letter: str, sign: str, signed: str) -> Format:
    def text(instruction: Instruction) -> str:
        _, dst, _, variant, imm, _ = instruction
        return f"{letter}{dst} {signed if variant else sign} {_hex(imm)}"

    return text


def _alu_register(letter: str, sign: str, signed: str) -> Format:
    def text(instruction: Instruction) -> str:
        _, dst, src, variant, _, _ = instruction
        return f"{letter}{dst} {signed if variant else sign} {letter}{src}"

    return text


def _negation(letter: str) -> Format:
    return lambda i: f"{letter}{i.dst} = -{letter}{i.dst}"


def _swap(name: str) -> Format:
    return lambda i: f"r{i.dst} = {name}{i.imm} r{i.dst}"


def _move(plain: Format, letter: str) -> Format:
    def text(instruction: Instruction) -> str:
        _, dst, src, variant, imm, _ = instruction
        if not variant:
            return plain(instruction)
        if variant == 1:
            return f"r{dst} = addr_space_cast(r{src}, {imm >> 16 & 0xFFFF:#x}, {imm & 0xFFFF:#x})"
        if variant < 0:
            return f"r{dst} = &(void __percpu *)(r{src})"
        return f"{letter}{dst} = (s{variant}){letter}{src}"

    return text


def _jump_immediate(letter: str, sign: str) -> Format:
    def text(instruction: Instruction) -> str:
        _, dst, _, slots, imm, symbol = instruction
        return f"if {letter}{dst} {sign} {_hex(imm)} goto {symbol or _distance(slots)}"

    return text


def _jump_register(letter: str, sign: str) -> Format:
    def text(instruction: Instruction) -> str:
        _, dst, src, slots, _, symbol = instruction
        return f"if {letter}{dst} {sign} {letter}{src} goto {symbol or _distance(slots)}"

    return text


def _load(letter: str, name: str) -> Format:
    return lambda i: f"{letter}{i[1]} = *({name} *){_place(i[2], i[3])}"


def _store(letter: str, name: str) -> Format:
    return lambda i: f"*({name} *){_place(i[1], i[3])} = {letter}{i[2]}"


def _store_immediate(name: str) -> Format:
    return lambda i: f"*({name} *){_place(i[1], i[3])} = {_hex(i[4])}"


def _packet(name: str) -> Format:
    return lambda i: f"r0 = *({name} *)skb[{_hex(i.imm)}]"


def _packet_indirect(name: str) -> Format:
    return lambda i: f"r0 = *({name} *)skb[r{i.src}]" + (f" <{_distance(i.imm)}>" if i.imm else "")


def _format_call(instruction: Instruction) -> str:
    _, _, kind, module, imm, symbol = instruction
    target = symbol or _hex(imm)
    if kind == CallKind.HELPER:
        return f"call {target}"
    if kind == CallKind.KFUNC:
        return f"call {target} <kfunc{_distance(module) if module else ''}>"
    if module:  # a loaded program's dump has the distance in the offset
        return f"call {target} <function{_distance(module)}>"
    return f"call {target}" if symbol else f"call {target} <function>"


def _format_wide(instruction: Instruction) -> str:
    _, dst, kind, _, imm, symbol = instruction
    if symbol is None:
        if kind == WideKind.IMM:
            return f"r{dst} = {_hex(imm - (1 << 64) if imm >> 63 else imm)} ll"
        low, high = imm & 0xFFFFFFFF, imm >> 32 & 0xFFFFFFFF
        return f"ld_pseudo\tr{dst}, {kind:#x}, {low:#x}" + (f" <{_distance(high)}>" if high else "")
    number_of = imm if kind == WideKind.IMM else imm >> 32
    at = f" + {number_of:#x}" if number_of else ""
    note = _WIDE_NOTES.get(WideKind(kind))
    return f"r{dst} = {symbol}{at} ll" + (f" <{note}>" if note else "")


def _atomic(letter: str, name: str) -> Format:
    wide = letter == "r"
    signs = {int(code): sign for sign, code in LOCK_SIGNS.items()}
    fetches = {code | FETCH: word for word, code in FETCH_NAMES.items()}
    exchange = "xchg_64" if wide else "xchg32_32"
    compare = "cmpxchg_64" if wide else "cmpxchg32_32"

    def text(instruction: Instruction) -> str:
        _, dst, src, at, imm, _ = instruction
        place = _place(dst, at)
        if imm in signs:
            return f"lock *({name} *){place} {signs[imm]} {letter}{src}"
        if imm in fetches:
            return f"{letter}{src} = atomic_fetch_{fetches[imm]}(({name} *){place}, {letter}{src})"
        if imm == Atomic.CMPXCHG:
            return f"{letter}0 = {compare}({place[1:-1]}, {letter}0, {letter}{src})"
        if imm == Atomic.XCHG:
            return f"{letter}{src} = {exchange}({place[1:-1]}, {letter}{src})"
        if imm == Atomic.LOAD_ACQUIRE:
            return f"{letter}{dst} = load_acquire(({name} *){_place(src, at)})"
        return f"store_release(({name} *){place}, {letter}{src})"

    return text


format_llvm = printer(_formats())


# --- reading ----------------------------------------------------------------------------------------------------------

_PARTS = {
    "R": Part(r"r(10|[0-9])\b", "a register (r0 to r10)"),
    "RW": Part(r"([rw](?:10|[0-9]))\b", "a register (r0 to r10, w0 to w10)"),
    "TYPE": one_of(UNSIGNED_TYPES, "u8, u16, u32 or u64"),
    "ANY": one_of([*UNSIGNED_TYPES, *SIGNED_TYPES], "u8, u16, u32, u64, s8, s16 or s32"),
    "SIGN": one_of(SIGN_WIDTHS, "s8, s16 or s32"),
    "OFFSET": SIGNED_NUMBER,
    "NUMBER": NUMBER,
    "NAME": IDENTIFIER,
    "TARGET": Part(
        rf"([+-](?:0[xX][0-9a-fA-F]+|[0-9]+)\b|(?!pc[+-])(?:{NAME}))",
        "a distance with its sign (+3), or a label",
    ),
    # llvm-objdump's name for the place may follow.
    "PLACE": Part(r"(?:<[^<>]*>)?", "`<`"),
    "ALU": one_of([*ALU_SIGNS, *SIGNED_DIVISIONS], "an operator such as `+=`"),
    "LOCK": one_of(LOCK_SIGNS, "`+=`, `|=`, `&=` or `^=`"),
    "JUMP": one_of(JUMP_SIGNS, "a comparison such as `==`"),
    "SWAP": Part(r"(be|le|bswap)", "be, le or bswap"),
    "BITS": Part(r"([0-9]+)\b", "16, 32 or 64"),
    "FETCH": Part(r"atomic_fetch_(add|or|and|xor)\b", "atomic_fetch_add, _or, _and or _xor"),
    "XCHG": Part(r"xchg(_64|32_32)\b", "xchg_64 or xchg32_32"),
    "CMPXCHG": Part(r"cmpxchg(_64|32_32)\b", "cmpxchg_64 or cmpxchg32_32"),
    "EXTRA": Part(r"(?:<([-+](?:0[xX][0-9a-fA-F]+|[0-9]+))>)?", "`<`"),
    "AT": Part(r"(?:\+[ \t]*+(0[xX][0-9a-fA-F]+|[0-9]+))?", "`+` and an offset"),
    "WIDE": Part(r"(?:<(map value|kernel variable|function|address)>)?", "`<map value>`"),
    "CALLEE": Part(rf"([-+]?(?:0[xX][0-9a-fA-F]+|[0-9]+)\b|{NAME})", "a number or a function's name"),
    "CALLED": Part(r"(?:<(?:(function|kfunc)([-+](?:0[xX][0-9a-fA-F]+|[0-9]+))?|[^<>]*)>)?", "`<`"),
}
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


def _pair(groups: Groups, first: int, second: int) -> tuple[int, int, bool]:
    """Two registers that must be of one width; whether that is 32 bits."""
    one, other = groups[first], groups[second]
    if one[0] != other[0]:
        raise ValueRangeError(second, f"`{one}` and `{other}` differ in width: both are r… or both are w…")
    return int(one[1:]), int(other[1:]), one[0] == "w"


def _number_of(groups: Groups, group: int) -> int:
    """A register that stands as r… or w…, by its number."""
    return int(groups[group][1:])


def _of_width(groups: Groups, group: int, name: str) -> int:
    """A register that a memory access of this type uses: w… for up to 32 bits, or r…."""
    text = groups[group]
    if text[0] == "w" and name == "u64":
        raise ValueRangeError(group, f"u64 needs a register r0 to r10, not `{text}`")
    return int(text[1:])


def _build_alu_register(groups: Groups) -> Instruction:
    dst, src, narrow = _pair(groups, 0, 2)
    code, signed = _ALU_CODES[groups[1]]
    return Instruction((4 if narrow else 7) | code | 8, dst, src, signed)


def _build_alu_immediate(groups: Groups) -> Instruction:
    register, sign, _ = groups
    code, signed = _ALU_CODES[sign]
    imm = immediate(groups, 2, ": a wide immediate has `ll` behind it" if sign == "=" else "")
    return Instruction((4 if register[0] == "w" else 7) | code, int(register[1:]), 0, signed, imm)


def _build_neg(groups: Groups) -> Instruction:
    first, second = groups
    return Instruction((4 if first[0] == "w" else 7) | Alu.NEG, same_register(second, first, 1))


def _build_swap(groups: Groups) -> Instruction:
    dst = same_register(groups[3], groups[0], 3)
    if groups[2] not in ("16", "32", "64"):
        raise ValueRangeError(2, f"a swap has 16, 32 or 64 bits, not {groups[2]}")
    return Instruction(_SWAP_OPCODES[groups[1]], dst, imm=int(groups[2]))


def _build_signed_move(groups: Groups) -> Instruction:
    dst, src, narrow = _pair(groups, 0, 2)
    if narrow and groups[1] == "s32":
        raise ValueRangeError(1, "a sign of 32 bits needs r registers")
    return Instruction(int(MOV32_X if narrow else MOV64_X), dst, src, SIGN_WIDTHS[groups[1]])


def _build_cast(groups: Groups) -> Instruction:
    spaces = number(groups[2]) << 16 | number(groups[3])
    if not (0 <= spaces <= 0xFFFFFFFF and 0 <= number(groups[3]) <= 0xFFFF):
        raise ValueRangeError(2, "an address space has 16 bits")
    imm = spaces - (1 << 32) if spaces >> 31 else spaces
    return Instruction(int(MOV64_X), int(groups[0]), int(groups[1]), 1, imm)


def _build_per_cpu(groups: Groups) -> Instruction:
    return Instruction(int(MOV64_X), int(groups[0]), int(groups[1]), -1)


def _build_load(groups: Groups) -> Instruction:
    name = groups[1]
    if name in SIGNED_TYPES and groups[0][0] == "w":
        raise ValueRangeError(0, "a load that extends the sign needs a register r0 to r10")
    return Instruction(_LOADS[name], _of_width(groups, 0, name), int(groups[2]), offset(groups, 3))


def _build_store(groups: Groups) -> Instruction:
    source = _of_width(groups, 3, groups[0])
    return Instruction(0x63 | _SIZES[groups[0]], int(groups[1]), source, offset(groups, 2))


def _build_store_immediate(groups: Groups) -> Instruction:
    opcode = 0x62 | _SIZES[groups[0]]
    return Instruction(opcode, int(groups[1]), 0, offset(groups, 2), immediate(groups, 3))


def _atomic_opcode(groups: Groups, group: int, *, narrow: bool = False) -> int:
    size = UNSIGNED_TYPES[groups[group]]
    if size in (Size.B, Size.H) and not narrow:
        raise ValueRangeError(group, f"{groups[group]} has no such atomic instruction, u32 and u64 have")
    return Class.STX | Mode.ATOMIC | size


def _build_lock(groups: Groups) -> Instruction:
    opcode, code = _atomic_opcode(groups, 0), LOCK_SIGNS[groups[3]]
    source = _of_width(groups, 4, groups[0])
    return Instruction(opcode, int(groups[1]), source, offset(groups, 2), int(code))


def _build_fetch(groups: Groups) -> Instruction:
    same_register(groups[5], groups[0], 5)
    opcode, code = _atomic_opcode(groups, 2), FETCH_NAMES[groups[1]] | FETCH
    source = _of_width(groups, 0, groups[2])
    return Instruction(opcode, int(groups[3]), source, offset(groups, 4), int(code))


def _exchange_opcode(groups: Groups, group: int) -> int:
    wide = groups[group] == "_64"
    for each, text in enumerate(groups):
        if text and text[0] in "rw" and (text[0] == "r") != wide:
            raise ValueRangeError(each, f"`{text}`: 64 bits need r registers, 32 bits w registers")
    return Class.STX | Mode.ATOMIC | (Size.DW if wide else Size.W)


def _build_exchange(groups: Groups) -> Instruction:
    same_register(groups[4], groups[0], 4)
    opcode = _exchange_opcode(groups, 1)
    return Instruction(opcode, int(groups[2]), _number_of(groups, 0), offset(groups, 3), int(Atomic.XCHG))


def _build_compare_exchange(groups: Groups) -> Instruction:
    for group in (0, 4):
        if groups[group][1:] != "0":
            raise ValueRangeError(group, "what is compared is register 0")
    opcode = _exchange_opcode(groups, 1)
    return Instruction(opcode, int(groups[2]), _number_of(groups, 5), offset(groups, 3), int(Atomic.CMPXCHG))


def _build_load_acquire(groups: Groups) -> Instruction:
    opcode, dst = _atomic_opcode(groups, 1, narrow=True), _of_width(groups, 0, groups[1])
    return Instruction(opcode, dst, int(groups[2]), offset(groups, 3), int(Atomic.LOAD_ACQUIRE))


def _build_store_release(groups: Groups) -> Instruction:
    opcode, source = _atomic_opcode(groups, 0, narrow=True), _of_width(groups, 3, groups[0])
    return Instruction(opcode, int(groups[1]), source, offset(groups, 2), int(Atomic.STORE_RELEASE))


def _packet_opcode(mode: Mode, groups: Groups) -> int:
    if groups[0] not in ("u8", "u16", "u32"):
        raise ValueRangeError(0, "a packet is read in u8, u16 or u32")
    return Class.LD | mode | UNSIGNED_TYPES[groups[0]]


def _build_packet(groups: Groups) -> Instruction:
    return Instruction(_packet_opcode(Mode.ABS, groups), imm=immediate(groups, 1))


def _build_packet_indirect(groups: Groups) -> Instruction:
    imm = immediate(groups, 2) if groups[2] else 0
    return Instruction(_packet_opcode(Mode.IND, groups), src=int(groups[1]), imm=imm)


def _target(opcode: int, dst: int, src: int, imm: int, groups: Groups, group: int) -> Instruction:
    """An instruction that jumps: by a distance, or to a label."""
    text = groups[group]
    if text[0] in "+-":
        return Instruction(opcode, dst, src, distance(text, group), imm)
    return Instruction(opcode, dst, src, 0, imm, text)


def _build_jump_register(groups: Groups) -> Instruction:
    dst, src, narrow = _pair(groups, 0, 2)
    return _target((6 if narrow else 5) | _JUMP_CODES[groups[1]] | 8, dst, src, 0, groups, 3)


def _build_jump_immediate(groups: Groups) -> Instruction:
    register = groups[0]
    opcode = (6 if register[0] == "w" else 5) | _JUMP_CODES[groups[1]]
    return _target(opcode, int(register[1:]), 0, immediate(groups, 2), groups, 3)


def _build_gotol(groups: Groups) -> Instruction:
    text = groups[0]
    if text[0] in "+-":
        return Instruction(int(JA_LONG), imm=immediate(groups, 0))
    return Instruction(int(JA_LONG), symbol=text)


def _build_call(groups: Groups) -> Instruction:
    target, kind, module = groups[0], groups[1], offset(groups, 2) if groups[2] else 0
    named = target[0] not in "+-0123456789"
    source = CallKind.KFUNC if kind == "kfunc" else CallKind.FUNCTION if kind or named else CallKind.HELPER
    if named:
        return Instruction(int(CALL), 0, source, module, 0, target)
    return Instruction(int(CALL), 0, source, module, immediate(groups, 0))


def _build_wide_symbol(groups: Groups) -> Instruction:
    at = wide_immediate(groups, 2)
    kinds = {note: kind for kind, note in _WIDE_NOTES.items()}
    kind = kinds.get(groups[3], WideKind.MAP_FD)
    if at and kind not in (WideKind.MAP_VALUE, WideKind.IMM):
        raise ValueRangeError(2, "only a map's value is addressed with an offset: write <map value> behind it")
    imm = at if kind == WideKind.IMM else unsigned(groups, 2) << 32
    return Instruction(int(LD_IMM64), int(groups[0]), int(kind), 0, imm, groups[1])


def _build_pseudo(groups: Groups) -> Instruction:
    kind = number(groups[1])
    if not 0 <= kind <= WideKind.MAP_INDEX_VALUE:
        raise ValueRangeError(1, f"a kind from 0 to {WideKind.MAP_INDEX_VALUE.value} is expected")
    high = unsigned(groups, 3) if groups[3] else 0
    if high and kind in (WideKind.MAP_FD, WideKind.FUNC, WideKind.MAP_INDEX):
        raise ValueRangeError(3, f"ld_imm64 of kind {kind} has no upper half")
    return Instruction(int(LD_IMM64), int(groups[0]), kind, 0, high << 32 | unsigned(groups, 2))


def _build_wide(groups: Groups) -> Instruction:
    return Instruction(int(LD_IMM64), int(groups[0]), 0, 0, wide_immediate(groups, 1))


def _fixed(opcode: int) -> Callable[[Groups], Instruction]:
    return lambda _: Instruction(int(opcode))


def _forms(*forms: tuple[Build, str]) -> tuple[Form, ...]:
    return tuple(Form.of(build, pattern, _PARTS) for build, pattern in forms)


# The commonest first.
_ASSIGNMENTS = _forms(
    (_build_alu_register, "{RW} {ALU} {RW}"),
    (_build_alu_immediate, "{RW} {ALU} {NUMBER}"),
    (_build_load, "{RW} = * ( {ANY} * ) ( {R} {OFFSET} )"),
    (_build_wide, "{R} = {NUMBER} ll"),
    (_build_signed_move, "{RW} = ( {SIGN} ) {RW}"),
    (_build_swap, "{R} = {SWAP} {BITS} {R}"),
    (_build_neg, "{RW} = - {RW}"),
    (_build_fetch, "{RW} = {FETCH} ( ( {TYPE} * ) ( {R} {OFFSET} ) , {RW} )"),
    (_build_exchange, "{RW} = {XCHG} ( {R} {OFFSET} , {RW} )"),
    (_build_compare_exchange, "{RW} = {CMPXCHG} ( {R} {OFFSET} , {RW} , {RW} )"),
    (_build_load_acquire, "{RW} = load_acquire ( ( {TYPE} * ) ( {R} {OFFSET} ) )"),
    (_build_packet, "r0 = * ( {ANY} * ) skb [ {NUMBER} ]"),
    (_build_packet_indirect, "r0 = * ( {ANY} * ) skb [ {R} ] {EXTRA}"),
    (_build_cast, "{R} = addr_space_cast ( {R} , {NUMBER} , {NUMBER} )"),
    (_build_wide_symbol, "{R} = {NAME} {AT} ll {WIDE}"),
    (_build_per_cpu, "{R} = & ( void __percpu * ) ( {R} )"),
)
_STORES = _forms(
    (_build_store, "* ( {TYPE} * ) ( {R} {OFFSET} ) = {RW}"),
    (_build_store_immediate, "* ( {TYPE} * ) ( {R} {OFFSET} ) = {NUMBER}"),
)
_JUMPS = _forms(
    (_build_jump_immediate, "if {RW} {JUMP} {NUMBER} goto {TARGET} {PLACE}"),
    (_build_jump_register, "if {RW} {JUMP} {RW} goto {TARGET} {PLACE}"),
)
_BY_LETTER = {
    "r": _ASSIGNMENTS,
    "w": _ASSIGNMENTS,
    "*": _STORES,
    "i": _JUMPS,
    "g": _forms(
        (lambda groups: _target(int(JA), 0, 0, 0, groups, 0), "goto {TARGET} {PLACE}"),
        (_build_gotol, "gotol {TARGET} {PLACE}"),
        (lambda groups: Instruction(int(JA_REGISTER), int(groups[0])), "gotox {R}"),
    ),
    "c": _forms(
        (_build_call, "call {CALLEE} {CALLED}"),
        (lambda groups: Instruction(int(CALL_REGISTER), int(groups[0])), "callx {R}"),
    ),
    "e": _forms((_fixed(EXIT), "exit")),
    "l": _forms(
        (_build_lock, "lock * ( {TYPE} * ) ( {R} {OFFSET} ) {LOCK} {RW}"),
        (_build_pseudo, "ld_pseudo {R} , {NUMBER} , {NUMBER} {EXTRA}"),
    ),
    "s": _forms((_build_store_release, "store_release ( ( {TYPE} * ) ( {R} {OFFSET} ) , {RW} )")),
    "m": _forms((lambda groups: _target(int(MAY_GOTO), 0, 0, 0, groups, 0), "may_goto {TARGET} {PLACE}")),
    "n": _forms((_fixed(NOSPEC), "nospec")),
}


def llvm_forms(letter: str) -> tuple[Form, ...]:
    """The forms of a statement by its first letter."""
    return _BY_LETTER.get(letter, ())
