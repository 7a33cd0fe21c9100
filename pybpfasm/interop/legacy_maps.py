"""Maps as they were defined before BTF: structs of numbers in sections `maps` and `maps/…`, one a symbol.

word 0    1         2           3            4      then, by the size of the struct
+------+----------+------------+------------+-------+
| type | key size | value size | most       | flags | 20 bytes: nothing more (libbpf before 1.0)
|      |          |            | entries    |       | 28: inner map's number, NUMA node (the kernel's samples)
+------+----------+------------+------------+-------+ 36: id, pinning, inner map's id, its slot (iproute2)
                                                      280: pinning, a text (gobpf)
"""

import struct
from collections.abc import Mapping, Sequence

from pybpfasm.interop.container import STT_NOTYPE, STT_OBJECT, ElfFile, Section, Symbol
from pybpfasm.interop.error import ElfError
from pybpfasm.records import evolve, frozen
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import MapType

_WORDS = 5
_SAMPLES, _IPROUTE2, _GOBPF = 28, 36, 280
# Which word says what, behind the first five.
_INNER_NUMBER, _ID, _INNER_ID = 5, 5, 7
# A map of maps holds descriptors.
_DESCRIPTOR_BYTES = 4


@frozen
class _Definition:
    """A definition's numbers."""

    symbol: Symbol
    words: tuple[int, ...]
    size: int


def is_legacy_section(section: Section) -> bool:
    """The section has definitions of this form."""
    return section.name == "maps" or section.name.startswith("maps/")


def legacy_maps(file: ElfFile) -> list[tuple[int, int, MapSpec]]:
    """The maps of all such sections, with their sections' numbers and offsets, in that order. Raises `ElfError`."""
    sections = [section for section in file.sections if is_legacy_section(section)]
    symbols: dict[int, list[Symbol]] = {section.index: [] for section in sections}
    for symbol in file.symbols:
        if symbol.section in symbols and symbol.name and symbol.type in (STT_OBJECT, STT_NOTYPE):
            symbols[symbol.section].append(symbol)
    definitions = [each for section in sections for each in _definitions(file, section, symbols[section.index])]
    specs = [_spec(each) for each in definitions]
    by_id = {each.words[_ID]: spec for each, spec in zip(definitions, specs, strict=True) if each.size == _IPROUTE2}
    return [
        (each.symbol.section, each.symbol.value, _with_inner(each, spec, specs, by_id))
        for each, spec in zip(definitions, specs, strict=True)
    ]


def _definitions(file: ElfFile, section: Section, symbols: list[Symbol]) -> list[_Definition]:
    symbols = sorted(symbols, key=lambda each: each.value)
    ends = [symbol.value for symbol in symbols[1:]] + [section.size]
    return [_definition(file, section, symbol, end) for symbol, end in zip(symbols, ends, strict=False)]


def _definition(file: ElfFile, section: Section, symbol: Symbol, end: int) -> _Definition:
    size = symbol.size or end - symbol.value
    data = bytes(section.data[symbol.value : symbol.value + size])
    if len(data) < size or size < _WORDS * 4 or symbol.value + size > end:
        raise ElfError(
            f"map {symbol.name!r}: {size} bytes at offset {symbol.value} of section {section.name!r} are no definition"
            f" of a map: it has {_WORDS * 4} or more and its own place"
        )
    count = min(size // 4, _IPROUTE2 // 4)
    words = struct.unpack_from(f"{file.prefix}{count}I", data)
    if size not in (_SAMPLES, _IPROUTE2, _GOBPF) and any(data[_WORDS * 4 :]):
        raise ElfError(
            f"map {symbol.name!r}: a definition of {size} bytes is not known, and what is behind the first"
            f" {_WORDS * 4} is not zero: define it in section .maps, with BTF"
        )
    return _Definition(symbol, words, size)


def _spec(definition: _Definition) -> MapSpec:
    words, name = definition.words, definition.symbol.name
    pinning = {_IPROUTE2: 6, _GOBPF: 5}.get(definition.size)
    return MapSpec(
        name=name,
        type=map_type(words[0], name),
        key=Untyped(words[1]),
        value=Untyped(words[2]),
        max_entries=words[3],
        flags=words[4],
        pinned=pinning is not None and words[pinning] != 0,
    )


def map_type(number: int, name: str) -> MapType:
    """The type by its number; raises `ElfError` naming the map for one that is not known."""
    if number == MapType.UNSPEC:
        raise ElfError(f"map {name!r}: its definition lacks the type")
    try:
        return MapType(number)
    except ValueError:
        raise ElfError(f"map {name!r}: a map of type {number} is not known, {max(MapType).value} is the last") from None


def _with_inner(
    definition: _Definition, spec: MapSpec, by_number: Sequence[MapSpec], by_id: Mapping[int, MapSpec]
) -> MapSpec:
    """A map of maps with the shape of those in it, where the definition tells."""
    if spec.type not in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        return spec
    spec = evolve(spec, value=Untyped(_DESCRIPTOR_BYTES))
    inner = _inner(definition, spec, by_number, by_id)
    return spec if inner is None else evolve(spec, inner=evolve(inner, name=f"{spec.name}.inner"))


def _inner(
    definition: _Definition, spec: MapSpec, by_number: Sequence[MapSpec], by_id: Mapping[int, MapSpec]
) -> MapSpec | None:
    """The map that a definition gives as an example of those in it."""
    if definition.size == _SAMPLES:
        if definition.words[_INNER_NUMBER] >= len(by_number):
            number = definition.words[_INNER_NUMBER]
            raise ElfError(f"map {spec.name!r}: its inner map is to be number {number}: no map has it")
        return by_number[definition.words[_INNER_NUMBER]]
    if definition.size == _IPROUTE2 and definition.words[_INNER_ID]:
        if definition.words[_INNER_ID] not in by_id:
            raise ElfError(f"map {spec.name!r}: its inner map has id {definition.words[_INNER_ID]}, which no map has")
        return by_id[definition.words[_INNER_ID]]
    return None
