"""The container: what is no object is refused before anything of it is trusted."""

import struct

import pytest
from objects import example

from pybpfasm.interop import ElfError, ElfObject, read_elf, write_elf
from pybpfasm.interop.container import SHT_SYMTAB

DATA = write_elf(example())
SECTIONS_AT = struct.unpack_from("<Q", DATA, 40)[0]


def changed(offset: int, layout: str, value: int) -> bytes:
    """The example with a number replaced."""
    data = bytearray(DATA)
    struct.pack_into("<" + layout, data, offset, value)
    return bytes(data)


def header_of(name: str) -> int:
    """Where a section's header starts."""
    section = ElfObject.parse(DATA).section(name)
    assert section is not None
    return int(SECTIONS_AT + 64 * section.index)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "this is no ELF object"),
        (b"\x7fELF", "this is no ELF object"),
        (b"#!/bin/sh\n" * 10, "this is no ELF object"),
        (DATA[:50], "this is no ELF object"),
        (DATA[:-1], "the file has"),
        (DATA[: SECTIONS_AT - 8], "it is cut off"),
        (changed(4, "B", 1), "of 32 bits"),
        (changed(5, "B", 3), "this is no ELF object"),
        (changed(16, "H", 2), "of type ET_EXEC: a relocatable one is needed"),
        (changed(18, "H", 62), "an object for EM_X86_64, not for BPF: compile with `clang -target bpf`"),
        (changed(40, "Q", 1 << 62), "section headers are to end at byte"),
        (changed(58, "H", 40), "section headers of 40 bytes: they have 64"),
        (changed(60, "H", 0), "the object has no sections"),
        (changed(60, "H", 0xFFFF), "it is cut off"),
        (changed(62, "H", 999), "section 999 holds the names"),
        (changed(header_of(".maps"), "I", 1 << 20), "its name is at offset 1048576"),
        (changed(header_of(".maps") + 24, "Q", 1 << 40), "the file has"),
        (changed(header_of(".maps") + 32, "Q", 1 << 63), "the file has"),
        (changed(header_of(".maps") + 24, "Q", 65), "overlap"),
    ],
)
def test_what_is_no_object_is_refused(data: bytes, text: str) -> None:
    """The error says what is wrong, and where."""
    with pytest.raises(ElfError) as refused:
        ElfObject.parse(data)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (changed(header_of(".symtab") + 56, "Q", 16), "section '.symtab'.*in entries of 16, and they should have 24"),
        (changed(header_of(".symtab") + 32, "Q", 25), "section '.symtab': 25 bytes in entries of 24"),
        (changed(header_of(".symtab") + 40, "I", 99), "section '.symtab': its names are to be in section 99"),
        (changed(header_of(".relxdp") + 56, "Q", 24), "section '.relxdp'.*in entries of 24, and they should have 16"),
        (changed(header_of(".relxdp") + 4, "I", SHT_SYMTAB), "are both symbol tables"),
    ],
)
def test_strange_tables_are_refused(data: bytes, text: str) -> None:
    """Tables with entries of another size, and what they refer to, are checked when they are read."""
    with pytest.raises(ElfError, match=text):
        read_elf(data)


def test_a_symbol_has_to_lie_in_a_section() -> None:
    """A section's number that is not there is an error naming the symbol."""
    table = ElfObject.parse(DATA).section(".symtab")
    assert table is not None
    with pytest.raises(ElfError, match="symbol 1 is in section 200, and there are"):
        read_elf(changed(table.offset + 24 + 6, "H", 200))


def test_a_function_has_to_lie_in_its_section() -> None:
    """One that goes past the end is an error with its name and numbers."""
    elf = ElfObject.parse(DATA)
    table = elf.section(".symtab")
    assert table is not None
    first = next(symbol for symbol in elf.symbols if symbol.name == "first")
    with pytest.raises(ElfError, match="'first': 80000 bytes from offset 0 are no instructions of section 'xdp'"):
        read_elf(changed(table.offset + 24 * first.index + 16, "Q", 80000))


def test_values_are_plain() -> None:
    """Sections, symbols and relocations can be looked at, and say what is in the file."""
    elf = ElfObject.parse(DATA)
    xdp = elf.section("xdp")
    assert xdp is not None
    assert xdp.executable
    assert bytes(xdp.data) == DATA[xdp.offset : xdp.offset + xdp.size]
    assert elf.relocations(xdp)[0].symbol.name == "counts"
    assert {"first", "second", "callback"} - {symbol.name for symbol in elf.symbols} == {"callback"}
    assert (elf.license, elf.version, elf.needs_target, elf.kconfig_variables) == ("GPL", None, False, ())
    assert [str(each) for each in elf.programs] == [
        "function 'first' in section 'xdp'",
        "function 'second' in section 'xdp'",
    ]
