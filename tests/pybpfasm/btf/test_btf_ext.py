"""The section .BTF.ext: every table, in both byte orders, and as clang writes it."""

import struct
from collections.abc import Callable

import pytest

from pybpfasm.btf import (
    Btf,
    BtfError,
    ByteOrder,
    CoreRelocation,
    CoreRelocationKind,
    Ext,
    FuncInfo,
    LineInfo,
    SectionFuncInfo,
    SectionLineInfo,
    SectionRelocations,
    kinds,
)

FUNCS = SectionFuncInfo(1, (FuncInfo(0, 3), FuncInfo(24, 4)))
LINES = SectionLineInfo(1, (LineInfo(0, 9, 17, 1, 2), LineInfo(8, 9, 30, (1 << 22) - 1, 1023)))
MOVES = SectionRelocations(1, (CoreRelocation(16, 5, 40, CoreRelocationKind.FIELD_BYTE_OFFSET),))
WORDS = {
    "func_info": [8, 1, 2, 0, 3, 24, 4],
    "line_info": [16, 1, 2, 0, 9, 17, 1 << 10 | 2, 8, 9, 30, 0xFFFFFFFF],
    "core_relo": [16, 1, 1, 16, 5, 40, 0],
}


def section(byteorder: ByteOrder, *tables: list[int]) -> bytes:
    """A section made here, byte by byte."""
    places: list[int] = []
    words: list[int] = []
    for table in tables:
        places += [len(words) * 4, len(table) * 4]
        words += table
    prefix = "<" if byteorder == "little" else ">"
    size = 8 + len(places) * 4
    return struct.pack(f"{prefix}HBBI{len(places)}I{len(words)}I", 0xEB9F, 1, 0, size, *places, *words)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize(
    ("ext", "tables"),
    [
        (Ext((FUNCS,), (LINES,), (MOVES,)), list(WORDS.values())),
        (Ext((FUNCS,), (LINES,)), [WORDS["func_info"], WORDS["line_info"], []]),
        (Ext(), [[], [], []]),
        (Ext((FUNCS, FUNCS)), [[*WORDS["func_info"], *WORDS["func_info"][1:]], [], []]),
    ],
)
def test_the_tables_are_their_words(ext: Ext, tables: list[list[int]], byteorder: ByteOrder) -> None:
    """What is written are these bytes, and reading them gives the tables."""
    data = section(byteorder, *tables)
    assert ext.encode(byteorder) == data
    assert Ext.parse(data) == ext


def test_an_old_header_has_no_relocations() -> None:
    """Objects from before CO-RE have a header of 24 bytes."""
    data = section("little", WORDS["func_info"], WORDS["line_info"])
    assert Ext.parse(data) == Ext((FUNCS,), (LINES,))


def test_longer_records_are_read() -> None:
    """A record that grew is read as far as it is known; what else the header holds does not matter."""
    long = [12, 1, 2, 0, 3, 99, 24, 4, 99]
    assert Ext.parse(section("little", long, [16], [], [])).func_info == (FUNCS,)


@pytest.mark.parametrize(
    ("data", "offset", "text"),
    [
        (b"", 0, "nothing is not the magic number"),
        (b"\x9f\xeb\1\0", 4, "the section ends here, its header has 24 bytes"),
        (struct.pack("<HBBI4I", 0xEB9F, 3, 0, 24, 0, 0, 0, 0), 2, "version 3"),
        (struct.pack("<HBBI4I", 0xEB9F, 1, 0, 28, 0, 0, 0, 0), 4, "a header of 28 bytes, in a section of 24"),
        (struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, 4, 0, 0), 8, "the table is to end at byte 28"),
        (section("little", [4]), 24, "the section ends here"),
        (section("little", [4], []), 24, "records of 4 bytes: they have 8 or more"),
        (section("little", [9], []), 24, "records of 9 bytes"),
        (section("little", [8], [12]), 28, "records of 12 bytes: they have 16 or more"),
        (section("little", [8, 1], []), 32, "the table ends at byte 32, within a number"),
        (section("little", [8, 1, 1, 0], []), 32, "1 records of 8 bytes go past the table's end at byte 40"),
        (section("little", [8, 1, 0xFFFFFFFF], []), 32, "4294967295 records of 8 bytes go past"),
        (section("little", [8], [16], [16, 1, 1, 0, 1, 1, 13]), 64, "a relocation of kind 13 is not known"),
    ],
)
def test_what_is_no_section_is_refused(data: bytes, offset: int, text: str) -> None:
    """The error names the byte where the trouble is."""
    with pytest.raises(BtfError) as caught:
        Ext.parse(data)
    assert caught.value.offset == offset or "ends here" in text
    assert text in str(caught.value)
    assert str(caught.value).startswith("BTF.ext, byte ")


@pytest.mark.parametrize(
    "ext",
    [
        Ext((SectionFuncInfo(1, (FuncInfo(-1, 1),)),)),
        Ext((), (SectionLineInfo(1, (LineInfo(0, 1, 1, 1 << 22, 0),)),)),
        Ext((), (SectionLineInfo(1, (LineInfo(0, 1, 1, 1, 1024),)),)),
    ],
    ids=["offset", "line", "column"],
)
def test_what_does_not_fit_is_refused(ext: Ext) -> None:
    """A number that has no place in its field is an error, not another number."""
    with pytest.raises(BtfError, match=r"^BTF.ext: "):
        ext.encode()


PROGRAM = """
struct task_struct { int pid; int tgid; } __attribute__((preserve_access_index));
__attribute__((section("kprobe/f"), used)) int probe(struct task_struct *task)
{
    return task->tgid + __builtin_preserve_type_info(*task, 0);
}
"""


def test_what_clang_writes_is_read(sections: Callable[[str], tuple[bytes, bytes]]) -> None:
    """Functions, lines and relocations of a program; written again, they are the same bytes."""
    types, ext = sections(PROGRAM)
    read, tables = Btf.parse(types), Ext.parse(ext)
    assert tables.encode() == ext
    (functions,) = tables.func_info
    assert read.string(functions.name_offset) == "kprobe/f"
    assert read.name(functions.records[0].type_id) == "probe"
    lines = [record.line for record in tables.line_info[0].records]
    assert set(lines) >= {5}
    assert "task->tgid" in read.string(tables.line_info[0].records[0].line_text_offset)
    kinds_met = {record.kind for record in tables.core_relocations[0].records}
    assert kinds_met == {CoreRelocationKind.FIELD_BYTE_OFFSET, CoreRelocationKind.TYPE_EXISTS}
    (field,) = [r for r in tables.core_relocations[0].records if r.kind == CoreRelocationKind.FIELD_BYTE_OFFSET]
    assert (read.string(field.access_offset), read.name(field.type_id)) == ("0:1", "task_struct")
    assert isinstance(read.type(functions.records[0].type_id), kinds.Func)
