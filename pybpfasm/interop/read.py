"""From an object to programs and maps that can be loaded."""

from collections.abc import Iterable, Mapping

from pybpfasm.btf import Btf
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import Function
from pybpfasm.interop.layout import Layout
from pybpfasm.interop.link import Linked, Linker
from pybpfasm.interop.load_types import load_types
from pybpfasm.interop.object import ElfObject
from pybpfasm.interop.sections import context_name, section_kind
from pybpfasm.isa import Instruction, WideKind
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec

_MAP_KINDS = (WideKind.MAP_FD, WideKind.MAP_VALUE)


def read_elf(
    data: bytes, *, target: Btf | None = None, kconfig: Mapping[str, int | str] | None = None
) -> CollectionSpec:
    """The programs and maps of an object that clang (11 or later) or libbpf's linker has made, or `write_elf`.

    `target` has the types of the kernel that the programs are for, which CO-RE relocations ask for; an object without
    such relocations needs none. `kconfig` has values of the kernel's configuration by name, for variables of
    `.kconfig`.

    A program has the functions that it calls behind it, its references to maps by name, kernel functions and variables
    as symbols; an address, or a number that assembly leaves open, is an ld_imm64 of kind IMM with a symbol. A section
    name that libbpf does not know gives a program of type UNSPEC.

    Raises `ElfError` naming the offset, section or symbol, or `BtfError` for types that make no sense.
    """
    elf = ElfObject.parse(data)
    layout = elf.layout(target, kconfig)
    linker = Linker(layout, elf.debug_info)
    types = _Types(elf, layout)
    programs: dict[str, ProgramSpec] = {}
    for function in linker.programs:
        if function.name in programs:
            raise ElfError(f"there are two programs called {function.name!r}")
        programs[function.name] = _program(elf, layout, function, linker.link(function), types)
    return CollectionSpec(programs, dict(layout.maps))


class _Types:
    """The types that go with the programs, made once they are needed."""

    def __init__(self, elf: ElfObject, layout: Layout) -> None:
        self._elf, self._layout = elf, layout
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        if self._encoded is None:
            assert self._elf.btf is not None  # noqa: S101 - what asks for them has types
            hidden = [each for each in self._layout.functions if each.hidden]
            ids = [type_id for each in hidden if (type_id := self._elf.debug_info.type_id(each)) is not None]
            self._encoded = load_types(self._elf.file, self._elf.btf, ids)
        return self._encoded


def _program(elf: ElfObject, layout: Layout, function: Function, linked: Linked, types: _Types) -> ProgramSpec:
    kind = section_kind(function.section)
    return ProgramSpec(
        name=function.name,
        type=kind.type,
        attach_type=kind.attach_type,
        context=context_name(kind.type),
        instructions=linked.instructions,
        maps=_maps_of(linked.instructions, layout.maps),
        lines=linked.lines,
        license=elf.license,
        section=function.section,
        attach_to=kind.attach_to,
        flags=kind.flags,
        functions=linked.functions,
        types=types.encoded() if linked.functions else None,
    )


def _maps_of(instructions: Iterable[Instruction], maps: Mapping[str, MapSpec]) -> dict[str, MapSpec]:
    """The maps that the instructions refer to."""
    names = {
        each.symbol
        for each in instructions
        if each.symbol is not None and each.opcode == LD_IMM64 and each.src in _MAP_KINDS
    }
    return {name: maps[name] for name in sorted(names)}
