"""Questions to a blob: ids, names, sizes, split blobs, headers that are none."""

import pickle
import struct
from collections.abc import Callable

import pytest

from pybpfasm.btf import Btf, BtfBuilder, BtfError, Int, Kind, NotFoundError, Pointer, Struct, kernel_btf, kinds
from pybpfasm.errors import BpfError

HEADER = struct.Struct("<HBBIIIII")


def built(*records: kinds.Record) -> Btf:
    """A blob of these records, with ids from 1."""
    builder = BtfBuilder()
    for record in records:
        builder.add(record)
    return Btf.parse(builder.encode())


INT = kinds.Int("int", 4, 32, signed=True)
CHAR = kinds.Int("char", 1, 8)


@pytest.mark.parametrize(
    ("data", "offset", "text"),
    [
        (b"", 0, "nothing is not the magic number 0xeb9f"),
        (b"\x7fELF", 0, "7f 45 is not the magic number"),
        (b"\x9f\xeb\x01", 3, "the blob ends here, the header has 24 bytes"),
        (HEADER.pack(0xEB9F, 2, 0, 24, 0, 0, 0, 0), 2, "version 2 with flags 0x0 is not known"),
        (HEADER.pack(0xEB9F, 1, 1, 24, 0, 0, 0, 0), 2, "version 1 with flags 0x1 is not known"),
        (HEADER.pack(0xEB9F, 1, 0, 20, 0, 0, 0, 0), 4, "a header of 20 bytes"),
        (HEADER.pack(0xEB9F, 1, 0, 25, 0, 0, 0, 0), 4, "a header of 25 bytes, in a blob of 24"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 4, 0, 0), 8, "the section of types is to end at byte 28, the blob has 24"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 0, 1 << 31, 1), 16, "the section of strings is to end at byte"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 3, 0, 0) + b"abc", 12, "has 3 bytes, which is no multiple of 4"),
        (HEADER.pack(0xEB9F, 1, 0, 24, 0, 0, 0, 2) + b"\0a", 25, "the last string is not ended by a zero byte"),
    ],
)
def test_what_is_no_blob_is_refused(data: bytes, offset: int, text: str) -> None:
    """The error names the byte, and is a ValueError too."""
    with pytest.raises(BtfError) as caught:
        Btf.parse(data)
    assert str(caught.value).startswith(f"BTF, byte {offset}: ")
    assert text in str(caught.value)
    assert isinstance(caught.value, BpfError)
    assert isinstance(caught.value, ValueError)


def test_types_have_ids_from_one() -> None:
    """Length, iteration and access by id agree; 0 is void."""
    read = built(INT, kinds.Ptr(1), kinds.Const(2))
    assert len(read) == 3
    assert list(read) == [(1, INT), (2, kinds.Ptr(1)), (3, kinds.Const(2))]
    assert read.type(0) == kinds.Void()
    assert (read.name(0), read.name(1), read.name(2)) == ("", "int", "")
    assert (read.kind(0), read.kind(3)) == (Kind.VOID, Kind.CONST)


@pytest.mark.parametrize("wrong", [-1, 4, 1 << 40])
@pytest.mark.parametrize(
    "method", [Btf.type, Btf.kind, Btf.name, Btf.size_of, Btf.alignment_of, Btf.strip, Btf.value_type]
)
def test_an_id_that_is_none_is_refused(method: Callable[[Btf, int], object], wrong: int) -> None:
    """Each method says which id does not exist."""
    with pytest.raises(BtfError, match=f"there is no type {wrong}, the last is 3"):
        method(built(INT, kinds.Ptr(1), kinds.Const(2)), wrong)


def test_many_types_keep_their_ids() -> None:
    """Ids are right on both sides of the marks that the reader sets every 16 types, asked in any order."""
    records = [kinds.Typedef(f"t{number}", number) if number % 3 else kinds.Ptr(number) for number in range(100)]
    for wanted in (99, 15, 16, 17, 0, 31, 32, 98, 50):
        fresh = built(*records)
        assert fresh.type(wanted + 1) == records[wanted]
        if wanted % 3:
            assert built(*records).find(f"t{wanted}") == wanted + 1
    assert [record for _, record in built(*records)] == records


def test_names_are_found_by_kind() -> None:
    """The lowest id of a name, among the kinds that are asked for."""
    read = built(INT, kinds.Fwd("s"), kinds.Typedef("s", 1), kinds.Struct("s", 0), kinds.Struct("s", 4))
    assert read.find("s") == 2
    assert read.find("s", Kind.STRUCT) == 4
    assert read.find("s", Kind.STRUCT, Kind.TYPEDEF) == 3
    assert read.find_all("s") == [2, 3, 4, 5]
    assert read.find_all("s", Kind.STRUCT) == [4, 5]
    assert read.find_all("t") == []


@pytest.mark.parametrize("name", ["t", "in", "nt", "", "a\0b", "\udc80"])
def test_a_name_that_is_none_is_not_found(name: str) -> None:
    """Neither part of a name nor odd text is taken for one."""
    with pytest.raises(NotFoundError, match="there is no STRUCT or UNION "):
        built(INT).find(name, Kind.STRUCT, Kind.UNION)
    with pytest.raises(LookupError):
        built(INT).find(name)


def test_a_member_that_looks_like_a_record_is_not_found() -> None:
    """A member's words may be those of a record's start: only real records are found."""
    name = 1  # the offset of "a" in the strings
    record = kinds.Struct("", 4, (kinds.Member("", name, 0, 4), kinds.Member("", 0, 0)), kind_flag=True)
    builder = BtfBuilder()
    assert builder.string_offset("a") == name
    builder.add(record)
    assert struct.pack("<II", name, 4 << 24) in builder.encode()  # the name's offset, then what says "a struct"
    with pytest.raises(NotFoundError):
        Btf.parse(builder.encode()).find("a", Kind.STRUCT)
    builder.add(kinds.Struct("a", 0))
    assert Btf.parse(builder.encode()).find("a", Kind.STRUCT) == 2


def test_a_name_may_be_the_end_of_another() -> None:
    """A writer may let "int" share the bytes of "uint"."""
    strings = b"\0uint\0"
    words = struct.pack("<8I", 1, 1 << 24, 4, 32, 2, 1 << 24, 4, 32)
    data = HEADER.pack(0xEB9F, 1, 0, 24, 0, len(words), len(words), len(strings)) + words + strings
    assert Btf.parse(data).find("int") == 2
    assert Btf.parse(data).find("uint") == 1


def test_many_strings_of_one_text_are_found() -> None:
    """Strings that are not shared, as no good writer leaves them, are found as well."""
    strings = b"\0" + b"a\0" * 20
    words = struct.pack("<8I", 5, 1 << 24, 4, 32, 31, 1 << 24, 4, 32)
    data = HEADER.pack(0xEB9F, 1, 0, 24, 0, len(words), len(words), len(strings)) + words + strings
    assert Btf.parse(data).find_all("a") == [1, 2]
    assert Btf.parse(data).find("a") == 1


def test_sizes() -> None:
    """Sizes in bytes, through names, qualifiers and arrays; numbers may be huge."""
    read = built(
        INT,  # 1
        kinds.Typedef("t", 1),
        kinds.Const(2),
        kinds.Array(3, 1, 10),
        kinds.Ptr(4),  # 5
        kinds.Array(4, 1, 1 << 31),
        kinds.Enum64("e", 8),
        kinds.Var("v", 4),
        kinds.DataSec(".bss", 40),
        kinds.TypeTag("user", 1),  # 10
    )
    assert [read.size_of(number) for number in range(1, 11)] == [4, 4, 4, 40, 8, 40 << 31, 8, 40, 40, 4]
    assert Btf.parse(read.encode(), pointer_size=4).size_of(5) == 4
    assert read.strip(3) == 1
    assert read.strip(10) == 1
    assert read.strip(4) == 4


@pytest.mark.parametrize("record", [kinds.Const(0), kinds.Func("f", 2), kinds.FuncProto(0), kinds.Fwd("f")], ids=str)
def test_what_has_no_size_is_refused(record: kinds.Record) -> None:
    """Void, functions and what is only declared have neither size nor alignment."""
    with pytest.raises(BtfError, match="type 1 has no size: it is "):
        built(record).size_of(1)
    with pytest.raises(BtfError, match="type 1 has no alignment: it is "):
        built(record).alignment_of(1)


def test_alignments() -> None:
    """As the members have it; 1 where an offset or the size tells that the struct is packed."""
    member = kinds.Member
    read = built(
        INT,
        CHAR,
        kinds.Int("__int128", 16, 128),
        kinds.Struct("s", 8, (member("c", 2, 0), member("i", 1, 32))),
        kinds.Struct("moved", 8, (member("c", 2, 0), member("i", 1, 8))),
        kinds.Struct("cut", 5, (member("i", 1, 0), member("c", 2, 32))),
        kinds.Struct("bits", 4, (member("i", 1, 3, 5),), kind_flag=True),
        kinds.Array(4, 1, 3),
        kinds.Union("u", 16, (member("s", 4, 0), member("w", 3, 0))),
    )
    assert [read.alignment_of(number) for number in range(1, 10)] == [4, 1, 16, 4, 1, 1, 4, 4, 16]


def test_a_split_blob_continues_its_base() -> None:
    """Ids and string offsets go on; names are found in both."""
    base = built(INT, kinds.Struct("task", 4, (kinds.Member("pid", 1, 0),)))
    builder = BtfBuilder(base)
    assert builder.add(kinds.Ptr(2)) == 3
    assert builder.add(kinds.Struct("mine", 8, (kinds.Member("task", 3, 0),))) == 4
    assert builder.type_id(Pointer(Int("int", 4, signed=True))) == 6
    data = builder.encode()
    read = Btf.parse(data, base)
    assert (len(read), read.first_id) == (4, 3)
    assert [number for number, _ in read] == [3, 4, 5, 6]
    assert read.type(2) == base.type(2)
    assert (read.find("task"), read.find("mine"), read.find_all("int")) == (2, 4, [1, 5])
    assert read.field("mine.task").type_id == 3
    assert read.field("task.pid").bit_offset == 0
    assert read.encode() == data
    assert read.string(0) == ""
    with pytest.raises(BtfError, match="there is no type 7, the last is 6"):
        read.type(7)
    with pytest.raises(NotFoundError):
        base.find("mine")
    assert "struct task {" in read.dump_c([read.find("mine")]) or "struct task;" in read.dump_c([read.find("mine")])


def test_a_split_blob_refers_to_strings_of_its_base() -> None:
    """A name may stand in the base's strings; so does pahole write modules."""
    base = built(kinds.Struct("task", 4))
    words = struct.pack("<3I", 1, 7 << 24, 0)
    read = Btf.parse(HEADER.pack(0xEB9F, 1, 0, 24, 0, 12, 12, 0) + words, base)
    assert read.type(2) == kinds.Fwd("task")
    assert read.find_all("task") == [1, 2]


def with_layout(kind: int, entry: bytes) -> bytes:
    """A blob of Linux 7.1 with a record of a new kind between two known ones."""
    words = struct.pack("<12I", 0, 2 << 24, 0, 1, kind << 24 | 2, 5, 10, 11, 12, 0, 10 << 24, 2)
    strings, layout = b"\0new\0", bytes(4 * kind) + entry
    places = (0, len(words), len(words), len(strings), len(words) + len(strings), len(layout))
    return struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, *places) + words + strings + layout


def test_a_layout_section_lets_new_kinds_pass() -> None:
    """A kind that is not known is skipped by the size that the blob gives."""
    data = with_layout(25, struct.pack("<BBH", 4, 4, 0x102))
    read = Btf.parse(data)
    new = kinds.Other(25, "new", 5, 2, False, (10, 11, 12))
    assert [record for _, record in read] == [kinds.Ptr(0), new, kinds.Const(2)]
    assert read.kind(2) is None
    assert read.encode() == data
    assert Btf.parse(read.encode("big")).encode("little") == data
    builder = BtfBuilder()
    builder.string_offset("new")
    builder.add(new)
    assert builder.encode()[24:48] == data[44:68]
    with pytest.raises(BtfError, match="it is of an unknown kind new"):
        read.size_of(3)


def test_a_layout_that_makes_no_sense_is_not_used() -> None:
    """Records are of whole words: a layout of odd bytes skips nothing."""
    with pytest.raises(BtfError, match="kind 25 is not known"):
        len(Btf.parse(with_layout(25, struct.pack("<BBH", 3, 4, 0))))


def test_values_are_frozen() -> None:
    """Records and types by value cannot change, can be keys and be sent to another process."""
    value = Struct("s", 4)
    with pytest.raises(AttributeError, match="Struct is frozen: size cannot be set"):
        value.size = 8  # type: ignore[misc]  # that is the test
    with pytest.raises(AttributeError):
        del value.size
    assert {value: 1}[Struct(name="s", size=4)] == 1
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  # our own bytes
    assert repr(value) == "Struct(name='s', size=4, members=())"
    assert kinds.Const(1) != kinds.Volatile(1)
    with pytest.raises(TypeError, match="Struct lacks size"):
        Struct("s")  # type: ignore[call-arg]  # that is the test
    with pytest.raises(TypeError, match="Struct: colour is not a field"):
        Struct("s", 4, colour=1)  # type: ignore[call-arg]  # likewise
    with pytest.raises(TypeError, match="Struct: name is given twice"):
        Struct("s", 4, name="t")  # type: ignore[misc]  # likewise
    with pytest.raises(TypeError, match="Struct has 3 fields, 4 were given"):
        Struct("s", 4, (), 1)  # type: ignore[call-arg]  # likewise


def test_a_kernel_without_types_says_so(tmp_path: object) -> None:
    """A missing file and a module's odd name are errors of the one family."""
    with pytest.raises(NotFoundError, match=r"there is no .*/none: the kernel is built without CONFIG_DEBUG_INFO_BTF"):
        kernel_btf(vmlinux=f"{tmp_path}/none")
    with pytest.raises(BtfError, match="cannot be read: Is a directory"):
        kernel_btf(vmlinux=f"{tmp_path}")


def test_a_module_is_read_on_its_kernel(tmp_path: object) -> None:
    """A module's file stands beside the kernel's."""
    base = built(INT)
    builder = BtfBuilder(base)
    builder.add(kinds.Ptr(1))
    for name, data in (("vmlinux", base.encode()), ("nf", builder.encode())):
        with open(f"{tmp_path}/{name}", "wb") as file:
            file.write(data)
    assert kernel_btf("nf", vmlinux=f"{tmp_path}/vmlinux").type(2) == kinds.Ptr(1)
    with pytest.raises(BtfError, match=r"'\.\./nf' is no name of a module"):
        kernel_btf("../nf", vmlinux=f"{tmp_path}/vmlinux")
