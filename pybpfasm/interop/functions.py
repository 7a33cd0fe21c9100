"""The functions of an object: which bytes of which section they are, and which of them are programs."""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

import attrs

from pybpfasm.interop.container import (
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STV_HIDDEN,
    STV_INTERNAL,
    ElfFile,
    Section,
    Symbol,
)
from pybpfasm.interop.error import ElfError
from pybpfasm.isa import EncodingError, Instruction, decode

SLOT_BYTES = 8

# Where a function starts: the number of its section, and the offset in bytes.
Place = tuple[int, int]


@attrs.frozen
class Function:
    """A function: `size` bytes from byte `offset` of a section. `local` ones are static in their source.

    The kernel verifies a global function on its own; one that is `hidden` counts as static there (libbpf does so too).
    """

    name: str
    section: str
    section_index: int
    offset: int
    size: int
    local: bool
    hidden: bool

    @property
    def place(self) -> Place:
        """Where it starts."""
        return self.section_index, self.offset

    def __str__(self) -> str:
        return f"function {self.name!r} in section {self.section!r}"


def functions(file: ElfFile) -> tuple[Function, ...]:
    """All functions, in the order of their places. Raises `ElfError` for one that goes past its section's end."""
    sections = {section.index: section for section in file.sections if section.executable}
    by_section: dict[int, list[Symbol]] = {index: [] for index in sections}
    for symbol in file.symbols:
        if symbol.section in by_section and symbol.name and symbol.type in (STT_FUNC, STT_NOTYPE):
            by_section[symbol.section].append(symbol)
    return tuple([each for index, symbols in by_section.items() for each in _in_section(sections[index], symbols)])


def _in_section(section: Section, symbols: list[Symbol]) -> Iterator[Function]:
    typed = [symbol for symbol in symbols if symbol.type == STT_FUNC]
    # Assembly without `.type`, and clang before 8, have no type; labels within functions are local.
    chosen = typed or [symbol for symbol in symbols if symbol.binding == STB_GLOBAL]
    starts = sorted({symbol.value for symbol in chosen} | {section.size})
    for symbol in sorted(chosen, key=lambda each: (each.value, each.binding == STB_LOCAL)):
        if symbol.value >= section.size:
            raise ElfError(f"symbol {symbol.name!r} is at offset {symbol.value}, past the end of {section.name!r}")
        size = symbol.size or starts[bisect_left(starts, symbol.value) + 1] - symbol.value
        if symbol.value % SLOT_BYTES or size % SLOT_BYTES or symbol.value + size > section.size:
            raise ElfError(
                f"symbol {symbol.name!r}: {size} bytes from offset {symbol.value} are no instructions of section"
                f" {section.name!r}, which has {section.size} bytes"
            )
        local = symbol.binding == STB_LOCAL
        hidden = symbol.visibility in (STV_HIDDEN, STV_INTERNAL)
        yield Function(symbol.name, section.name, section.index, symbol.value, size, local, hidden)


def programs(found: Iterable[Function], called: Callable[[], Container[Place]]) -> tuple[Function, ...]:
    """Those functions that are programs to load, not parts of others; `called` finds the places that others refer to.

    A program is outside of `.text`, and not a static function that is called. An object with nothing but `.text` has
    the global functions there for its programs.
    """
    found = tuple(found)
    outside = [each for each in found if each.section != ".text"]
    if not outside:
        return tuple([each for each in found if not each.local])
    if not any(each.local for each in outside):
        return tuple(outside)
    places = called()
    return tuple([each for each in outside if not each.local or each.place not in places])


class Code:
    """The instructions of a section, with the slots that they start at."""

    def __init__(self, section: Section, file: ElfFile) -> None:
        try:
            self.instructions: list[Instruction] = decode(bytes(section.data), file.byteorder)
        except EncodingError as error:
            raise ElfError(f"section {section.name!r}, {error}") from None
        self.starts: list[int] = []
        slot = 0
        for instruction in self.instructions:
            self.starts.append(slot)
            slot += instruction.slots
        self._section = section

    def index(self, slot: int) -> int:
        """The index of the instruction that starts at a slot."""
        index = bisect_left(self.starts, slot)
        if index == len(self.starts) or self.starts[index] != slot:
            raise ElfError(f"section {self._section.name!r}: no instruction starts at offset {slot * SLOT_BYTES}")
        return index

    def range(self, offset: int, size: int) -> range:
        """The indices of the instructions in `size` bytes from `offset`."""
        first = self.index(offset // SLOT_BYTES)
        end = bisect_left(self.starts, (offset + size) // SLOT_BYTES)
        if end < len(self.starts) and self.starts[end] != (offset + size) // SLOT_BYTES:
            raise ElfError(f"section {self._section.name!r}: an instruction crosses offset {offset + size}")
        return range(first, end)


def by_place(found: Iterable[Function]) -> Mapping[Place, Function]:
    """The functions by where they start; of two names for one, the first."""
    places: dict[Place, Function] = {}
    for each in found:
        places.setdefault(each.place, each)
    return places
