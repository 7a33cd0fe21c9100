"""What the builder makes of types: the kernel takes it, and shows it again."""

import json
import re
import struct
import subprocess
from typing import Any

import pytest

from programs import connect, getsockopt, maps, redirect, sockops
from pybpfasm import btf
from pybpfasm.btf import kinds
from pybpfasm.compiler import compile_program
from pybpfasm.errors import KernelError
from pybpfasm.kernel import named_target
from pybpfasm.kernel.info import map_info
from pybpfasm.kernel.maps import Map, load_btf
from pybpfasm.kernel.programs import DebugInfo
from pybpfasm.lang.maps import Array, HashMap, MapDeclaration
from pybpfasm.lang.types import Struct, StructType, be16, be32, btf_type, i32, i64, u8, u16, u32, u64, value_type

INT = btf.Int("int", 4, signed=True)
BYTE = btf.Int("unsigned char", 1)


class Inside(Struct):
    """Part of another struct."""

    x: u8
    port: be16


class Everything(Struct):
    """A field of each kind."""

    a: u8
    b: u16
    c: u32
    d: u64
    e: i32
    f: i64
    port: be16
    ip: be32
    inside: Inside


TYPES = [
    INT,
    BYTE,
    btf.Typedef("word", INT),
    btf.Typedef("word_again", btf.Typedef("word", INT)),
    btf.Pointer(INT),
    btf.Array(BYTE, 16),
    btf.Array(btf.Array(BYTE, 4), 2),
    btf.Struct("empty", 0),
    btf.Struct("pair", 8, (btf.Member("one", INT, 0), btf.Member("two", BYTE, 4))),
    btf.Struct("nested", 16, (btf.Member("name", btf.Array(BYTE, 8), 0), btf.Member("next", btf.Pointer(INT), 8))),
    btf_type(value_type(Everything)),
    btf.Pointer(btf.Void()),
    btf.Pointer(btf.Forward("somewhere_else")),
    btf.Pointer(btf.Forward("somewhere_else", union=True)),
    btf.Float("double", 8),
    btf.Int("_Bool", 1, boolean=True),
    btf.Enum("sign", 4, (btf.Enumerator("MINUS", -1), btf.Enumerator("PLUS", 1)), signed=True),
    btf.Enum("wide", 8, (btf.Enumerator("FAR", 1 << 40),)),
    btf.Union("either", 4, (btf.Member("one", INT, 0), btf.Member("two", BYTE, 0))),
    btf.Struct("bits", 4, (btf.Member("low", INT, 0, 0, 3), btf.Member("high", INT, 1, 2, 7))),
]


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_the_kernel_takes_every_kind_of_type(type_: btf.Type) -> None:
    """BPF_BTF_LOAD accepts each kind of type that can be described."""
    encoder = btf.BtfBuilder()
    assert encoder.type_id(type_) > 0
    load_btf(encoder.encode(), "a type").close()


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_a_type_by_value_comes_back(type_: btf.Type) -> None:
    """What `type_id` adds is what `value_type` reads."""
    builder = btf.BtfBuilder()
    number = builder.type_id(type_)
    assert btf.Btf.parse(builder.encode()).value_type(number) == type_


def test_the_kernel_takes_functions() -> None:
    """BPF_BTF_LOAD accepts a function with parameters."""
    encoder = btf.BtfBuilder()
    context = btf.Parameter("ctx", btf.Pointer(btf.Struct("bpf_sock_addr", 0)))
    encoder.function_id(btf.Function("prog", (context, btf.Parameter("n", INT)), INT))
    load_btf(encoder.encode(), "a function").close()


def test_a_wrong_blob_is_one_line() -> None:
    """What is no BTF is refused by a line that names what it was for."""
    with pytest.raises(KernelError, match=r"^cannot load the types of map x \(BTF\): .*\(EINVAL\)$"):
        load_btf(b"\0" * 24, "the types of map x")


def test_the_header_and_the_first_type() -> None:
    """The blob is laid out as uapi linux/btf.h says: header, types, strings."""
    encoder = btf.BtfBuilder()
    assert encoder.type_id(INT) == 1
    data = encoder.encode()
    magic, version, flags, length, types_at, types_size, strings_at, strings_size = struct.unpack_from(
        "<HBBIIIII", data
    )
    assert (magic, version, flags, length) == (0xEB9F, 1, 0, 24)
    assert (types_at, types_size, strings_at, strings_size) == (0, 16, 16, 5)
    assert struct.unpack_from("<IIII", data, 24) == (1, 1 << 24, 4, 1 << 24 | 32)
    assert data[40:] == b"\0int\0"


def test_equal_types_and_strings_are_stored_once() -> None:
    """The same type has one number, the same text one offset."""
    encoder = btf.BtfBuilder()
    assert encoder.type_id(btf.Pointer(INT)) == encoder.type_id(btf.Pointer(btf.Int("int", 4, signed=True)))
    assert encoder.string_offset("int") == encoder.string_offset("int")
    assert encoder.encode().count(b"int\0") == 1


def test_a_tree_with_shared_branches_takes_no_longer_than_its_types() -> None:
    """A type in a million places of a tree is one record, and found at once."""
    type_: btf.Type = INT
    for depth in range(40):
        type_ = btf.Struct(f"s{depth}", 0, (btf.Member("a", type_, 0), btf.Member("b", type_, 0)))
    builder = btf.BtfBuilder()
    assert builder.type_id(type_) == builder.type_id(type_) == 41


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (kinds.Void(), "is no record: void is id 0"),
        (kinds.Ptr(-1), "no unsigned number of 32 bits"),
        (kinds.Ptr(1 << 32), "no unsigned number of 32 bits"),
        (kinds.Int("int", 4, 256), "bits and offset go up to 255"),
        (kinds.Struct("s", 4, (kinds.Member("m", 1, 0, 3),)), "s.m is a bit field: the record needs kind_flag"),
        (kinds.Struct("s", 4, (kinds.Member("m", 1, 1 << 24),), True), "s.m does not fit"),
        (kinds.Enum("e", 4, (kinds.Enumerator("A", -1),)), "enum e: A = -1 is no unsigned number of 32 bits"),
        (kinds.Enum64("e", 8, (kinds.Enumerator("A", 1 << 63),), True), "no signed number of 64 bits"),
        (kinds.DeclTag("t", 1, -2), "component is -1 or a number from 0"),
        (kinds.Typedef("a\0b", 1), "zero character"),
        (kinds.Typedef("\ud800", 1), "half of a character"),
    ],
    ids=str,
)
def test_what_has_no_encoding_is_refused(record: kinds.Record, text: str) -> None:
    """A number or name that does not fit is an error that says so, and adds nothing."""
    builder = btf.BtfBuilder()
    with pytest.raises(btf.BtfError, match=re.escape(text)):
        builder.add(record)
    assert builder.add(kinds.Ptr(0)) == 1
    assert len(btf.Btf.parse(builder.encode())) == 1


@pytest.mark.parametrize("declaration", [each for each in vars(maps).values() if isinstance(each, MapDeclaration)])
def test_the_maps_of_the_mesh(declaration: Any) -> None:
    """The kernel creates each map of programs/ with its types."""
    with Map.create(declaration.spec("tested")) as made:
        assert map_info(made.fd).key_size == made.spec.key.size


@pytest.mark.parametrize(
    "program", [connect.connect4, getsockopt.getsockopt, redirect.redirect, sockops.sockops], ids=lambda each: each.name
)
def test_the_source_lines_of_the_mesh(program: Any) -> None:
    """The kernel takes the BTF of each program's source lines."""
    load_btf(DebugInfo.of(compile_program(program, target=named_target("6.1"))).types, "source lines").close()


def shown(bpftool: str, *arguments: str) -> Any:
    """What bpftool prints as JSON."""
    return json.loads(subprocess.run([bpftool, "-j", *arguments], check=True, capture_output=True, text=True).stdout)


def test_bpftool_shows_fields_by_name(bpftool: str) -> None:
    """A dump of a map names the fields of its key and value, with their values."""
    declaration: Any = HashMap[u64, Everything](max_entries=2)
    with Map.create(declaration.spec("everything")) as made:
        value = Everything(
            a=1,
            b=2,
            c=3,
            d=4,
            e=-5,
            f=-6,
            port=be16(b"\1\2"),
            ip=be32(b"\1\2\3\4"),
            inside=Inside(x=7, port=be16(b"\3\4")),
        )
        made.update((9).to_bytes(8, "little"), bytes(value))
        number = str(map_info(made.fd).id)
        (entry,) = shown(bpftool, "map", "dump", "id", number)
        assert shown(bpftool, "map", "show", "id", number)["name"] == "everything"
    fields = entry["formatted"]["value"]
    assert entry["formatted"]["key"] == 9
    assert [fields[name] for name in "abcdef"] == [1, 2, 3, 4, -5, -6]
    assert fields["port"] == 0x0201
    assert fields["ip"] == 0x04030201
    assert fields["inside"] == {"x": 7, "port": 0x0403}


def test_bpftool_shows_an_array(bpftool: str) -> None:
    """An array's values are shown by their type's field too."""
    declaration: Any = Array[u32, Inside](max_entries=1)
    with Map.create(declaration.spec("insides")) as made:
        dumped = shown(bpftool, "map", "dump", "id", str(map_info(made.fd).id))
    assert dumped[0]["formatted"]["value"] == {"x": 0, "port": 0}


def test_layouts_match() -> None:
    """A struct's BTF has the size and offsets of its layout."""
    layout, described = value_type(Everything), btf_type(value_type(Everything))
    assert isinstance(layout, StructType)
    assert isinstance(described, btf.Struct)
    assert described.size == layout.size
    assert [(each.name, each.offset) for each in described.members] == [(f.name, f.offset) for f in layout.fields]
