"""ELF relocations of instructions: what a symbol is, and the instruction that refers to it.

    ld_imm64   R_BPF_64_64   a map, a variable's place in its section's map, a function, something of the kernel
    call       R_BPF_64_32   a function of the object, or of the kernel

Compilers before clang 13 use these numbers too, for data they have had others; instructions are told by their opcodes.
"""

from pybpfasm.interop.container import (
    R_BPF_64_32,
    R_BPF_64_64,
    SHN_ABS,
    SHN_COMMON,
    SHN_UNDEF,
    Relocation,
    Symbol,
)
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.externs import ExternKind, essential_name
from pybpfasm.interop.functions import SLOT_BYTES, Place
from pybpfasm.interop.layout import Layout
from pybpfasm.isa import CallKind, Instruction, WideKind, call
from pybpfasm.isa.opcodes import CALL, LD_IMM64

_ARENA_SECTION = ".addr_space.1"

# What stands for a call of a weak kernel function that is not there (POISON_CALL_KFUNC_BASE in libbpf).
_MISSING_KFUNC = call(2002000000)


def function_target(
    instruction: Instruction, relocation: Relocation | None, place: tuple[int, int], layout: Layout
) -> Place | None:
    """The function of the object that an instruction refers to, if it does; `place` is its own section and slot.

    Without a relocation, a call goes so many slots on in its own section. The number in the instruction counts on from
    the symbol: in slots from the next one for a call, in bytes for an address.
    """
    is_call = instruction.opcode == CALL and instruction.src == CallKind.FUNCTION
    if relocation is None:
        return (place[0], (place[1] + 1 + instruction.imm) * SLOT_BYTES) if is_call else None
    symbol = relocation.symbol
    if not (is_call or instruction.opcode == LD_IMM64) or symbol.section not in layout.code_sections:
        return None
    beyond = (instruction.imm + 1) * SLOT_BYTES if is_call else instruction.imm & 0xFFFFFFFF
    return symbol.section, symbol.value + relocation.addend + beyond


def relocated(instruction: Instruction, relocation: Relocation, layout: Layout) -> Instruction:
    """Apply a relocation; the distance to a function is set later. Raises `ElfError` naming the symbol."""
    if relocation.type not in (R_BPF_64_64, R_BPF_64_32):
        raise _refused(relocation, f"a relocation of type {relocation.type} is not for instructions")
    if instruction.opcode == CALL:
        return _call(instruction, relocation, layout)
    if instruction.opcode == LD_IMM64:
        return _wide(instruction, relocation, layout)
    raise _refused(relocation, f"`{instruction}` is neither ld_imm64 nor a call")


def _call(instruction: Instruction, relocation: Relocation, layout: Layout) -> Instruction:
    if relocation.symbol.section == SHN_UNDEF:
        return _kernel_call(instruction, relocation, layout)
    if relocation.symbol.section not in layout.code_sections:
        raise _refused(relocation, "a call goes to a function")
    if instruction.src != CallKind.FUNCTION:
        raise _refused(relocation, f"`{instruction}` is a call of a helper")
    return instruction


def _kernel_call(instruction: Instruction, relocation: Relocation, layout: Layout) -> Instruction:
    extern = layout.externs.get(relocation.symbol.name)
    if extern is None or extern.kind is not ExternKind.KFUNC:
        raise _refused(
            relocation, "the object does not have this function, and does not declare it as the kernel's (__ksym)"
        )
    if layout.missing_in_target(extern):
        return _MISSING_KFUNC
    return instruction._replace(src=int(CallKind.KFUNC), offset=0, imm=0, symbol=essential_name(extern.name))


def _wide(instruction: Instruction, relocation: Relocation, layout: Layout) -> Instruction:
    symbol = relocation.symbol
    if symbol.section == SHN_UNDEF:
        return _kernel_variable(instruction, relocation, layout)
    if symbol.section in layout.code_sections:
        return instruction._replace(src=int(WideKind.FUNC), imm=0)
    offset = symbol.value + relocation.addend + (instruction.imm & 0xFFFFFFFF)
    if symbol.section in layout.data_sections:
        return _map_value(instruction, layout.data_sections[symbol.section], offset)
    if symbol.section in layout.map_sections:
        name = layout.maps_by_place.get((symbol.section, offset))
        if name is None:
            raise _refused(relocation, "no map starts there: a map's variable must not be static")
        return instruction._replace(src=int(WideKind.MAP_FD), imm=0, symbol=name)
    return _special(instruction, relocation, layout, offset)


def _special(instruction: Instruction, relocation: Relocation, layout: Layout, offset: int) -> Instruction:
    symbol = relocation.symbol
    section = layout.section_name(symbol.section)
    if section == _ARENA_SECTION and layout.arena is not None:
        return _map_value(instruction, layout.arena, offset)
    if section == ".jumptables":
        raise _refused(relocation, "tables of jumps are not read yet: compile with `-fno-jump-tables`")
    if symbol.section in (SHN_ABS, SHN_COMMON):
        raise _refused(relocation, "it has no place in the object: give the variable a first value")
    raise _refused(relocation, f"section {section!r} is neither code, nor maps, nor .data, .rodata or .bss")


def _map_value(instruction: Instruction, name: str, offset: int) -> Instruction:
    return instruction._replace(src=int(WideKind.MAP_VALUE), imm=(offset & 0xFFFFFFFF) << 32, symbol=name)


def _kernel_variable(instruction: Instruction, relocation: Relocation, layout: Layout) -> Instruction:
    name = relocation.symbol.name
    extern = layout.externs.get(name)
    if extern is None:
        if name in layout.variables:
            raise _refused(relocation, "the object does not have it: declare it as the kernel's (__ksym, __kconfig)")
        # A number that assembly leaves to whoever loads it, by the name.
        return instruction._replace(src=int(WideKind.IMM), imm=0, symbol=name)
    if extern.kind is ExternKind.KCONFIG:
        kconfig = layout.kconfig
        return _map_value(instruction, kconfig.map.name, kconfig.offsets[extern.name])
    if layout.missing_in_target(extern):
        return instruction._replace(src=int(WideKind.IMM), imm=0)
    # An address that only kallsyms knows is a plain number, once it is known.
    kind = WideKind.IMM if extern.kind is ExternKind.ADDRESS else WideKind.BTF_ID
    return instruction._replace(src=int(kind), imm=0, symbol=essential_name(extern.name))


def _refused(relocation: Relocation, reason: str) -> ElfError:
    return ElfError(f"offset {relocation.offset}, {described(relocation.symbol)}: {reason}")


def described(symbol: Symbol) -> str:
    """A symbol in an error's text; those of sections have no name."""
    return f"symbol {symbol.name!r}" if symbol.name else f"symbol {symbol.index} (of section {symbol.section})"
