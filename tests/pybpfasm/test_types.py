"""Types: layouts as C has them, packing and unpacking, values in network order, and what does not fit."""

import re
from ipaddress import IPv4Address
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpfasm import Length, Struct, be16, be32, htonl, htons, i32, i64, ip4, ntohl, ntohs, u8, u16, u32, u64
from pybpfasm.lang.maps import HashMap, OutsideProgramError
from pybpfasm.lang.types import LayoutError, StructType, pack, unpack, value_type

Name = Annotated[bytes, Length(5)]


class Bytes(Struct):
    """Fields of one byte need no padding."""

    a: u8
    b: u8
    c: u8


class Growing(Struct):
    """Each field is wider than the one before."""

    a: u8
    b: u16
    c: u32
    d: u64


class Shrinking(Struct):
    """Each field is narrower: padding only at the end."""

    d: u64
    c: u32
    b: u16
    a: u8


class Holes(Struct):
    """Padding between, and at the end."""

    a: u8
    d: u64
    b: u8


class Signed(Struct):
    """Signed numbers lie as unsigned ones do."""

    n: i32
    s: i64


class Network(Struct):
    """Numbers in network order are aligned as others."""

    x: u8
    port: be16
    y: u8
    ip: be32


class Text(Struct):
    """Text is aligned to bytes."""

    x: u8
    name: Name
    y: u16


class Nested(Struct):
    """A struct has the alignment of its widest field."""

    x: u8
    holes: Holes
    y: u8
    network: Network
    z: u8


class Defaults(Struct):
    """Fields that need not be given."""

    a: u32
    b: u32 = 7
    port: be16 = htons(80)


# Struct | size | alignment | offsets; as `offsetof` gives them on x86-64 and arm64.
LAYOUTS: list[tuple[type[Struct], int, int, dict[str, int]]] = [
    (Bytes, 3, 1, {"a": 0, "b": 1, "c": 2}),
    (Growing, 16, 8, {"a": 0, "b": 2, "c": 4, "d": 8}),
    (Shrinking, 16, 8, {"d": 0, "c": 8, "b": 12, "a": 14}),
    (Holes, 24, 8, {"a": 0, "d": 8, "b": 16}),
    (Signed, 16, 8, {"n": 0, "s": 8}),
    (Network, 12, 4, {"x": 0, "port": 2, "y": 4, "ip": 8}),
    (Text, 8, 2, {"x": 0, "name": 1, "y": 6}),
    (Nested, 56, 8, {"x": 0, "holes": 8, "y": 32, "network": 36, "z": 48}),
]


@pytest.mark.parametrize(
    ("struct", "size", "alignment", "offsets"), LAYOUTS, ids=lambda each: getattr(each, "__name__", "")
)
def test_layout_is_that_of_c(struct: type[Struct], size: int, alignment: int, offsets: dict[str, int]) -> None:
    """Sizes, alignments and offsets are those that a C compiler gives."""
    layout = value_type(struct)
    assert isinstance(layout, StructType)
    assert (layout.size, layout.alignment) == (size, alignment)
    assert {field.name: field.offset for field in layout.fields} == offsets


def test_bytes_of_a_struct() -> None:
    """Numbers are little endian, network numbers big, padding and the rest of a text are zero."""
    assert bytes(Growing(a=1, b=2, c=3, d=4)).hex() == "01000200030000000400000000000000"
    assert bytes(Network(x=1, port=htons(80), y=2, ip=ip4("10.0.0.1"))).hex() == "01000050020000000a000001"
    assert bytes(Text(x=1, name=b"ab", y=2)).hex() == "0161620000000200"
    assert bytes(Signed(n=-1, s=-2)).hex() == "ffffffff00000000feffffffffffffff"


def test_defaults() -> None:
    """A field with a default need not be given, and can be."""
    assert Defaults(a=1) == Defaults(a=1, b=7, port=htons(80))
    assert Defaults(a=1, b=2) != Defaults(a=1)


def numbers(bits: int, *, signed: bool = False) -> st.SearchStrategy[int]:
    """Every number that a width holds."""
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else st.integers(0, (1 << bits) - 1)


ports, addresses = numbers(16).map(htons), numbers(32).map(htonl)
networks = st.builds(Network, x=numbers(8), port=ports, y=numbers(8), ip=addresses)
holes = st.builds(Holes, a=numbers(8), d=numbers(64), b=numbers(8))
VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (u8, numbers(8)),
    (u16, numbers(16)),
    (u32, numbers(32)),
    (u64, numbers(64)),
    (i32, numbers(32, signed=True)),
    (i64, numbers(64, signed=True)),
    (be16, ports),
    (be32, addresses),
    (Name, st.binary(max_size=5).map(lambda text: text.rstrip(b"\0"))),
    (Growing, st.builds(Growing, a=numbers(8), b=numbers(16), c=numbers(32), d=numbers(64))),
    (Signed, st.builds(Signed, n=numbers(32, signed=True), s=numbers(64, signed=True))),
    (Nested, st.builds(Nested, x=numbers(8), holes=holes, y=numbers(8), network=networks, z=numbers(8))),
]


@pytest.mark.parametrize(("annotation", "strategy"), VALUES, ids=[str(value_type(each)) for each, _ in VALUES])
def test_unpack_is_the_inverse_of_pack(annotation: Any, strategy: st.SearchStrategy[Any]) -> None:
    """Every value comes back from its bytes, which are as many as the type says."""

    @given(strategy)
    def check(value: Any) -> None:
        data = pack(annotation, value)
        assert len(data) == value_type(annotation).size
        assert unpack(annotation, data) == value

    check()


@given(numbers(16), numbers(32))
def test_network_order(port: int, address: int) -> None:
    """htons, htonl and their inverses turn bytes around once and back."""
    assert htons(port).packed == port.to_bytes(2, "big")
    assert htonl(address).packed == address.to_bytes(4, "big")
    assert ntohs(htons(port)) == port
    assert ntohl(htonl(address)) == address


def test_network_order_wraps() -> None:
    """A number too wide for network order loses its upper bits, as in a program."""
    assert htons(0x12345) == htons(0x2345)
    assert htonl(-1) == htonl(0xFFFFFFFF)


def test_network_numbers_are_no_integers() -> None:
    """A network number equals only its own kind, and has no arithmetic."""
    number: Any = htons(80)
    assert number != 80
    assert number != be32(b"\0\0\0\x50")
    assert number == htons(80)
    assert len({htons(80), htons(80), htons(81)}) == 2
    with pytest.raises(TypeError):
        number + 1
    with pytest.raises(TypeError):
        htons(number)


def test_addresses() -> None:
    """An address is given as text or as Python's own type."""
    assert ip4("127.0.0.1") == ip4(IPv4Address("127.0.0.1")) == htonl(0x7F000001)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (u8, 256, "256 does not fit u8"),
        (u8, -1, "-1 does not fit u8"),
        (u64, 1 << 64, "18446744073709551616 does not fit u64"),
        (i32, 1 << 31, "2147483648 does not fit i32"),
        (u8, None, "None does not fit u8"),
        (u8, htons(1), "be16(b'\\x00\\x01') does not fit u8"),
        (be16, 80, "80 is no be16"),
        (be16, ip4("1.2.3.4"), "be32(b'\\x01\\x02\\x03\\x04') is no be16"),
        (Name, b"123456", "b'123456' does not fit char[5]"),
        (Name, "abc", "'abc' does not fit char[5]"),
        (Bytes, Signed(n=1, s=1), "Signed(n=1, s=1) is no Bytes"),
        (Bytes, b"abc", "b'abc' is no Bytes"),
    ],
)
def test_values_that_do_not_fit(annotation: Any, value: Any, message: str) -> None:
    """A value that a type does not hold is refused by name; nothing is cut."""
    with pytest.raises(LayoutError, match=f"^{re.escape(message)}$"):
        pack(annotation, value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bytes(a=1, b=2), "Bytes lacks c"),  # type: ignore[call-arg]  # the case itself
        (lambda: Bytes(a=1, b=2, c=3, d=4), "Bytes has no d"),  # type: ignore[call-arg]  # the case itself
        (lambda: bytes(Bytes(a=1, b=2, c=300)), "300 does not fit u8"),
        (lambda: Bytes.from_bytes(b"1234"), "Bytes takes 3 bytes, not 4"),
        (lambda: be16(b"1"), "be16 takes 2 bytes, not 1"),
        (lambda: type("Wrong", (Struct,), {"__annotations__": {"x": int}}), "Wrong.x: <class 'int'> has no layout"),
        (lambda: type("Wrong", (Struct,), {"__annotations__": {"x": str}}), "Wrong.x: <class 'str'> has no layout"),
        (lambda: type("Wrong", (Struct,), {"__annotations__": {"x": u8 | None}}), "Wrong.x: "),
        (lambda: type("Wrong", (Struct,), {"__annotations__": {"x": Struct}}), "Wrong.x: "),
    ],
)
def test_wrong_structs(make: Any, message: str) -> None:
    """A struct that is declared or made wrongly is refused by name."""
    with pytest.raises(LayoutError, match=f"^{re.escape(message)}"):
        make()


def test_what_only_a_program_can_do() -> None:
    """A map's methods, called from Python, say where they belong."""
    stats = HashMap[u32, Bytes](max_entries=1)
    with pytest.raises(OutsideProgramError, match=r"^lookup can only be called in a BPF program$"):
        stats.lookup(1)
