"""Where fields lie: paths, bit fields, anonymous members, arrays, and the same as values."""

import pytest

from pybpfasm import btf
from pybpfasm.btf import Btf, BtfBuilder, BtfError, Field, NotFoundError, kinds

M = kinds.Member


def sample() -> Btf:
    """A struct with something of everything."""
    builder = BtfBuilder()
    for record in (
        kinds.Int("int", 4, 32, signed=True),  # 1
        kinds.Ptr(0),
        kinds.Struct("", 8, (M("deep", 1, 0), M("deeper", 1, 32))),
        kinds.Union("", 8, (M("", 3, 0), M("whole", 2, 0))),
        kinds.Struct("pair", 8, (M("x", 1, 0), M("y", 1, 32))),  # 5
        kinds.Array(5, 1, 4),
        kinds.Array(6, 1, 2),
        kinds.Array(1, 1, 0),
        kinds.Struct(
            "all", 88, (M("", 4, 0), M("flags", 1, 67, 5), M("pairs", 7, 96), M("rest", 8, 704)), kind_flag=True
        ),
        kinds.Typedef("all_t", 9),  # 10
        kinds.Const(10),
        kinds.Struct("outer", 96, (M("head", 2, 0), M("all", 11, 64))),
        kinds.Int("old", 4, 3, offset=2),
        kinds.Struct("older", 4, (M("bits", 13, 8),)),
        kinds.Ptr(12),  # 15
        kinds.Struct("pointing", 8, (M("to", 15, 0),)),
    ):
        builder.add(record)
    return Btf.parse(builder.encode())


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("all.deeper", Field(32, None, 1)),
        ("all.whole", Field(0, None, 2)),
        ("all.flags", Field(67, 5, 1)),
        ("all.pairs", Field(96, None, 7)),
        ("all.pairs[1]", Field(96 + 256, None, 6)),
        ("all.pairs[1][2].y", Field(96 + 256 + 128 + 32, None, 1)),
        ("all_t.rest[1000]", Field(704 + 32000, None, 1)),
        ("outer.all.deeper", Field(64 + 32, None, 1)),
        ("outer.all.flags", Field(64 + 67, 5, 1)),
        ("older.bits", Field(10, 3, 13)),
        ("pair", Field(0, None, 5)),
    ],
)
def test_a_path_names_a_field(path: str, field: Field) -> None:
    """Offsets add up, in bits, through names, arrays and anonymous members."""
    found = sample().field(path)
    assert found == field
    assert found.byte_offset == field.bit_offset // 8


def test_a_path_may_start_at_an_id() -> None:
    """With `within` the path has no type's name."""
    read = sample()
    assert read.field("all.flags", within=12) == read.field("outer.all.flags")
    assert read.field("[1]", within=6) == Field(64, None, 5)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("none.x", "there is no struct, union or typedef 'none'"),
        ("int.x", "there is no struct, union or typedef 'int'"),
        ("all.none", "STRUCT all has no member 'none'"),
        ("all.deep.x", "x is taken of INT int, which has no members"),
        ("all.flags.x", "nothing lies within a bit field"),
        ("all.pairs[2]", "the array has 2 elements, there is no [2]"),
        ("all[0]", "what [0] is taken of is STRUCT all, which is no array"),
        ("pointing.to.head", "head lies behind a pointer: ask for the offset in what it points to"),
    ],
)
def test_a_field_that_is_none_is_not_found(path: str, text: str) -> None:
    """The error says which part of the path is wrong."""
    with pytest.raises(NotFoundError) as caught:
        sample().field(path)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "path", ["", ".", "all.", ".all", "all..x", "all x", "all[", "all[-1]", "all.[0]", "all[0]x", "all]"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    """Odd text is an error of its own, not a field that is missing."""
    with pytest.raises(BtfError, match="is no path of names: write type"):
        sample().field(path)


def test_a_path_starts_with_a_name() -> None:
    """A subscript needs a type before it."""
    with pytest.raises(BtfError, match="a path starts with the name of a type"):
        sample().field("[0]")


def test_types_by_value() -> None:
    """The tree has what lies in memory; bit fields start within a byte."""
    int_ = btf.Int("int", 4, signed=True)
    pair = btf.Struct("pair", 8, (btf.Member("x", int_, 0), btf.Member("y", int_, 4)))
    nameless = btf.Struct("", 8, (btf.Member("deep", int_, 0), btf.Member("deeper", int_, 4)))
    either = btf.Union("", 8, (btf.Member("", nameless, 0), btf.Member("whole", btf.Pointer(btf.Void()), 0)))
    all_ = btf.Struct(
        "all",
        88,
        (
            btf.Member("", either, 0),
            btf.Member("flags", int_, 8, 3, 5),
            btf.Member("pairs", btf.Array(btf.Array(pair, 4), 2), 12),
            btf.Member("rest", btf.Array(int_, 0), 88),
        ),
    )
    read = sample()
    assert read.value_type(11) == btf.Typedef("all_t", all_)
    assert read.value_type(11).size == 88
    assert read.value_type(16) == btf.Struct("pointing", 8, (btf.Member("to", btf.Pointer(btf.Forward("outer")), 0),))
    older = read.value_type(14)
    assert isinstance(older, btf.Struct)
    assert older.members == (btf.Member("bits", btf.Int("old", 4), 1, 2, 3),)


def test_what_is_no_data_has_no_value() -> None:
    """A function has no place in memory."""
    builder = BtfBuilder()
    builder.add(kinds.FuncProto(0))
    builder.add(kinds.Ptr(1))
    read = Btf.parse(builder.encode())
    with pytest.raises(BtfError, match="type 1 is no data: it is FUNC_PROTO"):
        read.value_type(1)
    assert read.value_type(2) == btf.Pointer(btf.Void())
