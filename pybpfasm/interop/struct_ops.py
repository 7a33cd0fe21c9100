"""struct_ops: variables of sections `.struct_ops` and `.struct_ops.link` are maps whose value points to programs.

The value here is the object's struct; a loader arranges it as the running kernel has it (libbpf's
bpf_map__init_kern_struct_ops).
"""

from bisect import bisect_left
from collections.abc import Callable

from pybpfasm.btf import Btf, Kind
from pybpfasm.btf import Int as IntType
from pybpfasm.interop.btf_maps import section_variables
from pybpfasm.interop.container import SHN_LORESERVE, SHT_PROGBITS, ElfFile, Section
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import Function, Place
from pybpfasm.spec import MapSpec
from pybpfasm.uapi import MapCreateFlag, MapType


def is_struct_ops_section(section: Section) -> bool:
    """The section has such variables."""
    return section.type == SHT_PROGBITS and section.name.removeprefix("?") in (".struct_ops", ".struct_ops.link")


def struct_ops_maps(
    file: ElfFile, section: Section, btf: Btf | None, function_at: Callable[[Place], Function | None]
) -> list[tuple[int, MapSpec]]:
    """The maps of a section with their offsets. Raises `ElfError`."""
    if btf is None:
        raise ElfError(f"section {section.name!r}: the types of its variables are missing: compile with `-g`")
    flags = int(MapCreateFlag.LINK) if section.name.endswith(".link") else 0
    entries = _entries(file, section, function_at)
    places = [at for at, _ in entries]
    offsets = {each.name: each.value for each in file.symbols if each.section == section.index and each.name}
    found: list[tuple[int, MapSpec]] = []
    end = 0
    for name, offset, _, type_id in sorted(section_variables(btf, section.name, offsets), key=lambda each: each[1]):
        struct_id = btf.strip(type_id)
        if btf.kind(struct_id) is not Kind.STRUCT:
            raise ElfError(f"struct_ops {name!r}: a variable of section {section.name!r} has to be a struct")
        size = btf.size_of(struct_id)
        if offset < end or offset + size > section.size:
            raise ElfError(f"struct_ops {name!r}: {size} bytes at offset {offset} overlap others or pass the end")
        end = offset + size
        spec = MapSpec(
            name=name,
            type=MapType.STRUCT_OPS,
            key=IntType("int", 4, signed=True),
            value=btf.value_type(struct_id),
            max_entries=1,
            flags=flags,
            contents=bytes(section.data[offset:end]),
            entries=tuple(
                (at - offset, program)
                for at, program in entries[bisect_left(places, offset) : bisect_left(places, end)]
            ),
        )
        found.append((offset, spec))
    return found


def _entries(file: ElfFile, section: Section, function_at: Callable[[Place], Function | None]) -> list[tuple[int, str]]:
    """The offsets in the section that point to programs, with these programs' names."""
    entries = []
    for relocation in file.relocations(section.index):
        symbol = relocation.symbol
        function = None
        if 0 < symbol.section < SHN_LORESERVE:
            function = function_at((symbol.section, symbol.value + relocation.addend))
        if function is None:
            raise ElfError(
                f"section {section.name!r}: offset {relocation.offset} points to {symbol.name!r}: no program"
            )
        entries.append((relocation.offset, function.name))
    return entries
