"""One table: each kind of record, and the words that stand for it, in both byte orders."""

import struct

import pytest

from pybpfasm.btf import Btf, BtfBuilder, BtfError, ByteOrder, Kind, Linkage, kinds

# A record, its words with names as offsets into the strings, the strings.
TABLE: list[tuple[kinds.Record, list[int], bytes]] = [
    (kinds.Int("int", 4, 32, signed=True), [1, 1 << 24, 4, 0x01000020], b"\0int\0"),
    (kinds.Int("char", 1, 8, char=True), [1, 1 << 24, 1, 0x02000008], b"\0char\0"),
    (kinds.Int("_Bool", 1, 8, boolean=True), [1, 1 << 24, 1, 0x04000008], b"\0_Bool\0"),
    (kinds.Int("int", 4, 3, offset=5), [1, 1 << 24, 4, 0x00050003], b"\0int\0"),
    (kinds.Ptr(7), [0, 2 << 24, 7], b"\0"),
    (kinds.Array(1, 2, 9), [0, 3 << 24, 0, 1, 2, 9], b"\0"),
    (kinds.Struct("none", 0), [1, 4 << 24, 0], b"\0none\0"),
    (
        kinds.Struct("s", 8, (kinds.Member("a", 1, 0), kinds.Member("b", 2, 32))),
        [1, 4 << 24 | 2, 8, 3, 1, 0, 5, 2, 32],
        b"\0s\0a\0b\0",
    ),
    (
        kinds.Struct("s", 4, (kinds.Member("a", 1, 0, 3), kinds.Member("", 1, 8)), kind_flag=True),
        [1, 0x84000002, 4, 3, 1, 0x03000000, 0, 1, 8],
        b"\0s\0a\0",
    ),
    (kinds.Union("u", 4, (kinds.Member("a", 1, 0),)), [1, 5 << 24 | 1, 4, 3, 1, 0], b"\0u\0a\0"),
    (
        kinds.Enum("e", 4, (kinds.Enumerator("A", 0xFFFFFFFF),)),
        [1, 6 << 24 | 1, 4, 3, 0xFFFFFFFF],
        b"\0e\0A\0",
    ),
    (
        kinds.Enum("e", 4, (kinds.Enumerator("A", -1),), signed=True),
        [1, 0x86000001, 4, 3, 0xFFFFFFFF],
        b"\0e\0A\0",
    ),
    (kinds.Fwd("f"), [1, 7 << 24, 0], b"\0f\0"),
    (kinds.Fwd("f", union=True), [1, 0x87000000, 0], b"\0f\0"),
    (kinds.Typedef("t", 3), [1, 8 << 24, 3], b"\0t\0"),
    (kinds.Volatile(3), [0, 9 << 24, 3], b"\0"),
    (kinds.Const(0), [0, 10 << 24, 0], b"\0"),
    (kinds.Restrict(3), [0, 11 << 24, 3], b"\0"),
    (kinds.Func("f", 3, Linkage.EXTERN), [1, 12 << 24 | 2, 3], b"\0f\0"),
    (
        kinds.FuncProto(3, (kinds.Parameter("x", 1), kinds.Parameter("", 0))),
        [0, 13 << 24 | 2, 3, 1, 1, 0, 0],
        b"\0x\0",
    ),
    (kinds.Var("v", 3, Linkage.GLOBAL), [1, 14 << 24, 3, 1], b"\0v\0"),
    (kinds.DataSec(".bss", 8, (kinds.SectionVariable(1, 4, 4),)), [1, 15 << 24 | 1, 8, 1, 4, 4], b"\0.bss\0"),
    (kinds.Float("double", 8), [1, 16 << 24, 8], b"\0double\0"),
    (kinds.DeclTag("d", 3), [1, 17 << 24, 3, 0xFFFFFFFF], b"\0d\0"),
    (kinds.DeclTag("d", 3, 2, attribute=True), [1, 0x91000000, 3, 2], b"\0d\0"),
    (kinds.TypeTag("user", 3), [1, 18 << 24, 3], b"\0user\0"),
    (kinds.TypeTag("user", 3, attribute=True), [1, 0x92000000, 3], b"\0user\0"),
    (
        kinds.Enum64("e", 8, (kinds.Enumerator("A", 0x1_0000_0002),)),
        [1, 19 << 24 | 1, 8, 3, 2, 1],
        b"\0e\0A\0",
    ),
    (
        kinds.Enum64("e", 8, (kinds.Enumerator("A", -2),), signed=True),
        [1, 0x93000001, 8, 3, 0xFFFFFFFE, 0xFFFFFFFF],
        b"\0e\0A\0",
    ),
]

ORDERS: list[ByteOrder] = ["little", "big"]


def blob(words: list[int], strings: bytes, byteorder: ByteOrder) -> bytes:
    """A blob made here, byte by byte."""
    prefix = "<" if byteorder == "little" else ">"
    header = struct.pack(prefix + "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(words) * 4, len(words) * 4, len(strings))
    return header + struct.pack(f"{prefix}{len(words)}I", *words) + strings


def test_the_table_has_every_kind() -> None:
    """No kind is left out of the table."""
    assert {record.kind for record, _, _ in TABLE} == set(Kind) - {Kind.VOID}


@pytest.mark.parametrize("byteorder", ORDERS)
@pytest.mark.parametrize(("record", "words", "strings"), TABLE, ids=str)
def test_a_record_is_its_words(record: kinds.Record, words: list[int], strings: bytes, byteorder: ByteOrder) -> None:
    """The builder writes these bytes, and reading them gives the record."""
    builder = BtfBuilder()
    assert builder.add(record) == 1
    data = builder.encode(byteorder)
    assert data == blob(words, strings, byteorder)
    read = Btf.parse(data)
    assert read.byteorder == byteorder
    assert read.type(1) == record
    assert read.encode() == data
    assert read.kind(1) == record.kind


@pytest.mark.parametrize(("record", "words", "strings"), TABLE, ids=str)
def test_a_blob_changes_its_byte_order(record: kinds.Record, words: list[int], strings: bytes) -> None:
    """The other byte order, and back, without decoding."""
    little, big = blob(words, strings, "little"), blob(words, strings, "big")
    assert Btf.parse(little).encode("big") == big
    assert Btf.parse(big).encode("little") == little


@pytest.mark.parametrize(
    ("words", "offset", "text"),
    [
        ([0, 20 << 24, 0], 24, "kind 20 is not known, and no layout section"),
        ([0, 0, 0], 24, "kind 0 is not known"),
        ([0, 2 << 24], 24, "type 1 goes past the end of the types"),
        ([0, 4 << 24 | 1, 4, 0, 1], 24, "type 1 goes past the end of the types"),
        ([0, 2 << 24, 0, 0, 13 << 24 | 0xFFFFFF, 0], 36, "type 2 goes past the end of the types"),
        ([1, 2 << 24, 1], 24, "a name at a PTR, which has none"),
        ([0, 2 << 24 | 1, 1], 24, "a count at a PTR, which has none"),
        ([0, 0x82000000, 1], 24, "a kind flag at a PTR, which has none"),
        ([0, 3 << 24, 1, 1, 1, 1], 24, "a size at a ARRAY, which has none"),
        ([1, 1 << 24, 4, 0x10000020], 36, "integer encoding 0x10000020 has bits that are not known"),
        ([1, 12 << 24 | 3, 1], 24, "linkage 3 is not known"),
        ([1, 14 << 24, 1, 3], 24, "linkage 3 is not known"),
        ([1, 17 << 24, 1, 0xFFFFFFFE], 24, "component -2 of a declaration"),
        ([9, 8 << 24, 1], 24, "no name: BTF: string 9 is outside of the strings, which end at 3"),
        ([1, 4 << 24 | 1, 4, 9, 1, 0], 36, "no name: BTF: string 9 is outside of the strings"),
    ],
)
def test_what_is_no_record_is_refused(words: list[int], offset: int, text: str) -> None:
    """The error names the byte where the trouble is."""
    read = Btf.parse(blob(words, b"\0a\0", "little"))
    with pytest.raises(BtfError) as caught:
        list(read)
    assert caught.value.offset == offset
    assert str(caught.value).startswith(f"BTF, byte {offset}: {text}")
