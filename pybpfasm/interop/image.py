"""The ELF file as it is written: sections, symbols and relocations are collected, then laid out in a fixed order."""

import struct

import attrs

from pybpfasm.interop.container import (
    EM_BPF,
    HEADER_BYTES,
    SECTION_HEADER_BYTES,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_SECTION,
    SYMBOL_BYTES,
)
from pybpfasm.interop.error import ElfError
from pybpfasm.isa import ByteOrder

_ALIGNMENT = 8
_RELOCATION_BYTES = 16
# Fields of the file's header that are the same in every object: 64 bits, version 1, relocatable.
_CLASS_64, _VERSION, _RELOCATABLE = 2, 1, 1
_DATA = {"little": 1, "big": 2}


@attrs.define(eq=False)
class SectionImage:
    """A section to write. `size` counts where there are no bytes in the file (NOBITS)."""

    name: str
    flags: int = 0
    type: int = SHT_PROGBITS
    data: bytearray = attrs.field(factory=bytearray)
    size: int = 0
    relocations: list[tuple[int, int, "SymbolImage"]] = attrs.field(factory=list)

    def append(self, data: bytes) -> int:
        """Add bytes behind what is there, aligned; the offset at which they are."""
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        start = len(self.data)
        self.data += data
        return start

    def relocate(self, offset: int, type_: int, symbol: "SymbolImage") -> None:
        """Have the place at `offset` refer to a symbol."""
        self.relocations.append((offset, type_, symbol))


@attrs.define(eq=False)
class SymbolImage:
    """A symbol to write; `section` is None for one that the object does not have itself."""

    name: str
    section: SectionImage | None
    type: int
    binding: int = STB_GLOBAL
    value: int = 0
    size: int = 0


class Image:
    """Collects what goes into an object."""

    def __init__(self, byteorder: ByteOrder) -> None:
        self.byteorder: ByteOrder = byteorder
        self._prefix = "<" if byteorder == "little" else ">"
        self._sections: list[SectionImage] = []
        self._by_name: dict[str, SectionImage] = {}
        self._symbols: list[SymbolImage] = []
        self._section_symbols: dict[str, SymbolImage] = {}
        self._strings = _Strings()

    def section(self, name: str, flags: int = 0, type_: int = SHT_PROGBITS) -> SectionImage:
        """The section of that name, made if there is none yet."""
        section = self._by_name.get(name)
        if section is None:
            section = self._by_name[name] = SectionImage(name, flags, type_)
            self._sections.append(section)
        elif (section.flags, section.type) != (flags, type_):
            raise ElfError(f"section {name!r} is wanted for two things: give a program or map another name")
        return section

    def symbol(self, symbol: SymbolImage) -> SymbolImage:
        """Add a symbol."""
        self._symbols.append(symbol)
        return symbol

    def section_symbol(self, section: SectionImage) -> SymbolImage:
        """The symbol that stands for a section's start."""
        if section.name not in self._section_symbols:
            made = SymbolImage("", section, STT_SECTION, STB_LOCAL)
            self._section_symbols[section.name] = self.symbol(made)
        return self._section_symbols[section.name]

    def encode(self) -> bytes:
        """The file. Raises `ElfError` for a name or number that does not fit."""
        try:
            return self._encode()
        except (struct.error, UnicodeEncodeError, OverflowError) as error:
            raise ElfError(f"the object cannot be written: {error}") from None

    def _encode(self) -> bytes:
        # Locals come first; apart from that the order is the one in which they were added.
        symbols = sorted(self._symbols, key=lambda each: each.binding != STB_LOCAL)
        numbers = {id(symbol): number for number, symbol in enumerate(symbols, start=1)}
        indices = {id(section): index for index, section in enumerate(self._sections, start=1)}
        with_relocations = [section for section in self._sections if section.relocations]
        table_index = len(self._sections) + len(with_relocations) + 1
        headers = [bytes(SECTION_HEADER_BYTES)]
        body = bytearray(HEADER_BYTES)
        for section in self._sections:
            headers.append(self._placed(body, section))
        for section in with_relocations:
            data = self._relocations(section, numbers)
            name = ".rel" + section.name
            headers.append(
                self._header(body, name, SHT_REL, data, table_index, indices[id(section)], _RELOCATION_BYTES)
            )
        locals_ = sum(symbol.binding == STB_LOCAL for symbol in symbols) + 1
        table = bytes(SYMBOL_BYTES) + b"".join([self._symbol(symbol, indices) for symbol in symbols])
        headers.append(self._header(body, ".symtab", SHT_SYMTAB, table, table_index + 1, locals_, SYMBOL_BYTES))
        self._strings.offset(".strtab")
        headers.append(self._header(body, ".strtab", SHT_STRTAB, self._strings.encode(), 0, 0, 0))
        body += bytes(-len(body) % _ALIGNMENT)
        body[:HEADER_BYTES] = self._file_header(len(body), len(headers))
        return bytes(body) + b"".join(headers)

    def _file_header(self, sections_at: int, count: int) -> bytes:
        ident = b"\x7fELF" + bytes([_CLASS_64, _DATA[self.byteorder], _VERSION]) + bytes(9)
        fields = (_RELOCATABLE, EM_BPF, _VERSION, 0, 0, sections_at, 0, HEADER_BYTES, 0, 0, SECTION_HEADER_BYTES)
        return ident + struct.pack(self._prefix + "HHIQQQIHHHHHH", *fields, count, count - 1)

    def _placed(self, body: bytearray, section: SectionImage) -> bytes:
        if section.type != SHT_NOBITS:
            return self._header(body, section.name, section.type, bytes(section.data), 0, 0, 0, section.flags)
        name = self._strings.offset(section.name)
        fields = (name, section.type, section.flags, 0, len(body), section.size, 0, 0, _ALIGNMENT, 0)
        return struct.pack(self._prefix + "IIQQQQIIQQ", *fields)

    def _header(
        self, body: bytearray, name: str, type_: int, data: bytes, link: int, info: int, entry: int, flags: int = 0
    ) -> bytes:
        """Append a section's contents; its header."""
        body += bytes(-len(body) % _ALIGNMENT)
        start = len(body)
        body += data
        alignment = 1 if type_ == SHT_STRTAB else _ALIGNMENT
        fields = (self._strings.offset(name), type_, flags, 0, start, len(data), link, info, alignment, entry)
        return struct.pack(self._prefix + "IIQQQQIIQQ", *fields)

    def _relocations(self, section: SectionImage, numbers: dict[int, int]) -> bytes:
        pack = struct.Struct(self._prefix + "QQ").pack
        return b"".join(
            [pack(offset, numbers[id(symbol)] << 32 | type_) for offset, type_, symbol in section.relocations]
        )

    def _symbol(self, symbol: SymbolImage, indices: dict[int, int]) -> bytes:
        section = indices[id(symbol.section)] if symbol.section is not None else SHN_UNDEF
        info = symbol.binding << 4 | symbol.type
        name = self._strings.offset(symbol.name)
        return struct.pack(self._prefix + "IBBHQQ", name, info, 0, section, symbol.value, symbol.size)


class _Strings:
    """The string table: each text once."""

    def __init__(self) -> None:
        self._data = bytearray(b"\0")
        self._offsets = {"": 0}

    def offset(self, text: str) -> int:
        if text not in self._offsets:
            encoded = text.encode(errors="surrogateescape")
            if 0 in encoded:
                raise ElfError(f"name {text!r} has a zero character, which ends a name")
            self._offsets[text] = len(self._data)
            self._data += encoded + b"\0"
        return self._offsets[text]

    def encode(self) -> bytes:
        return bytes(self._data)
