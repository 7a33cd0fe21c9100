"""What the numbers in relocations mean: which sections hold what, and which map, function or extern is where."""

from collections.abc import Mapping
from functools import cached_property

import attrs

from pybpfasm.btf import Btf, Kind, kinds
from pybpfasm.interop import btf_maps, kconfig
from pybpfasm.interop.btf_maps import BtfMaps
from pybpfasm.interop.container import ElfFile
from pybpfasm.interop.data_maps import data_map, is_data_section
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.externs import Extern, ExternKind, essential_name, externs
from pybpfasm.interop.functions import Function, Place, by_place, functions
from pybpfasm.interop.legacy_maps import is_legacy_section, legacy_maps
from pybpfasm.interop.struct_ops import is_struct_ops_section, struct_ops_maps
from pybpfasm.spec import MapSpec
from pybpfasm.uapi import MapType


@attrs.define(slots=False)
class Layout:
    """An object's contents by where they are. All of it is found when it is asked for; raises `ElfError` then."""

    file: ElfFile
    btf: Btf | None
    target: Btf | None = None
    kconfig_values: kconfig.Values = attrs.field(factory=dict)
    _missing: dict[str, bool] = attrs.field(factory=dict, init=False)

    @cached_property
    def code_sections(self) -> frozenset[int]:
        """The numbers of the sections of instructions."""
        return frozenset(section.index for section in self.file.sections if section.executable)

    @cached_property
    def data_sections(self) -> Mapping[int, str]:
        """The sections of variables: the names of their maps by the sections' numbers."""
        return {section.index: section.name for section in self.file.sections if is_data_section(section)}

    @cached_property
    def map_sections(self) -> frozenset[int]:
        """The numbers of the sections of maps."""
        return frozenset(
            section.index
            for section in self.file.sections
            if section.name == btf_maps.SECTION or is_legacy_section(section)
        )

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All functions, by section and offset."""
        return functions(self.file)

    @cached_property
    def function_at(self) -> Mapping[Place, Function]:
        """The functions by where they start."""
        return by_place(self.functions)

    @cached_property
    def declared_maps(self) -> Mapping[Place, MapSpec]:
        """The maps that the object declares, by where; without those of variables."""
        found = {(section, offset): spec for section, offset, spec in legacy_maps(self.file)}
        seen: set[str] = set()
        for section in self.file.sections:
            maps: list[tuple[int, MapSpec]] = []
            if section.name in seen:
                raise ElfError(f"there are two sections {section.name!r}")
            if section.name == btf_maps.SECTION and section.size:
                maps = BtfMaps(self.file, section, self.btf).read(self.function_at.get)
            elif is_struct_ops_section(section) and section.size:
                maps = struct_ops_maps(self.file, section, self.btf, self.function_at.get)
            else:
                continue
            seen.add(section.name)
            found.update({(section.index, offset): spec for offset, spec in maps})
        return found

    @cached_property
    def maps_by_place(self) -> Mapping[Place, str]:
        """The names of the declared maps by where they are."""
        return {place: spec.name for place, spec in self.declared_maps.items()}

    @cached_property
    def data_maps(self) -> tuple[MapSpec, ...]:
        """The maps of variables."""
        return tuple(data_map(section) for section in self.file.sections if section.index in self.data_sections)

    @cached_property
    def maps(self) -> Mapping[str, MapSpec]:
        """All maps by name: declared ones, those of variables, and that of the kernel's configuration."""
        specs = [*self.declared_maps.values(), *self.data_maps]
        if self.kconfig_variables:
            specs.append(self.kconfig.map)
        found: dict[str, MapSpec] = {}
        for spec in specs:
            if spec.name in found:
                raise ElfError(f"there are two maps called {spec.name!r}")
            found[spec.name] = spec
        return found

    @cached_property
    def arena(self) -> str | None:
        """The name of the map that variables of section `.addr_space.1` are in."""
        return next((spec.name for spec in self.declared_maps.values() if spec.type == MapType.ARENA), None)

    @cached_property
    def externs(self) -> Mapping[str, Extern]:
        """What the object takes from the kernel."""
        return externs(self.file, self.btf)

    @property
    def kconfig_variables(self) -> tuple[Extern, ...]:
        """The variables of the kernel's configuration."""
        return tuple(each for each in self.externs.values() if each.kind is ExternKind.KCONFIG)

    @cached_property
    def kconfig(self) -> kconfig.Kconfig:
        """The map of the kernel's configuration."""
        assert self.btf is not None  # noqa: S101 - there are no externs without it
        return kconfig.kconfig(self.file, self.btf, self.kconfig_variables, self.kconfig_values)

    def missing_in_target(self, extern: Extern) -> bool:
        """A weak extern that the target's types do not have; without a target, none is."""
        if not extern.weak or self.target is None or extern.kind is ExternKind.ADDRESS:
            return False
        if extern.name not in self._missing:
            kind = Kind.FUNC if extern.kind is ExternKind.KFUNC else Kind.VAR
            self._missing[extern.name] = not self.target.find_all(essential_name(extern.name), kind)
        return self._missing[extern.name]

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names of all variables that the object's types know, the kernel's included."""
        records = () if self.btf is None else [record for _, record in self.btf]
        return frozenset(record.name for record in records if isinstance(record, kinds.Var))

    def section_name(self, number: int) -> str:
        """The name of a section, for a message."""
        sections = self.file.sections
        return sections[number].name if number < len(sections) else f"number {number:#x}"
