"""Maps from before BTF, in the forms of libbpf, the kernel's samples, iproute2 and gobpf."""

import struct

import pytest

from pybpfasm.interop import ElfError, read_elf
from pybpfasm.interop.container import R_BPF_64_64, STT_FUNC, STT_NOTYPE, STT_OBJECT
from pybpfasm.interop.image import Image, SymbolImage
from pybpfasm.isa import ByteOrder, encode, exit_program, load_imm64, mov_imm
from pybpfasm.spec import CollectionSpec, Untyped
from pybpfasm.uapi import MapType


def opened(
    *definitions: tuple[int, ...],
    byteorder: ByteOrder = "little",
    section: str = "maps",
    sized: bool = True,
    pad: int = 0,
) -> CollectionSpec:
    """An object with these definitions as maps m0, m1 …, and a program that refers to the last."""
    image = Image(byteorder)
    maps = image.section(section, 3)
    prefix = "<" if byteorder == "little" else ">"
    symbol = None
    for number, words in enumerate(definitions):
        data = struct.pack(f"{prefix}{len(words)}I", *words) + bytes(pad)
        offset = len(maps.data)
        maps.data += data
        type_ = STT_OBJECT if sized else STT_NOTYPE
        symbol = image.symbol(SymbolImage(f"m{number}", maps, type_, value=offset, size=len(data) if sized else 0))
    code = image.section("xdp", 6)
    code.append(encode([load_imm64(1, 0), mov_imm(0, 2), exit_program()], byteorder))
    assert symbol is not None
    code.relocate(0, R_BPF_64_64, symbol)
    image.symbol(SymbolImage("prog", code, STT_FUNC, size=len(code.data)))
    return read_elf(image.encode())


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("sized", [True, False])
def test_five_numbers(byteorder: ByteOrder, sized: bool) -> None:
    """struct bpf_map_def has type, sizes, entries and flags; where symbols have no size, their distance tells it."""
    found = opened((1, 4, 8, 16, 1), (2, 4, 24, 3, 0), byteorder=byteorder, sized=sized)
    first, second = found.maps["m0"], found.maps["m1"]
    assert (first.type, first.key, first.value, first.max_entries, first.flags) == (
        MapType.HASH,
        Untyped(4),
        Untyped(8),
        16,
        1,
    )
    assert (second.type, second.value, second.pinned) == (MapType.ARRAY, Untyped(24), False)
    assert found.programs["prog"].instructions[0].symbol == "m1"


def test_inner_maps_of_the_kernels_samples() -> None:
    """The sixth number is that of the map which shows the shape of those within."""
    found = opened((2, 4, 8, 5, 0, 0, 0), (12, 4, 4, 2, 0, 0, 0))
    inner = found.maps["m1"].inner
    assert inner is not None
    assert (inner.name, inner.type, inner.value) == ("m1.inner", MapType.ARRAY, Untyped(8))
    with pytest.raises(ElfError, match="map 'm1': its inner map is to be number 7"):
        opened((2, 4, 8, 5, 0, 0, 0), (12, 4, 4, 2, 0, 7, 0))


def test_iproute2() -> None:
    """Definitions of nine numbers have an id, a pin, and the id of the map within."""
    found = opened((1, 4, 8, 5, 0, 9, 2, 0, 0), (13, 4, 4, 2, 0, 3, 0, 9, 0))
    assert (found.maps["m0"].pinned, found.maps["m1"].pinned) == (True, False)
    inner = found.maps["m1"].inner
    assert inner is not None
    assert inner.type == MapType.HASH
    with pytest.raises(ElfError, match="map 'm1': its inner map has id 8, which no map has"):
        opened((1, 4, 8, 5, 0, 9, 2, 0, 0), (13, 4, 4, 2, 0, 3, 0, 8, 0))


def test_gobpf() -> None:
    """Definitions of 280 bytes in sections of their own have a pin."""
    found = opened((1, 4, 8, 5, 0, 1), section="maps/x", pad=256)
    assert found.maps["m0"].pinned


@pytest.mark.parametrize(
    ("definition", "pad", "text"),
    [
        ((1, 4, 8, 5), 0, "map 'm0': 16 bytes at offset 0 of section 'maps' are no definition"),
        ((1, 4, 8, 5, 0, 1), 0, "map 'm0': a definition of 24 bytes is not known"),
        ((99, 4, 8, 5, 0), 0, "map 'm0': a map of type 99 is not known"),
    ],
)
def test_other_definitions_are_refused(definition: tuple[int, ...], pad: int, text: str) -> None:
    """What is too short or says more than is known is an error with the map's name."""
    with pytest.raises(ElfError) as refused:
        opened(definition, pad=pad)
    assert text in str(refused.value)


def test_zeros_behind_a_definition_are_nothing() -> None:
    """A longer definition that says nothing more is the short one."""
    assert opened((1, 4, 8, 5, 0), pad=12).maps["m0"] == opened((1, 4, 8, 5, 0)).maps["m0"]
