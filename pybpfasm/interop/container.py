"""The ELF container: header, sections, symbols, relocations (System V ABI, chapter 4). What is in them is not looked at
here.

    +--------+----------+----------+-----+------------------+
    | header | contents | contents | ... | section headers  |
    +--------+----------+----------+-----+------------------+

Everything is checked against the file's size before it is used, so that work and memory are linear in that size.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs
from elftools.common.exceptions import ELFError as ContainerError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

from pybpfasm.interop.error import ElfError
from pybpfasm.isa import ByteOrder

# Types of sections.
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 8, 9
# Flags of sections.
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
# Sections that a symbol may be in, other than a section's number.
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2
# Types and bindings of symbols.
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE = 0, 1, 2, 3, 4
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_DEFAULT, STV_INTERNAL, STV_HIDDEN = 0, 1, 2
# Types of relocations (llvm/BinaryFormat/ELFRelocs/BPF.def).
R_BPF_64_64, R_BPF_64_ABS64, R_BPF_64_32 = 1, 2, 10

EM_BPF = 247

HEADER_BYTES, SECTION_HEADER_BYTES, SYMBOL_BYTES = 64, 64, 24
_RELOCATION_BYTES = {SHT_REL: 16, SHT_RELA: 24}


@attrs.frozen
class Section:
    """A section. `data` is empty where `type` is NOBITS, for which `size` tells how many zero bytes there are."""

    index: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int
    data: memoryview = attrs.field(repr=False, eq=False)

    @property
    def executable(self) -> bool:
        """It holds instructions."""
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR) and self.size > 0


@attrs.frozen
class Symbol:
    """A symbol: `size` bytes from byte `value` of a section.

    `section` is its number, or SHN_UNDEF, SHN_ABS, SHN_COMMON.
    """

    index: int
    name: str
    value: int
    size: int
    type: int
    binding: int
    visibility: int
    section: int

    @property
    def weak(self) -> bool:
        """It may stay undefined."""
        return self.binding == STB_WEAK


@attrs.frozen
class Relocation:
    """A place of a section, in bytes from its start, that refers to a symbol.

    `addend` is 0 where the place itself holds it.
    """

    offset: int
    type: int
    symbol: Symbol
    addend: int


class ElfFile:
    """An ELF file of 64 bits for BPF, of either byte order. Raises `ElfError`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        try:
            self._parsed = ELFFile(io.BytesIO(data))
            self._header = self._parsed.header
        except _REFUSED as error:
            raise ElfError(f"this is no ELF object: {error}") from None
        _check_header(self._header, self._parsed.elfclass)

    @property
    def byteorder(self) -> ByteOrder:
        """The byte order of everything in the file."""
        return "little" if self._parsed.little_endian else "big"

    @property
    def prefix(self) -> str:
        """The byte order as `struct` writes it."""
        return "<" if self._parsed.little_endian else ">"

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All sections, in their order; the first is none."""
        headers = self._section_headers()
        _check_overlaps(headers, len(self.data))
        number = self._header["e_shstrndx"]
        if number >= len(headers):
            raise ElfError(f"the header says that section {number} holds the names, and there are {len(headers)}")
        names = StringTable(self._contents(headers[number]), "the sections' names")
        return tuple([self._section(index, header, names) for index, header in enumerate(headers)])

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols, in their order; empty for an object without a symbol table."""
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if len(tables) > 1:
            raise ElfError(f"sections {tables[0].index} and {tables[1].index} are both symbol tables: one is possible")
        return tuple(self._symbols(tables[0])) if tables else ()

    def relocations(self, index: int) -> tuple[Relocation, ...]:
        """The relocations of the section with this number, in the order of their offsets."""
        found = [each for table in self._relocation_tables.get(index, ()) for each in self._relocations(table)]
        return tuple(sorted(found, key=lambda each: each.offset))

    @cached_property
    def _relocation_tables(self) -> Mapping[int, list[Section]]:
        tables: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type in _RELOCATION_BYTES:
                tables.setdefault(section.info, []).append(section)
        return tables

    def _section_headers(self) -> list[Any]:
        start, count, size = (self._header[name] for name in ("e_shoff", "e_shnum", "e_shentsize"))
        if count == 0:
            raise ElfError("the object has no sections")
        if size != SECTION_HEADER_BYTES:
            raise ElfError(f"section headers of {size} bytes: they have {SECTION_HEADER_BYTES}")
        if start + count * size > len(self.data):
            raise ElfError(
                f"offset {start}: {count} section headers are to end at byte {start + count * size},"
                f" the file has {len(self.data)}: it is cut off"
            )
        return [self._section_header(start + index * size) for index in range(count)]

    def _section_header(self, offset: int) -> Any:
        try:
            return struct_parse(self._parsed.structs.Elf_Shdr, io.BytesIO(self.data[offset : offset + 64]))
        except _REFUSED as error:
            raise ElfError(f"offset {offset}: no section header: {error}") from None

    def _section(self, index: int, header: Any, names: "StringTable") -> Section:
        return Section(
            index=index,
            name=names.at(header["sh_name"], f"section {index}"),
            type=_section_type(header),
            flags=header["sh_flags"],
            offset=header["sh_offset"],
            size=header["sh_size"],
            link=header["sh_link"],
            info=header["sh_info"],
            entry_size=header["sh_entsize"],
            data=self._contents(header),
        )

    def _contents(self, header: Any) -> memoryview:
        if _section_type(header) in (SHT_NOBITS, 0):
            return memoryview(b"")
        return memoryview(self.data)[header["sh_offset"] : header["sh_offset"] + header["sh_size"]]

    def _symbols(self, table: Section) -> Iterator[Symbol]:
        _check_entries(table, SYMBOL_BYTES)
        if table.link >= len(self.sections):
            raise ElfError(f"section {table.name!r}: its names are to be in section {table.link}, which is not there")
        names = StringTable(self.sections[table.link].data, "the symbols' names")
        count = len(self.sections)
        for index, fields in enumerate(struct.iter_unpack(self.prefix + "IBBHQQ", table.data)):
            name, info, other, section, value, size = fields
            if count <= section < SHN_LORESERVE:
                raise ElfError(f"symbol {index} is in section {section}, and there are {count}")
            text = names.at(name, f"symbol {index}")
            yield Symbol(index, text, value, size, info & 15, info >> 4, other & 3, section)

    def _relocations(self, table: Section) -> Iterator[Relocation]:
        _check_entries(table, _RELOCATION_BYTES[table.type])
        symbols = self.symbols
        layout = self.prefix + ("QQ" if table.type == SHT_REL else "QQq")
        for offset, info, *addend in struct.iter_unpack(layout, table.data):
            number = info >> 32
            if number >= len(symbols):
                raise ElfError(f"section {table.name!r}: a relocation refers to symbol {number}, which is not there")
            yield Relocation(offset, info & 0xFFFFFFFF, symbols[number], addend[0] if addend else 0)


class StringTable:
    """Texts that end with a zero byte, by their offsets."""

    def __init__(self, data: memoryview, what: str) -> None:
        self._data = bytes(data)
        self._what = what
        self._known: dict[int, str] = {}
        # Long names that all end at one place cost their length each: no more than this in all.
        self._budget = 64 * len(self._data) + 4096

    def at(self, offset: int, user: str) -> str:
        """The text at `offset`; `user` is what has it, for the error."""
        if offset in self._known:
            return self._known[offset]
        end = self._data.find(b"\0", offset)
        if offset > len(self._data) or (end < 0 and self._data):
            raise ElfError(f"{user}: its name is at offset {offset} of {self._what}, where none is")
        self._budget -= max(end - offset, 0)
        if self._budget < 0:
            raise ElfError(f"{user}: {self._what} overlap over and over: this is not made by a compiler")
        text = self._data[offset : max(end, 0)].decode(errors="surrogateescape")
        self._known[offset] = text
        return text


# What pyelftools raises for a file that is none; the last three come from its inner parts.
_REFUSED = (ContainerError, ValueError, KeyError, UnicodeError, AttributeError)


def _check_header(header: Any, bits: int) -> None:
    if bits != 64:
        raise ElfError(f"an ELF object of {bits} bits: BPF objects have 64")
    # LLVM 3.8 had no number for BPF yet, and left 0.
    if header["e_machine"] not in ("EM_BPF", "EM_NONE"):
        raise ElfError(f"an object for {header['e_machine']}, not for BPF: compile with `clang -target bpf`")
    if header["e_type"] != "ET_REL":
        raise ElfError(f"an object of type {header['e_type']}: a relocatable one is needed, as `clang -c` makes")


def _section_type(header: Any) -> int:
    """The number of a section's type, which pyelftools tells by name if it knows one."""
    found = header["sh_type"]
    return found if isinstance(found, int) else _TYPES.get(found, -1)


_TYPES = {
    "SHT_NULL": 0,
    "SHT_PROGBITS": SHT_PROGBITS,
    "SHT_SYMTAB": SHT_SYMTAB,
    "SHT_STRTAB": SHT_STRTAB,
    "SHT_RELA": SHT_RELA,
    "SHT_NOBITS": SHT_NOBITS,
    "SHT_REL": SHT_REL,
}


def _check_overlaps(headers: list[Any], end: int) -> None:
    """No byte of the file is in two sections: else a small file could have contents of any size."""
    ranges = sorted(
        [
            (header["sh_offset"], header["sh_offset"] + header["sh_size"], index)
            for index, header in enumerate(headers)
            if _section_type(header) not in (SHT_NOBITS, 0) and header["sh_size"]
        ]
    )
    last, before = 0, 0
    for start, stop, index in ranges:
        if stop > end:
            raise ElfError(f"section {index} is to end at byte {stop}, the file has {end}: it is cut off")
        if start < last:
            raise ElfError(f"sections {before} and {index} overlap at byte {start}")
        last, before = stop, index


def _check_entries(table: Section, size: int) -> None:
    if table.entry_size != size or table.size % size:
        raise ElfError(
            f"section {table.name!r}: {table.size} bytes in entries of {table.entry_size}, and they should have {size}"
        )
