"""Damaged objects: each ends in a result or in one of our errors, soon."""

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import example as with_example
from hypothesis import strategies as st
from objects import example
from test_core import LOCAL, MOVED

from pybpfasm import btf
from pybpfasm.btf import (
    Btf,
    BtfBuilder,
    CoreRelocation,
    Ext,
    FuncInfo,
    LineInfo,
    Linkage,
    SectionFuncInfo,
    SectionLineInfo,
    SectionRelocations,
    kinds,
)
from pybpfasm.btf import CoreRelocationKind as K
from pybpfasm.errors import BpfError
from pybpfasm.interop import ElfError, ElfObject, read_elf, write_elf
from pybpfasm.interop.container import STT_FUNC, STT_OBJECT
from pybpfasm.interop.image import Image, SymbolImage
from pybpfasm.isa import encode, exit_program, mov_imm

_NUMBERS = st.sampled_from([0, 1, 2, 8, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1])
_SECONDS = 5


def _with_relocations() -> bytes:
    """An object with CO-RE relocations and a legacy map."""
    builder = BtfBuilder()
    type_id = builder.type_id(LOCAL)
    records = tuple(CoreRelocation(0, type_id, builder.string_offset("0:1"), kind) for kind in (K.FIELD_BYTE_OFFSET,))
    image = Image("little")
    maps = image.section("maps", 3)
    maps.append(struct.pack("<5I", 1, 4, 4, 4, 0))
    image.symbol(SymbolImage("legacy", maps, STT_OBJECT, size=20))
    code = image.section("xdp", 6)
    code.append(encode([mov_imm(0, 8), exit_program()]))
    image.symbol(SymbolImage("prog", code, STT_FUNC, size=16))
    ext = Ext(core_relocations=(SectionRelocations(builder.string_offset("xdp"), records),))
    image.section(".BTF").append(builder.encode())
    image.section(".BTF.ext").append(ext.encode())
    return image.encode()


def _target() -> Btf:
    builder = BtfBuilder()
    builder.type_id(MOVED)
    builder.type_id(btf.Struct("task_struct", 8, ()))
    return Btf.parse(builder.encode())


TARGET = _target()
OBJECTS = (write_elf(example()), write_elf(example(), "big"), _with_relocations())


def test_the_objects_are_sound() -> None:
    """What is damaged below opens as it is."""
    for data in OBJECTS:
        assert read_elf(data, target=TARGET).programs


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One of the objects, with some numbers replaced, parts exchanged, or the end cut off."""
    data = bytearray(draw(st.sampled_from(OBJECTS)))
    for _ in range(draw(st.integers(1, 6))):
        what = draw(st.integers(0, 9))
        at = draw(st.integers(0, len(data) - 8))
        if what < 4:
            data[at] = draw(st.integers(0, 255))
        elif what < 7:
            size = draw(st.sampled_from([2, 4, 8]))
            data[at - at % size : at - at % size + size] = (draw(_NUMBERS) % (1 << size * 8)).to_bytes(size, "little")
        elif what < 9:
            start, length = draw(st.integers(0, len(data) - 8)), draw(st.sampled_from([8, 16, 24, 64]))
            part = data[start : start + length]
            data[at : at + len(part)] = part
        else:
            del data[draw(st.integers(64, len(data))) :]
        data += bytes(max(0, 64 - len(data)))
    return bytes(data)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_damage_ends_in_a_result_or_an_error_of_ours(data: bytes) -> None:
    """Opening, looking at each part, resolving and writing again raise nothing but `BpfError`, within seconds."""
    started = time.process_time()
    _look_at(data)
    try:
        found = read_elf(data, target=TARGET)
        read_elf(write_elf(found))
    except BpfError:
        pass
    assert time.process_time() - started < _SECONDS


@settings(max_examples=200, deadline=None)
@with_example(b"\x7fELF\x02\x01\x01")
@given(st.binary(max_size=200).map(lambda data: b"\x7fELF\x02\x01\x01" + data))
def test_bytes_that_only_begin_like_an_object(data: bytes) -> None:
    """Whatever follows the magic number, nothing but `BpfError` is raised."""
    _look_at(data)


def _look_at(data: bytes) -> None:
    try:
        elf = ElfObject.parse(data)
    except BpfError:
        return
    for part in ("symbols", "license", "version", "btf", "btf_ext", "functions", "programs", "maps", "needs_target"):
        try:
            getattr(elf, part)
        except BpfError:
            continue


def test_many_programs_that_share_much_are_refused() -> None:
    """A small file cannot ask for programs without bound: what is linked is limited."""
    image = Image("little")
    text = image.section(".text", 6)
    text.append(encode([mov_imm(0, 0)] * 20000 + [exit_program()]))
    image.symbol(SymbolImage("large", text, STT_FUNC, size=len(text.data)))
    code = image.section("xdp", 6)
    for number in range(300):
        offset = code.append(encode([mov_imm(0, 0)._replace(opcode=0x85, src=1, imm=-1), exit_program()]))
        code.relocate(offset, 10, image.section_symbol(text))
        image.symbol(SymbolImage(f"p{number}", code, STT_FUNC, value=offset, size=16))
    started = time.process_time()
    with pytest.raises(ElfError, match="have more than"):
        read_elf(image.encode())
    assert time.process_time() - started < _SECONDS


def test_work_is_linear_in_the_number_of_symbols() -> None:
    """Ten times the symbols, maps and lines take about ten times as long, not a hundred times."""
    seconds = [_seconds_for(count) for count in (300, 3000)]
    assert seconds[1] < 40 * max(seconds[0], 0.01)


def _seconds_for(count: int) -> float:
    image = Image("little")
    maps = image.section("maps", 3)
    code = image.section("xdp", 6)
    for number in range(count):
        at = maps.append(struct.pack("<6I", 1, 4, 4, 4, 0, 0))
        symbol = image.symbol(SymbolImage(f"m{number}", maps, STT_OBJECT, value=at, size=24))
        offset = code.append(encode([mov_imm(0, 8)._replace(opcode=0x18, dst=1, imm=0), exit_program()]))
        code.relocate(offset, 1, symbol)
        image.symbol(SymbolImage(f"p{number}", code, STT_FUNC, value=offset, size=24))
    data = image.encode()
    started = time.process_time()
    assert len(read_elf(data).programs) == count
    return time.process_time() - started


def test_one_long_string_read_from_everywhere_is_refused() -> None:
    """Lines whose texts all overlap cost no more than the file is long, within a factor."""
    builder = BtfBuilder()
    text = builder.string_offset("x" * 200_000)
    type_id = builder.function_id(btf.Function("prog", (), btf.Int("int", 4)))
    section = builder.string_offset("xdp")
    lines = tuple(LineInfo(0, 0, text + number, 1, 1) for number in range(5000))
    image = _with_code()
    ext = Ext((SectionFuncInfo(section, (FuncInfo(0, type_id),)),), (SectionLineInfo(section, lines),))
    image.section(".BTF").append(builder.encode())
    image.section(".BTF.ext").append(ext.encode())
    with pytest.raises(ElfError, match="strings overlap over and over"):
        read_elf(image.encode())


def test_maps_of_types_that_share_a_large_one_are_refused() -> None:
    """Values that each contain the same large struct are counted each, before any tree is made."""
    builder = BtfBuilder()
    number = builder.type_id(btf.Int("int", 4))
    members = tuple(kinds.Member(f"m{each}", number, 32 * each) for each in range(5000))
    large = builder.add(kinds.Struct("large", 20000, members))
    kind = builder.add(kinds.Ptr(builder.add(kinds.Array(number, number, 1))))
    variables = []
    image = _with_code()
    section = image.section(".maps", 3)
    for each in range(100):
        value = builder.add(kinds.Struct(f"v{each}", 20000, (kinds.Member("inner", large, 0),)))
        pointer = builder.add(kinds.Ptr(value))
        definition = (kinds.Member("type", kind, 0), kinds.Member("value", pointer, 64))
        struct_id = builder.add(kinds.Struct("", 16, definition))
        variable = builder.add(kinds.Var(f"map{each}", struct_id, Linkage.GLOBAL))
        variables.append(kinds.SectionVariable(variable, section.append(bytes(16)), 16))
    builder.add(kinds.DataSec(".maps", len(section.data), tuple(variables)))
    image.section(".BTF").append(builder.encode())
    with pytest.raises(ElfError, match="the types of maps have more than 200000 members together"):
        read_elf(image.encode())


def _with_code() -> Image:
    image = Image("little")
    code = image.section("xdp", 6)
    code.append(encode([mov_imm(0, 8), exit_program()]))
    image.symbol(SymbolImage("prog", code, STT_FUNC, size=16))
    return image
