"""An object to look at: what is in it as plain values, each found when it is asked for."""

from collections.abc import Mapping
from functools import cached_property

from pybpfasm.btf import Btf, CoreRelocationKind, Ext
from pybpfasm.interop.bounded_btf import BoundedBtf
from pybpfasm.interop.container import ElfFile, Relocation, Section, Symbol
from pybpfasm.interop.debug_info import DebugInfo
from pybpfasm.interop.functions import Code, Function
from pybpfasm.interop.layout import Layout
from pybpfasm.interop.link import Linker
from pybpfasm.isa import ByteOrder, Instruction
from pybpfasm.spec import MapSpec


class ElfObject:
    """An ELF object of BPF programs, of either byte order, as it is: nothing is resolved.

    Opening one works whatever it wants from a kernel. What is wrong with a part shows where that part is asked for:
    each attribute may raise `ElfError`, or `BtfError` for types that make no sense.
    """

    def __init__(self, file: ElfFile) -> None:
        self.file = file
        file.sections  # noqa: B018 - checks them: without sections there is nothing to open

    @classmethod
    def parse(cls, data: bytes) -> "ElfObject":
        """Open an object from its bytes. Raises `ElfError` if they are none, or are cut off."""
        return cls(ElfFile(bytes(data)))

    @property
    def byteorder(self) -> ByteOrder:
        """The byte order of its instructions, data and types."""
        return self.file.byteorder

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections, in their order; the first has no name."""
        return self.file.sections

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols, in their order."""
        return self.file.symbols

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def relocations(self, section: Section) -> tuple[Relocation, ...]:
        """The relocations of a section, by their offsets."""
        return self.file.relocations(section.index)

    def instructions(self, section: Section) -> list[Instruction]:
        """A section's instructions, as they are. Raises `ElfError` naming the slot for what is none."""
        return Code(section, self.file).instructions

    @cached_property
    def license(self) -> str:
        """The licence that section `license` names, which decides on some helpers; empty if there is none."""
        section = self.section("license")
        return bytes(section.data).split(b"\0", 1)[0].decode(errors="replace") if section is not None else ""

    @cached_property
    def version(self) -> int | None:
        """The kernel version of section `version`, which kprobes needed before Linux 5.0."""
        section = self.section("version")
        if section is None:
            return None
        return int.from_bytes(section.data[:4], self.byteorder)

    @cached_property
    def btf(self) -> Btf | None:
        """The types, of section `.BTF`; None without it."""
        section = self.section(".BTF")
        return BoundedBtf.parse(bytes(section.data)) if section is not None and section.size else None

    @cached_property
    def btf_ext(self) -> Ext | None:
        """What ties instructions to types and lines, of section `.BTF.ext`; None without it."""
        section = self.section(".BTF.ext")
        return Ext.parse(bytes(section.data)) if section is not None and section.size else None

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All functions, by section and offset."""
        return self.layout().functions

    @cached_property
    def programs(self) -> tuple[Function, ...]:
        """The functions that are programs to load; the others are parts of them."""
        return Linker(self.layout(), self.debug_info).programs

    @cached_property
    def maps(self) -> Mapping[str, MapSpec]:
        """The maps that the object declares, and those of its variables; not that of the kernel's configuration."""
        layout = self.layout()
        specs = [*layout.declared_maps.values(), *layout.data_maps]
        return {spec.name: spec for spec in specs}

    @cached_property
    def kconfig_variables(self) -> tuple[str, ...]:
        """The names of the variables that the kernel's configuration fills in."""
        return tuple(each.name for each in self.layout().kconfig_variables)

    @cached_property
    def needs_target(self) -> bool:
        """Some instruction depends on a kernel's types (CO-RE)."""
        sections = self.btf_ext.core_relocations if self.btf_ext is not None else ()
        local = CoreRelocationKind.TYPE_ID_LOCAL
        return any(each.kind != local for section in sections for each in section.records)

    @cached_property
    def debug_info(self) -> DebugInfo:
        """Types, lines and relocations against the kernel's types, by function."""
        return DebugInfo(self.btf, self.btf_ext)

    def layout(self, target: Btf | None = None, kconfig: Mapping[str, int | str] | None = None) -> Layout:
        """What the relocations' numbers mean, for a target and its configuration."""
        return Layout(self.file, self.btf, target, kconfig or {})
