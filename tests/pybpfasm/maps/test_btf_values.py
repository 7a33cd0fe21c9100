"""Values by their BTF types, as plain Python values and back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpfasm import btf
from pybpfasm.kernel.maps.btf_values import btf_pack, btf_unpack
from pybpfasm.lang.types import LayoutError

U8, U16 = btf.Int("unsigned char", 1), btf.Int("unsigned short", 2)
U32, I32 = btf.Typedef("__u32", btf.Int("unsigned int", 4)), btf.Int("int", 4, signed=True)
U64, BOOL, CHAR = btf.Int("unsigned long", 8), btf.Int("_Bool", 1, boolean=True), btf.Int("char", 1, signed=True)
COLOUR = btf.Enum("colour", 4, (btf.Enumerator("RED", 0), btf.Enumerator("BLUE", 7)))
SIDE = btf.Enum("side", 4, (btf.Enumerator("LEFT", -1),), signed=True)
POINT = btf.Struct("point", 8, (btf.Member("x", U16, 0), btf.Member("y", I32, 4)))
EITHER = btf.Union("either", 4, (btf.Member("word", U32, 0), btf.Member("bytes", btf.Array(U8, 4), 0)))
ANONYMOUS = btf.Struct("outer", 12, (btf.Member("head", U32, 0), btf.Member("", POINT, 4)))
BITS = btf.Struct(
    "bits",
    4,
    (btf.Member("low", U32, 0, 0, 3), btf.Member("signed", I32, 0, 3, 4), btf.Member("over", U32, 0, 7, 20)),
)


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (U32, 258, "02010000"),
        (I32, -2, "feffffff"),
        (BOOL, True, "01"),
        (btf.Float("double", 8), 1.5, "000000000000f83f"),
        (btf.Float("float", 4), -0.5, "000000bf"),
        (btf.Pointer(btf.Void()), 0xFFFF888000000000, "000000008088ffff"),
        (btf.Int("__int128", 16, signed=True), -1, "ff" * 16),
        (COLOUR, "BLUE", "07000000"),
        (COLOUR, 5, "05000000"),
        (SIDE, "LEFT", "ffffffff"),
        (btf.Array(CHAR, 6), "abc", "616263000000"),
        (btf.Array(CHAR, 3), "a\0b", "610062"),
        (btf.Array(CHAR, 2), "\udcff", "ff00"),
        (btf.Array(U8, 3), b"\1\2\0", "010200"),
        (btf.Array(U16, 2), [1, 2], "01000200"),
        (btf.Array(BOOL, 2), [True, False], "0100"),
        (btf.Array(btf.Array(U8, 2), 2), [b"ab", b"cd"], "61626364"),
        (POINT, {"x": 1, "y": -1}, "01000000ffffffff"),
        (EITHER, {"word": 1, "bytes": b"\1\0\0\0"}, "01000000"),
        (ANONYMOUS, {"head": 9, "x": 1, "y": 2}, "090000000100000002000000"),
        (BITS, {"low": 5, "signed": -3, "over": 0xFFFFF}, "edffff07"),
        (btf.Struct("empty", 0), {}, ""),
    ],
)
def test_both_ways(type_: btf.Type, value: Any, data: str) -> None:
    """A value and its bytes stand for each other."""
    assert btf_unpack(type_, bytes.fromhex(data)) == value
    assert btf_pack(type_, value) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (POINT, {}, "0000000000000000"),
        (POINT, {"y": 1}, "0000000001000000"),
        (POINT, b"\1\2\3\4\5\6\7\0", "0102030405060700"),
        (EITHER, {"bytes": [1, 2, 3, 4]}, "01020304"),
        (btf.Array(CHAR, 4), b"abcd", "61626364"),
        (COLOUR, 7, "07000000"),
        (U8, True, "01"),
        (BITS, {"low": 7}, "07000000"),
    ],
)
def test_other_ways_to_say_it(type_: btf.Type, value: Any, data: str) -> None:
    """What may be left out, and what bytes may stand for."""
    assert btf_pack(type_, value) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        (U8, 256, "256 does not fit unsigned char of 1 bytes"),
        (U8, 1.5, "1.5 does not fit unsigned char of 1 bytes"),
        (COLOUR, "GREEN", "colour has no enumerator 'GREEN'"),
        (POINT, {"z": 1}, "point has no member z"),
        (POINT, 5, "5 is no dict for point"),
        (POINT, b"123", "point takes 8 bytes, not 3"),
        (
            EITHER,
            {"word": 1, "bytes": b"2000"},
            "members of either that share their bytes do not agree: give one of them",
        ),
        (btf.Array(U16, 2), [1], r"\[1\] is no list of 2 for a type of 4 bytes"),
        (btf.Array(CHAR, 2), "abc", "a type of 2 bytes takes 2 bytes, not 3"),
        (BITS, {"low": 8}, "8 does not fit low, a bit field of 3 bits"),
        (btf.Float("double", 8), "x", "'x' does not fit double"),
        (btf.Void(), 1, "a type of 0 bytes has no values"),
        (btf.Forward("hidden"), 1, "hidden has no values"),
    ],
)
def test_what_does_not_fit(type_: btf.Type, value: Any, said: str) -> None:
    """The error names the type and the value."""
    with pytest.raises(LayoutError, match=f"^{said}$"):
        btf_pack(type_, value)


@pytest.mark.parametrize("type_", [POINT, ANONYMOUS, EITHER, btf.Array(CHAR, 5), btf.Array(POINT, 2), COLOUR, U64])
@settings(deadline=None)  # emulated machines are slow
@given(noise=st.binary(min_size=32, max_size=32))
def test_nothing_is_lost(type_: btf.Type, noise: bytes) -> None:
    """Any bytes come back, padding apart: packing what was unpacked, and unpacking that again, changes nothing."""
    value = btf_unpack(type_, noise[: type_.size])
    assert btf_unpack(type_, btf_pack(type_, value)) == value
