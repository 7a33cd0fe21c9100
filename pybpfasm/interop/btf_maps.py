"""Maps in section `.maps`: variables whose struct types say what the map is (libbpf's parse_btf_map_def, src/libbpf.c).

A member's type holds its value, for nothing of it is in the section's bytes:

    __uint(max_entries, 10)   int (*max_entries)[10]       the array's number of elements
    __ulong(map_extra, 1)     enum { x = 1 } map_extra     the enumerator's value
    __type(key, u32)          u32 *key                     the type pointed to
    __array(values, inner)    inner *values[]              the maps within, or a prototype: programs; last
"""

from collections.abc import Callable, Iterator

from pybpfasm.btf import Btf, BtfError, Kind, NotFoundError, Type, kinds
from pybpfasm.interop.container import SHN_LORESERVE, STB_LOCAL, ElfFile, Relocation, Section
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import Function, Place
from pybpfasm.interop.legacy_maps import map_type
from pybpfasm.records import define, evolve, field, frozen
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapType

SECTION = ".maps"

_POINTER_BYTES = 8
# There are eleven names for them.
_MOST_MEMBERS = 32
_OF_MAPS = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)


@define
class _Definition:
    """What the members of a definition have said so far."""

    name: str
    numbers: dict[str, int] = field(factory=dict)
    types: dict[str, int] = field(factory=dict)
    inner: MapSpec | None = None
    values_at: int | None = None


@frozen
class _Variable:
    """A map's variable: its place in the section, with its `values`, and its struct."""

    name: str
    offset: int
    size: int
    struct: kinds.Struct


class BtfMaps:
    """The maps of the section. Raises `ElfError`, or `BtfError` for types that make no sense."""

    def __init__(self, file: ElfFile, section: Section, btf: Btf | None) -> None:
        if btf is None:
            raise ElfError(f"section {section.name!r} has maps, whose types are missing: compile with `-g`")
        self._file, self._section, self._btf = file, section, btf

    def read(self, function_at: Callable[[Place], Function | None]) -> list[tuple[int, MapSpec]]:
        """The maps with their offsets; `function_at` knows the functions that arrays of programs refer to."""
        variables = sorted(self._variables(), key=lambda each: each.offset)
        entries = self._relocations(variables)
        names = {variable.offset: variable.name for variable in variables}
        return [
            (variable.offset, self._map(variable, entries.get(variable.offset, []), names, function_at))
            for variable in variables
        ]

    def _variables(self) -> Iterator[_Variable]:
        offsets = {
            symbol.name: symbol.value
            for symbol in self._file.symbols
            if symbol.section == self._section.index and symbol.binding != STB_LOCAL
        }
        for name, offset, size, type_id in section_variables(self._btf, self._section.name, offsets):
            struct = self._btf.type(self._btf.strip(type_id))
            if not isinstance(struct, kinds.Struct):
                raise ElfError(f"map {name!r}: a variable of section {SECTION!r} has to be a struct")
            if offset + size > self._section.size:
                raise ElfError(f"map {name!r}: offset {offset} is past the end of section {self._section.name!r}")
            yield _Variable(name, offset, size, struct)

    def _relocations(self, variables: list[_Variable]) -> dict[int, list[Relocation]]:
        """The section's relocations by the offset of the map that they are in."""
        found: dict[int, list[Relocation]] = {variable.offset: [] for variable in variables}
        waiting = iter(variables)
        variable = next(waiting, None)
        for relocation in self._file.relocations(self._section.index):
            while variable is not None and relocation.offset >= variable.offset + variable.size:
                variable = next(waiting, None)
            if variable is None or relocation.offset < variable.offset:
                raise ElfError(f"section {SECTION!r}: the relocation at offset {relocation.offset} is in no map")
            found[variable.offset].append(relocation)
        return found

    def _map(
        self,
        variable: _Variable,
        relocations: list[Relocation],
        names: dict[int, str],
        function_at: Callable[[Place], Function | None],
    ) -> MapSpec:
        definition = self._definition(variable.name, variable.struct, inner=False)
        spec = self._spec(definition)
        entries = tuple(
            sorted(
                (self._key(variable, definition, relocation), self._entry(spec, relocation, names, function_at))
                for relocation in relocations
            )
        )
        return evolve(spec, entries=entries, numa_node=definition.numbers.get("numa_node"))

    def _key(self, variable: _Variable, definition: _Definition, relocation: Relocation) -> int:
        at = relocation.offset - variable.offset - (definition.values_at or 0)
        if definition.values_at is None or at < 0 or at % _POINTER_BYTES:
            raise ElfError(f"map {variable.name!r}: what is at offset {relocation.offset} is no element of `values`")
        return at // _POINTER_BYTES

    def _entry(
        self,
        spec: MapSpec,
        relocation: Relocation,
        names: dict[int, str],
        function_at: Callable[[Place], Function | None],
    ) -> str:
        """The name of the map or program that an element refers to."""
        symbol = relocation.symbol
        offset = symbol.value + relocation.addend
        if spec.type in _OF_MAPS and symbol.section == self._section.index and offset in names:
            return names[offset]
        if spec.type == MapType.PROG_ARRAY and 0 < symbol.section < SHN_LORESERVE:
            function = function_at((symbol.section, offset))
            if function is not None:
                return function.name
        wanted = "program" if spec.type == MapType.PROG_ARRAY else f"map of section {SECTION!r}"
        raise ElfError(f"map {spec.name!r}: its element at offset {relocation.offset}, {symbol.name!r}, is no {wanted}")

    def _definition(self, name: str, struct: kinds.Struct, *, inner: bool) -> _Definition:
        definition = _Definition(name)
        if len(struct.members) > _MOST_MEMBERS:
            raise ElfError(f"map {name!r}: its definition has {len(struct.members)} members")
        for index, member in enumerate(struct.members):
            match member.name:
                case "type" | "max_entries" | "map_flags" | "numa_node" | "key_size" | "value_size" | "pinning":
                    definition.numbers[member.name] = self._number(name, member)
                case "map_extra":
                    definition.numbers[member.name] = self._long_number(name, member)
                case "key" | "value":
                    definition.types[member.name] = self._pointed_to(name, member, member.type_id)
                case "values":
                    if inner or index != len(struct.members) - 1:
                        raise ElfError(f"map {name!r}: `values` stands last, and not in a map within another")
                    definition.values_at = member.bit_offset // 8
                    definition.inner = self._inner(name, member)
                case _:
                    raise ElfError(f"map {name!r}: a member {member.name!r} is not known in a map's definition")
        return definition

    def _spec(self, definition: _Definition) -> MapSpec:
        numbers = definition.numbers
        if definition.values_at is not None and numbers.setdefault("value_size", 4) != 4:
            raise ElfError(f"map {definition.name!r}: its values are other maps or programs, and so have 4 bytes")
        type_ = map_type(numbers.get("type", 0), definition.name)
        if definition.values_at is not None and type_ not in (*_OF_MAPS, MapType.PROG_ARRAY):
            raise ElfError(f"map {definition.name!r}: `values` is for arrays of programs and maps of maps")
        return MapSpec(
            name=definition.name,
            type=type_,
            key=self._element(definition, "key"),
            value=self._element(definition, "value"),
            max_entries=numbers.get("max_entries", 0),
            flags=numbers.get("map_flags", 0),
            inner=definition.inner,
            # libbpf knows 0 and 1 (by name); Cilium's loader has further ones, which are by name too.
            pinned=numbers.get("pinning", 0) != 0,
            extra=numbers.get("map_extra", 0),
        )

    def _element(self, definition: _Definition, which: str) -> "MapSpecElement":
        """Key or value: its type, or only its size."""
        size = definition.numbers.get(which + "_size")
        if which not in definition.types:
            return Untyped(size or 0)
        type_id = definition.types[which]
        found = self._btf.size_of(type_id)
        if size is not None and size != found:
            raise ElfError(f"map {definition.name!r}: the {which}'s type has {found} bytes, `{which}_size` says {size}")
        return self._btf.value_type(type_id)

    def _inner(self, name: str, member: kinds.Member) -> MapSpec | None:
        array = self._btf.type(self._btf.strip(member.type_id))
        if not isinstance(array, kinds.Array) or array.count:
            raise ElfError(f"map {name!r}: `values` has to be an array without a size")
        inner = self._btf.type(self._btf.strip(self._pointed_to(name, member, array.type_id)))
        if isinstance(inner, kinds.FuncProto):
            return None
        if not isinstance(inner, kinds.Struct):
            raise ElfError(f"map {name!r}: `values` has to be an array of pointers to a map's struct or to functions")
        return self._spec(self._definition(f"{name}.inner", inner, inner=True))

    def _pointed_to(self, name: str, member: kinds.Member, type_id: int) -> int:
        pointer = self._btf.type(self._btf.strip(type_id))
        if not isinstance(pointer, kinds.Ptr):
            raise ElfError(f"map {name!r}: {member.name!r} has to be a pointer, as __uint, __type and __array make")
        return pointer.type_id

    def _number(self, name: str, member: kinds.Member) -> int:
        array = self._btf.type(self._pointed_to(name, member, member.type_id))
        if not isinstance(array, kinds.Array):
            raise ElfError(f"map {name!r}: {member.name!r} has to be a pointer to an array, as __uint makes")
        return array.count

    def _long_number(self, name: str, member: kinds.Member) -> int:
        record = self._btf.type(self._btf.strip(member.type_id))
        if not isinstance(record, kinds.Enum | kinds.Enum64):
            return self._number(name, member)
        if len(record.enumerators) != 1:
            raise ElfError(f"map {name!r}: {member.name!r} has to be an enum of one value, as __ulong makes")
        return record.enumerators[0].value & 0xFFFFFFFFFFFFFFFF


MapSpecElement = Type | Untyped


def section_variables(btf: Btf, name: str, offsets: dict[str, int]) -> Iterator[tuple[str, int, int, int]]:
    """The variables of an ELF section: name, offset, size in bytes, the id of the type.

    `offsets` has those of global variables, which clang leaves to a relocation (libbpf's btf_fixup_datasec).
    """
    try:
        section = btf.type(btf.find(name, Kind.DATASEC))
    except NotFoundError:
        raise ElfError(f"section {name!r} has no types in section '.BTF': compile with `-g`") from None
    if not isinstance(section, kinds.DataSec):
        raise BtfError(f"{name!r} is no section")
    for variable in section.variables:
        record = btf.type(variable.type_id)
        if not isinstance(record, kinds.Var):
            raise ElfError(f"section {name!r}: type {variable.type_id} in it is no variable")
        yield record.name, offsets.get(record.name, variable.offset), variable.size, record.type_id
