"""ELF objects: their programs as they are compiled or ready to be run, their types; and a program made an object."""

from pybpfasm.btf import Btf, Ext, kernel_btf
from pybpfasm.cli.errors import InputError
from pybpfasm.cli.programs import FoundProgram
from pybpfasm.errors import BpfError
from pybpfasm.interop import ElfObject, Function, read_elf
from pybpfasm.interop.debug_info import DebugInfo
from pybpfasm.interop.link import Linked, Linker
from pybpfasm.interop.sections import context_name, section_kind
from pybpfasm.isa import ByteOrder, Instruction
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.spec import ProgramSpec


def compiled_programs(data: bytes, name: str) -> list[FoundProgram]:
    """The programs of an object as they are compiled, for every kernel: CO-RE relocations are not applied.

    One that cannot be linked is shown without what it calls, with a note that says why. Raises `InputError`.
    """
    try:
        elf = ElfObject.parse(data)
        ext = elf.btf_ext
        debug_info = DebugInfo(elf.btf, Ext(ext.func_info, ext.line_info, ()) if ext is not None else None)
        linker = Linker(elf.layout(), debug_info)
        return [_compiled(elf, linker, function) for function in linker.programs]
    except BpfError as error:
        raise InputError(f"{name}: {error}") from None


def _compiled(elf: ElfObject, linker: Linker, function: Function) -> FoundProgram:
    note = ""
    try:
        linked = linker.link(function)
    except BpfError as error:
        note = f"not linked: {error}"
        linked = Linked(_alone(elf, function), (), ())
    return FoundProgram(
        name=function.name,
        instructions=linked.instructions,
        section=function.section,
        functions={each.slot: each.name for each in linked.functions},
        lines=linked.lines,
        note=note,
    )


def _alone(elf: ElfObject, function: Function) -> tuple[Instruction, ...]:
    """A function's instructions as its section has them."""
    slot, found = 0, []
    first, end = function.offset // 8, (function.offset + function.size) // 8
    for instruction in elf.instructions(elf.sections[function.section_index]):
        if first <= slot < end:
            found.append(instruction)
        slot += instruction.slots
    return tuple(found)


def runnable_programs(data: bytes, name: str, target: Btf | None) -> list[FoundProgram]:
    """The programs of an object, resolved for a kernel's types: those of `target`, else the running kernel's.

    Raises `InputError`.
    """
    try:
        elf = ElfObject.parse(data)
        if target is None and elf.needs_target:
            target = kernel_btf()
        specs = read_elf(data, target=target).programs.values()
    except BpfError as error:
        raise InputError(f"{name}: {error}") from None
    return [
        FoundProgram(
            name=spec.name,
            instructions=spec.instructions,
            section=spec.section,
            functions={each.slot: each.name for each in spec.functions},
            lines=spec.lines,
            spec=spec,
            byteorder=elf.byteorder,
        )
        for spec in specs
    ]


def types_of(data: bytes, name: str) -> Btf:
    """The types of an object. Raises `InputError` if there are none."""
    try:
        types = ElfObject.parse(data).btf
    except BpfError as error:
        raise InputError(f"{name}: {error}") from None
    if types is None:
        raise InputError(f"{name}: there is no section .BTF in it: compile with -g")
    return types


def written(
    instructions: list[Instruction], *, section: str, name: str, license_: str, byteorder: ByteOrder, source: str
) -> bytes:
    """An object that holds one program. Raises `InputError`."""
    from pybpfasm.interop import write_elf

    _check_symbols(instructions, source)
    kind = section_kind(section)
    spec = ProgramSpec(
        name=name,
        type=kind.type,
        attach_type=kind.attach_type,
        context=context_name(kind.type),
        instructions=tuple(instructions),
        maps={},
        license=license_,
        section=section,
        attach_to=kind.attach_to,
        flags=kind.flags,
    )
    try:
        return write_elf(spec, byteorder)
    except BpfError as error:
        raise InputError(f"{source}: {error}") from None


def _check_symbols(instructions: list[Instruction], source: str) -> None:
    for each in instructions:
        if each.symbol is not None and each.opcode == LD_IMM64:
            raise InputError(f"{source}: map {each.symbol!r}: text declares no maps: make the object with write_elf")
