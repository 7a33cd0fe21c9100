"""Maps of a written object: sections of variables, and section `.maps` with a struct's type for each map.

See `btf_maps` for what the members of such a struct say.
"""

from collections.abc import Container, Iterable, Mapping

from pybpfasm import btf
from pybpfasm.btf import BtfBuilder, Linkage, kinds
from pybpfasm.interop.btf_maps import SECTION
from pybpfasm.interop.container import (
    R_BPF_64_ABS64,
    SHF_ALLOC,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    STT_OBJECT,
)
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.image import Image, SectionImage, SymbolImage
from pybpfasm.isa import WideKind
from pybpfasm.isa.opcodes import LD_IMM64
from pybpfasm.spec import CollectionSpec, MapSpec, Untyped
from pybpfasm.uapi import MapType

_POINTER_BYTES = 8
_UINT32 = 1 << 32
# Further elements of `values` than this cost a file of that size, and no compiler has so many.
_MOST_VALUES = 1 << 20

_DATA_NAMES = (".data", ".rodata", ".bss")


class MapsToWrite:
    """The maps by name: where an instruction finds each. Raises `ElfError` for a map that an object cannot have."""

    def __init__(
        self, image: Image, builder: BtfBuilder, maps: Mapping[str, MapSpec], by_value: Container[str]
    ) -> None:
        self._image, self._builder = image, builder
        self._symbols: dict[str, SymbolImage] = {}
        self._declared: dict[str, tuple[MapSpec, int, SectionImage]] = {}
        self._int = builder.type_id(btf.Int("int", 4, signed=True))
        declared = []
        for spec in maps.values():
            if _is_data(spec) or (spec.name in by_value and spec.type == MapType.ARRAY and spec.max_entries == 1):
                self._add_data(spec)
            else:
                declared.append(spec)
        if declared:
            self._add_declared(declared)

    def symbol(self, name: str, *, value: bool) -> SymbolImage:
        """The symbol of a map, or (`value`) of the section of its variables."""
        if name in self._symbols and (name in self._declared) == value:
            form = "into its value" if value else "as a whole"
            raise ElfError(f"map {name!r} is referred to {form}: an object cannot say so of such a map")
        if name not in self._symbols:
            raise ElfError(f"map {name!r} is referred to, and is not among the maps")
        return self._symbols[name]

    def fill(self, programs: Mapping[str, SymbolImage]) -> None:
        """Have the maps' entries refer to other maps, and to programs."""
        for name, (spec, values_at, section) in self._declared.items():
            known = programs if spec.type == MapType.PROG_ARRAY else self._symbols
            for key, wanted in spec.entries:
                if wanted not in known:
                    raise ElfError(f"map {name!r}: its entry {key} is {wanted!r}, which the object does not have")
                section.relocate(values_at + key * _POINTER_BYTES, R_BPF_64_ABS64, known[wanted])

    def _add_data(self, spec: MapSpec) -> None:
        name = data_section_name(spec)
        zero = spec.contents is None and name.startswith(".bss")
        flags = SHF_ALLOC if name.startswith(".rodata") else SHF_ALLOC | SHF_WRITE
        section = self._image.section(name, flags, SHT_NOBITS if zero else SHT_PROGBITS)
        if section.data or section.size:
            raise ElfError(f"map {spec.name!r}: another map has section {name!r} already")
        section.size = spec.value.size
        if not zero:
            section.append(spec.contents if spec.contents is not None else bytes(spec.value.size))
        self._symbols[spec.name] = self._image.section_symbol(section)

    def _add_declared(self, specs: Iterable[MapSpec]) -> None:
        section = self._image.section(SECTION, SHF_ALLOC | SHF_WRITE)
        variables = []
        for spec in specs:
            struct_id, size = self._struct(spec, inner=False)
            room = _entries(spec) * _POINTER_BYTES
            offset = section.append(bytes(size + room))
            symbol = SymbolImage(spec.name, section, STT_OBJECT, value=offset, size=size + room)
            self._symbols[spec.name] = self._image.symbol(symbol)
            self._declared[spec.name] = spec, offset + size, section
            variable = self._builder.add(kinds.Var(spec.name, struct_id, Linkage.GLOBAL))
            variables.append(kinds.SectionVariable(variable, offset, size + room))
        self._builder.add(kinds.DataSec(SECTION, len(section.data), tuple(variables)))

    def _struct(self, spec: MapSpec, *, inner: bool) -> tuple[int, int]:
        """The struct that says what the map is: its id, its size in bytes."""
        if spec.type == MapType.STRUCT_OPS:
            raise ElfError(f"map {spec.name!r}: struct_ops cannot be written: use the object that it comes from")
        if inner and spec.inner is not None:
            raise ElfError(f"map {spec.name!r}: maps of maps cannot be in other maps")
        members = [("type", self._number(int(spec.type)))]
        for name, number in _numbers(spec):
            members.append((name, self._number(number)))
        for name, element in (("key", spec.key), ("value", spec.value)):
            if isinstance(element, Untyped):
                if element.size:
                    members.append((name + "_size", self._number(element.size)))
            else:
                members.append((name, self._builder.add(kinds.Ptr(self._builder.type_id(element)))))
        if spec.extra:
            members.append(("map_extra", self._extra(spec.extra)))
        placed = [kinds.Member(name, type_id, at * 64) for at, (name, type_id) in enumerate(members)]
        size = len(members) * _POINTER_BYTES
        values = self._values(spec)
        if values is not None:
            placed.append(kinds.Member("values", values, size * 8))
        return self._builder.add(kinds.Struct("", size, tuple(placed))), size

    def _number(self, number: int) -> int:
        """A pointer to an array of so many elements."""
        return self._builder.add(kinds.Ptr(self._builder.add(kinds.Array(self._int, self._int, number))))

    def _extra(self, number: int) -> int:
        """libbpf before 1.5 takes only the first form, which has 32 bits."""
        if number < _UINT32:
            return self._number(number)
        return self._builder.add(kinds.Enum64("", 8, (kinds.Enumerator("map_extra_value", number),)))

    def _values(self, spec: MapSpec) -> int | None:
        """The type of the member `values`: an array of pointers to the inner map's struct, or to a function."""
        if spec.inner is not None:
            target, _ = self._struct(spec.inner, inner=True)
        elif spec.type == MapType.PROG_ARRAY and _entries(spec):
            target = self._builder.add(kinds.FuncProto(0))
        elif _entries(spec):
            raise ElfError(f"map {spec.name!r} has entries, and does not tell the shape of the maps in it (`inner`)")
        else:
            return None
        return self._builder.add(kinds.Array(self._builder.add(kinds.Ptr(target)), self._int, 0))


def all_maps(collection: CollectionSpec) -> dict[str, MapSpec]:
    """The collection's maps and those of its programs. Raises `ElfError` if two differ under one name."""
    found = dict(collection.maps)
    for program in collection.programs.values():
        for name, spec in program.maps.items():
            if found.setdefault(name, spec) != spec and name not in collection.maps:
                raise ElfError(f"two programs mean different maps by the name {name!r}")
    return found


def value_maps(collection: CollectionSpec) -> set[str]:
    """The names of the maps that instructions refer into."""
    return {
        instruction.symbol
        for program in collection.programs.values()
        for instruction in program.instructions
        if instruction.symbol and instruction.opcode == LD_IMM64 and instruction.src == WideKind.MAP_VALUE
    }


def _is_data(spec: MapSpec) -> bool:
    """The map holds variables: an array of one entry with a first value, or with such a name."""
    named = any(spec.name == name or spec.name.startswith(name + ".") for name in _DATA_NAMES)
    return spec.type == MapType.ARRAY and spec.max_entries == 1 and (named or spec.contents is not None)


def data_section_name(spec: MapSpec) -> str:
    """The section of a map of variables: its own name if that is one, else one that libbpf takes for such."""
    if any(spec.name == name or spec.name.startswith(name + ".") for name in _DATA_NAMES):
        return spec.name
    return (".rodata." if spec.frozen else ".data.") + spec.name.lstrip(".")


def _numbers(spec: MapSpec) -> list[tuple[str, int]]:
    numbers = [("max_entries", spec.max_entries), ("map_flags", int(spec.flags)), ("pinning", int(spec.pinned))]
    found = [(name, number) for name, number in numbers if number]
    if spec.numa_node is not None:
        found.append(("numa_node", spec.numa_node))
    return found


def _entries(spec: MapSpec) -> int:
    """How many elements `values` has."""
    entries = spec.entries
    count = max((key + 1 for key, _ in entries), default=0)
    if not 0 <= count <= _MOST_VALUES or any(key < 0 for key, _ in entries):
        raise ElfError(f"map {spec.name!r}: an entry's key is not between 0 and {_MOST_VALUES}")
    return count
