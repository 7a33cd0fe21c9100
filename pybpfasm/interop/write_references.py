"""References of a written object: instructions that name something get a relocation, the reverse of `relocate`."""

from pybpfasm.btf import kinds
from pybpfasm.interop.container import R_BPF_64_32, R_BPF_64_64, STT_NOTYPE
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import SLOT_BYTES
from pybpfasm.interop.image import Image, SectionImage, SymbolImage
from pybpfasm.interop.write_maps import MapsToWrite
from pybpfasm.interop.write_types import TypesToWrite
from pybpfasm.isa import CallKind, Instruction, WideKind
from pybpfasm.isa.opcodes import CALL, LD_IMM64
from pybpfasm.spec import ProgramSpec


class References:
    """Adds the relocations, and the symbols of what the kernel has. Raises `ElfError` for what an object cannot say."""

    def __init__(self, image: Image, types: TypesToWrite, maps: MapsToWrite) -> None:
        self._image, self._types, self._maps = image, types, maps
        self._externs: dict[str, tuple[SymbolImage, int]] = {}

    def to_function(
        self, instruction: Instruction, section: SectionImage, at: int, target: SectionImage, offset: int
    ) -> Instruction:
        """An instruction that refers to a function of the object, at byte `offset` of section `target`."""
        symbol = self._image.section_symbol(target)
        if instruction.opcode == CALL:
            section.relocate(at, R_BPF_64_32, symbol)
            return instruction._replace(imm=offset // SLOT_BYTES - 1)
        section.relocate(at, R_BPF_64_64, symbol)
        return instruction._replace(imm=offset)

    def to_other(self, program: ProgramSpec, instruction: Instruction, section: SectionImage, at: int) -> Instruction:
        """Any other instruction: one with a symbol refers to a map or to the kernel."""
        if instruction.symbol is None:
            _check_number(program, instruction)
            return instruction
        if instruction.opcode == CALL and instruction.src == CallKind.FUNCTION:
            raise ElfError(
                f"program {program.name!r}: call of {instruction.symbol!r}, a label: resolve the labels first"
            )
        if instruction.opcode == CALL:
            section.relocate(at, R_BPF_64_32, self._extern(program, instruction))
            return instruction._replace(src=int(CallKind.FUNCTION), offset=0, imm=-1, symbol=None)
        if instruction.opcode != LD_IMM64:
            raise ElfError(f"program {program.name!r}: `{instruction}` names a label: resolve the labels first")
        symbol = self._wide_symbol(program, instruction)
        section.relocate(at, R_BPF_64_64, symbol)
        offset = instruction.imm >> 32 if instruction.src == WideKind.MAP_VALUE else 0
        return instruction._replace(src=int(WideKind.IMM), imm=offset, symbol=None)

    def declare_externs(self) -> None:
        """Add the section that says what is the kernel's."""
        if self._externs:
            variables = [kinds.SectionVariable(type_id, 0, 0) for _, type_id in self._externs.values()]
            self._types.builder.add(kinds.DataSec(".ksyms", 0, tuple(variables)))

    def _wide_symbol(self, program: ProgramSpec, instruction: Instruction) -> SymbolImage:
        name = instruction.symbol or ""
        match instruction.src:
            case WideKind.MAP_FD | WideKind.MAP_VALUE:
                return self._maps.symbol(name, value=instruction.src == WideKind.MAP_VALUE)
            case WideKind.IMM | WideKind.BTF_ID:
                return self._extern(program, instruction)
        raise ElfError(
            f"program {program.name!r}: `{instruction}` names {name!r} in a form that an object does not have"
        )

    def _extern(self, program: ProgramSpec, instruction: Instruction) -> SymbolImage:
        name = instruction.symbol or ""
        if name not in self._externs:
            if instruction.opcode == CALL:
                type_id = self._types.kernel_function(program, name)
            else:
                typed = instruction.src == WideKind.BTF_ID
                type_id = self._types.kernel_variable(program, name, typed=typed)
            self._externs[name] = self._image.symbol(SymbolImage(name, None, STT_NOTYPE)), type_id
        return self._externs[name][0]


_NUMBERED = (WideKind.MAP_FD, WideKind.MAP_VALUE, WideKind.BTF_ID, WideKind.MAP_INDEX, WideKind.MAP_INDEX_VALUE)


def _check_number(program: ProgramSpec, instruction: Instruction) -> None:
    """A descriptor or an id is a number of one process, or of one kernel."""
    by_call = instruction.opcode == CALL and instruction.src == CallKind.KFUNC
    if by_call or (instruction.opcode == LD_IMM64 and instruction.src in _NUMBERED):
        raise ElfError(
            f"program {program.name!r}: `{instruction}` refers to something by a number of the running system:"
            " an object needs its name (`symbol`)"
        )
