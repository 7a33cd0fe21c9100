"""Objects as clang makes them, opened."""

import subprocess
from pathlib import Path

import attrs
import pytest
from pybpfasm_interop import COMPILERS, compiled, tool

from pybpfasm import btf
from pybpfasm.btf import Btf, Kind, Linkage, kernel_btf, kinds
from pybpfasm.interop import ElfError, ElfObject, read_elf
from pybpfasm.isa import CallKind, Instruction, WideKind
from pybpfasm.isa.opcodes import CALL, LD_IMM64
from pybpfasm.spec import CollectionSpec, ProgramSpec, Untyped
from pybpfasm.uapi import MapType, ProgramType


@pytest.fixture(scope="module", params=COMPILERS)
def linked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The object of linked.c."""
    return compiled("linked", tmp_path_factory.mktemp("linked"), compiler=request.param)


def symbols(program: ProgramSpec, kind: WideKind) -> set[str | None]:
    """What the program's instructions of a kind refer to."""
    return {each.symbol for each in program.instructions if each.opcode == LD_IMM64 and each.src == kind}


def test_programs_have_what_their_sections_say(linked: bytes) -> None:
    """Several programs of one section, their kinds and the licence; functions of .text are none."""
    programs = read_elf(linked).programs
    assert set(programs) == {"pass", "drop", "walk", "plain"}
    assert {programs[name].section for name in ("pass", "drop")} == {"xdp"}
    assert programs["walk"].flags == 32
    assert programs["plain"].type == ProgramType.SOCKET_FILTER
    assert {program.license for program in programs.values()} == {"Dual BSD/GPL"}
    assert {program.context for program in programs.values()} == {"xdp_md", "__sk_buff"}


def test_called_functions_follow_the_program(linked: bytes) -> None:
    """Functions are linked in the order of their first call, and every call goes to the start of one."""
    for name, functions in {
        "pass": ["pass", "shared", "deepest", "deeper"],
        "drop": ["drop", "deeper", "deepest", "concealed"],
        "walk": ["walk", "each", "deepest"],
        "plain": ["plain"],
    }.items():
        program = read_elf(linked).programs[name]
        assert [info.name for info in program.functions] == functions
        starts = {info.slot for info in program.functions}
        assert _targets(program) == starts - {0}
        assert {line.slot for line in program.lines} >= starts


def test_types_go_with_the_functions(linked: bytes) -> None:
    """Each function has its prototype; one that is hidden is static, as the kernel is to see it."""
    program = read_elf(linked).programs["drop"]
    assert program.types is not None
    types = Btf.parse(program.types)
    records = {info.name: types.type(info.type_id) for info in program.functions}
    for name, record in records.items():
        assert isinstance(record, kinds.Func)
        assert record.name == name
    assert records["concealed"].linkage == Linkage.STATIC  # type: ignore[union-attr]  # a Func, as tested
    assert types.type(types.find(".rodata", Kind.DATASEC)).size > 0  # type: ignore[union-attr]  # a DataSec


def test_lines_are_those_of_the_source(linked: bytes) -> None:
    """File, line and text come from the object, also of a function that was linked in."""
    program = read_elf(linked).programs["pass"]
    source = (Path(__file__).parent / "c" / "linked.c").read_text().splitlines()
    texts = {line.text for line in program.lines}
    assert "\treturn other;" in texts
    for line in program.lines:
        assert line.file.endswith("linked.c")
        assert not line.line or source[line.line - 1] == line.text  # clang 14 has lines that are not known


def test_maps_have_their_shapes(linked: bytes) -> None:
    """Keys and values by type or size, flags, maps in maps with their entries, programs in arrays."""
    maps = read_elf(linked).maps
    counts = maps["counts"]
    assert (counts.type, counts.max_entries, counts.key.size) == (MapType.HASH, 16, 4)
    assert isinstance(counts.value, btf.Struct)
    assert [member.name for member in counts.value.members] == ["count", "flags"]
    assert (maps["numbers"].key, maps["numbers"].value, maps["numbers"].flags) == (Untyped(4), Untyped(8), 1024)
    outer, jumps = maps["outer"], maps["jumps"]
    assert outer.inner is not None
    assert (outer.inner.type, outer.inner.max_entries, outer.value) == (MapType.ARRAY, 1, Untyped(4))
    assert outer.entries == ((0, "first"), (2, "second"))
    assert jumps.entries == ((1, "pass"),)


def test_variables_are_maps(linked: bytes) -> None:
    """Constants are frozen and have their bytes, zeros have none, and an instruction has a variable's place."""
    collection = read_elf(linked)
    rodata, bss = collection.maps[".rodata"], collection.maps[".bss"]
    assert rodata.frozen
    assert rodata.contents is not None
    assert b"some text" in rodata.contents
    assert (bss.contents, bss.value, bss.frozen) == (None, Untyped(32), False)
    assert collection.maps[".data"].contents == (3).to_bytes(4, "little")
    program = collection.programs["pass"]
    assert symbols(program, WideKind.MAP_FD) == {"counts"}
    assert symbols(program, WideKind.MAP_VALUE) == {".bss", ".rodata", ".data", ".data.other"}
    assert set(program.maps) == {"counts", ".bss", ".rodata", ".data", ".data.other"}


def test_both_byte_orders_are_the_same_programs(tmp_path: Path) -> None:
    """The same source for the other byte order gives the same instructions, lines and shapes of maps."""
    little = read_elf(compiled("linked", tmp_path, target="bpfel"))
    big = read_elf(compiled("linked", tmp_path, target="bpfeb"))
    assert ElfObject.parse(compiled("linked", tmp_path, target="bpfeb")).byteorder == "big"
    for name, program in little.programs.items():
        assert big.programs[name].instructions == program.instructions
        assert big.programs[name].lines == program.lines
    for name, spec in little.maps.items():
        assert attrs.evolve(big.maps[name], contents=None) == attrs.evolve(spec, contents=None)


def test_what_the_kernel_has(tmp_path: Path) -> None:
    """Functions of the kernel are calls by name, configuration is a map; what is weak and missing is zero."""
    data = compiled("kernel", tmp_path)
    collection = read_elf(data, kconfig={"LINUX_KERNEL_VERSION": 0x60100, "CONFIG_BPF": "y"}, target=kernel_btf())
    program = collection.programs["kernel"]
    calls = [each.symbol for each in program.instructions if each.opcode == CALL and each.src == CallKind.KFUNC]
    assert calls == ["bpf_task_acquire", "bpf_task_release"]
    assert symbols(program, WideKind.BTF_ID) == set()
    contents = collection.maps[".kconfig"].contents
    assert contents is not None
    assert sorted(contents) == sorted((0x60100).to_bytes(4, "little") + bytes(4) + b"\1")
    assert collection.maps[".kconfig"].frozen


def test_without_a_target_weak_names_are_kept(tmp_path: Path) -> None:
    """Nobody says that they are missing, so whoever loads the program looks."""
    program = read_elf(compiled("kernel", tmp_path)).programs["kernel"]
    assert symbols(program, WideKind.BTF_ID) == {"no_such_function", "no_such_variable"}


def test_variables_of_the_kernel(tmp_path: Path) -> None:
    """One with a type is asked for by its type, one without by its address."""
    program = read_elf(compiled("variable", tmp_path)).programs["variable"]
    assert symbols(program, WideKind.BTF_ID) == {"bpf_prog_active"}
    assert "__init_begin" in symbols(program, WideKind.IMM)


def test_configuration_without_a_value_is_named(tmp_path: Path) -> None:
    """A variable that has to have a value and has none is an error that tells how to give one."""
    source = '#include "bpf.h"\nextern int CONFIG_HZ __kconfig;\nSEC("socket") int f(void *c) { return CONFIG_HZ; }\n'
    data = _compiled_text(tmp_path, source)
    with pytest.raises(ElfError, match=r"'CONFIG_HZ' .* give it, as in read_elf\(data, kconfig="):
        read_elf(data)
    assert ElfObject.parse(data).kconfig_variables == ("CONFIG_HZ",)
    contents = read_elf(data, kconfig={"CONFIG_HZ": 250}).maps[".kconfig"].contents
    assert contents == (250).to_bytes(4, "little")


def test_relocations_need_a_target(tmp_path: Path) -> None:
    """Without the kernel's types the error names what is asked of them; looking at the object works all the same."""
    data = compiled("core", tmp_path)
    with pytest.raises(ElfError, match=r"'fields' .*depends on the kernel's task_struct \(CO-RE\).*target="):
        read_elf(data)
    elf = ElfObject.parse(data)
    assert elf.needs_target
    assert {"fields", "types", "enums", "poisoned", "direct"} == {each.name for each in elf.programs}
    section = elf.section("raw_tracepoint/fields")
    assert section is not None
    assert len(elf.instructions(section)) > 40
    assert set(elf.maps) == {".bss"}
    assert elf.license == "GPL"


def test_static_programs_and_undefined_names(tmp_path: Path) -> None:
    """A static function outside of .text is a program unless it is called; a function that is nowhere is an error."""
    source = """
#include "bpf.h"
static __noinline __attribute__((section("parts"))) int part(int x) { return x + 1; }
__attribute__((section("xdp"), used)) static int lone(struct xdp_md *ctx) { return part(ctx->data); }
"""
    assert set(read_elf(_compiled_text(tmp_path, source)).programs) == {"lone"}
    missing = 'int nowhere(void);\n__attribute__((section("xdp"))) int f(void *ctx) { return nowhere(); }\n'
    with pytest.raises(ElfError, match=r"function 'f' in section 'xdp': offset \d+, symbol 'nowhere'"):
        read_elf(_compiled_text(tmp_path, missing))


def _compiled_text(folder: Path, source: str) -> bytes:
    path = folder / "source.c"
    path.write_text(source)
    include = Path(__file__).parent / "c"
    command = [tool("clang-19"), "-g", "-O2", "-target", "bpf", f"-I{include}", "-c", str(path)]
    subprocess.run([*command, "-o", str(folder / "source.o")], check=True, capture_output=True, text=True)
    return (folder / "source.o").read_bytes()


def _targets(program: ProgramSpec) -> set[int]:
    """The slots that calls and addresses of functions refer to."""
    found = set()
    slot = 0
    for each in program.instructions:
        slot += each.slots
        if _refers(each):
            found.add(slot - each.slots + 1 + each.imm)
    return found


def _refers(instruction: Instruction) -> bool:
    if instruction.opcode == CALL:
        return instruction.src == CallKind.FUNCTION
    return instruction.opcode == LD_IMM64 and instruction.src == WideKind.FUNC


def test_read_elf_gives_plain_specs(linked: bytes) -> None:
    """The result is a value: reading twice gives equal ones."""
    assert isinstance(read_elf(linked), CollectionSpec)
    assert read_elf(linked) == read_elf(linked)


def test_struct_ops_name_their_programs(tmp_path: Path) -> None:
    """The variable is a map with its bytes, and its pointers to programs are entries."""
    source = """
#include "bpf.h"
struct operations { u64 number; int (*first)(void); int (*second)(void); };
SEC("struct_ops/second") int second_program(u64 *ctx) { return 0; }
SEC(".struct_ops.link") struct operations mine = { .number = 5, .second = (void *)second_program };
"""
    collection = read_elf(_compiled_text(tmp_path, source))
    found = collection.maps["mine"]
    assert (found.type, found.flags, found.entries) == (MapType.STRUCT_OPS, 0x2000, ((16, "second_program"),))
    assert found.contents == (5).to_bytes(24, "little")
    assert collection.programs["second_program"].attach_to == "second"
