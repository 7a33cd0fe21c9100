"""Objects as they are written: read back here, and by bpftool, libbpf and LLVM's tools."""

import hashlib
import json
import subprocess
from pathlib import Path

import attrs
import pytest
from objects import COUNTS, MAPS, PLAIN, example
from pybpfasm_interop import tool

from merbridge.datapath.collection import DatapathSettings, collection
from pybpfasm import btf
from pybpfasm.interop import ElfError, ElfObject, read_elf, write_elf
from pybpfasm.isa import (
    ByteOrder,
    CallKind,
    Instruction,
    Jump,
    call,
    call_kfunc,
    decode,
    encode,
    exit_program,
    jump_if_imm,
    load_kernel_variable,
    load_map,
    load_map_value,
    mov_imm,
)
from pybpfasm.records import evolve
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, MapType, ProgramType

BOTH: tuple[ByteOrder, ByteOrder] = ("little", "big")
RETURN = (mov_imm(0, 2), exit_program())
MAPS_OF_PROG = {name: MAPS[name] for name in ("counts", ".rodata")}


def program(*instructions: Instruction, **fields: object) -> ProgramSpec:
    """An XDP program without source lines."""
    spec = ProgramSpec(
        "prog",
        ProgramType.XDP,
        AttachType.XDP,
        "xdp_md",
        instructions or RETURN,
        MAPS_OF_PROG,
    )
    return attrs.evolve(spec, **fields)  # type: ignore[arg-type]  # fields of the class


def assert_same(written: CollectionSpec, found: CollectionSpec) -> None:
    """The same programs and maps, but for types that the writer makes up."""
    assert set(found.programs) == set(written.programs)
    for name, spec in written.programs.items():
        other = found.programs[name]
        assert other.instructions == spec.instructions, name
        assert other.lines == spec.lines, name
        assert set(other.maps) == set(spec.maps), name
        for field in ("type", "attach_type", "context", "license", "flags", "attach_to"):
            assert getattr(other, field) == getattr(spec, field), f"{name}: {field}"
    assert found.maps == written.maps


@pytest.mark.parametrize("byteorder", BOTH)
def test_programs_and_maps_read_back(byteorder: ByteOrder) -> None:
    """Instructions, lines, shapes of maps, first values and entries are the same, in both byte orders."""
    data = write_elf(example(), byteorder)
    assert_same(example(), read_elf(data))
    assert ElfObject.parse(data).byteorder == byteorder


@pytest.mark.parametrize("byteorder", BOTH)
def test_the_meshs_programs_read_back(byteorder: ByteOrder) -> None:
    """The programs of the datapath, with their typed maps, come back as they were compiled."""
    written = collection(DatapathSettings())
    assert_same(written, read_elf(write_elf(written, byteorder)))


def test_equal_specs_give_equal_bytes() -> None:
    """Writing does not depend on anything but the specs, and reading and writing again changes no instruction."""
    assert write_elf(example()) == write_elf(example())
    read = read_elf(write_elf(example()))
    assert_same(read, read_elf(write_elf(read)))


def test_functions_have_names_and_types() -> None:
    """Each function of a written program is known by name, and its type is a function of that name."""
    second = read_elf(write_elf(example())).programs["second"]
    assert [info.slot for info in second.functions] == [0, 8]
    assert second.types is not None
    types = btf.Btf.parse(second.types)
    for info in second.functions:
        record = types.type(info.type_id)
        assert isinstance(record, btf.kinds.Func)
        assert record.name == info.name


def test_a_function_of_two_programs_is_written_once() -> None:
    """Equal functions share their bytes only if all that they refer to is equal too."""
    elf = read_elf(write_elf(example()))
    named = {
        name: attrs.evolve(
            spec, functions=tuple(attrs.evolve(each, name=f"f{each.slot % 7}") for each in spec.functions), types=None
        )
        for name, spec in elf.programs.items()
    }
    text = ElfObject.parse(write_elf(CollectionSpec(named, elf.maps))).section(".text")
    assert text is not None
    names = [each.name for each in ElfObject.parse(write_elf(CollectionSpec(named, elf.maps))).functions]
    assert names.count("f1") == 1  # slot 15 of the first program, slot 8 of the second
    assert text.size == (2 + 6) * 8


def test_sections_by_kind() -> None:
    """Without a section's name the kind decides; a name that the spec gives is kept."""
    assert ElfObject.parse(write_elf(program())).section("xdp") is not None
    kept = program(section="kprobe/x", type=ProgramType.KPROBE, attach_type=AttachType(0))
    assert read_elf(write_elf(kept)).programs["prog"].attach_to == "x"
    made = program(type=ProgramType.TRACING, attach_type=AttachType.TRACE_FENTRY, attach_to="tcp_close")
    assert read_elf(write_elf(made)).programs["prog"].section == "fentry/tcp_close"
    unknown = program(type=ProgramType.UNSPEC, attach_type=AttachType(0))
    assert read_elf(write_elf(unknown)).programs["prog"].section == "prog"


def test_variables_get_a_section() -> None:
    """A map of variables that has another name than libbpf knows gets one: only so it can be referred into."""
    spec = MapSpec("settings", MapType.ARRAY, Untyped(4), Untyped(4), 1, contents=b"1234", frozen=True)
    found = read_elf(write_elf(program(load_map_value(1, "settings"), *RETURN, maps={"settings": spec})))
    assert found.maps[".rodata.settings"].contents == b"1234"
    assert found.programs["prog"].instructions[0].symbol == ".rodata.settings"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (program(load_map(1, "absent")), "map 'absent' is referred to, and is not among the maps"),
        (program(load_map(1, ".rodata")), "map '.rodata' is referred to as a whole"),
        (program(load_map_value(1, "counts")), "map 'counts' is referred to into its value"),
        (program(load_map(1, "x")._replace(symbol=None, imm=5)), "by a number of the running system"),
        (program(Instruction(0x85, src=int(CallKind.KFUNC), imm=77)), "by a number of the running system"),
        (program(call_kfunc("bpf_thing")), "calls the kernel's 'bpf_thing', whose prototype"),
        (program(load_kernel_variable(1, "runqueues")), "the kernel's variable 'runqueues'"),
        (program(jump_if_imm(Jump.JEQ, 1, 0, "end")), "names a label"),
        (program(call(1)._replace(imm=1 << 40)), "function 'prog' of program 'prog': slot 0: immediate"),
        (program(attach_type=AttachType.LSM_MAC), "no section name means type XDP with attach type LSM_MAC"),
        (program(section=".maps"), "section '.maps' is wanted for two things"),
        (program(instructions=()), "program 'prog' has no instructions"),
        (program(Instruction(0x85, src=1, imm=50)), "a function is to start at slot 51"),
        (program(name="a\0b"), "has a zero character"),
    ],
)
def test_what_an_object_cannot_hold_is_refused(spec: ProgramSpec, text: str) -> None:
    """The error names the program or map and what is wrong with it."""
    with pytest.raises((ElfError, btf.BtfError)) as refused:
        write_elf(spec)
    assert text in str(refused.value)


def test_one_object_has_one_licence() -> None:
    """Programs of two licences cannot be in one object."""
    programs = {"a": program(name="a", license="GPL"), "b": program(name="b", license="MIT")}
    with pytest.raises(ElfError, match="licences 'GPL', 'MIT'"):
        write_elf(CollectionSpec(programs, {}))


def test_entries_have_to_be_in_the_object() -> None:
    """An entry that names nothing of the object is refused."""
    jumps = MapSpec("jumps", MapType.PROG_ARRAY, Untyped(4), Untyped(4), 2, entries=((0, "absent"),))
    with pytest.raises(ElfError, match="map 'jumps': its entry 0 is 'absent'"):
        write_elf(CollectionSpec({"prog": program(maps={})}, {"jumps": jumps}))


def test_bpftool_loads_the_example(tmp_path: Path, bpffs: Path) -> None:
    """libbpf takes every part of it, and each program is in the kernel what it is here, instruction by instruction."""
    maps = {**MAPS, "plain": attrs.evolve(PLAIN, pinned=False)}
    written = attrs.evolve(example(), maps=maps)
    path = tmp_path / "example.o"
    path.write_bytes(write_elf(written))
    for name, tags in _loaded_tags(path, bpffs / "example").items():
        assert tags & _tags(written.programs[name].instructions), name


def test_bpftool_loads_the_meshs_programs(tmp_path: Path, bpffs: Path) -> None:
    """The datapath's programs load by libbpf from their object; not those for tcx, which Debian 12's does not know."""
    everything = collection(DatapathSettings())
    known = {name: each for name, each in everything.programs.items() if each.attach_type is not AttachType.TCX_INGRESS}
    written = evolve(everything, programs=known)
    path = tmp_path / "mesh.o"
    path.write_bytes(write_elf(written))
    found = _loaded_tags(path, bpffs / "mesh")
    assert set(found) == set(written.programs)
    for name, tags in found.items():
        assert tags & _tags(written.programs[name].instructions), name


@pytest.mark.parametrize("byteorder", BOTH)
def test_llvm_reads_it(byteorder: ByteOrder, tmp_path: Path) -> None:
    """llvm-objdump names the functions and the maps that instructions refer to."""
    path = tmp_path / "example.o"
    path.write_bytes(write_elf(example(), byteorder))
    command = [tool("llvm-objdump-19"), "-dr", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "file format elf64-bpf" in text
    assert "<first>:" in text
    assert "R_BPF_64_64\tcounts" in text
    assert "R_BPF_64_32\t.text" in text


def test_an_object_of_maps_only() -> None:
    """Maps without programs make an object too, and nothing at all does."""
    found = read_elf(write_elf(CollectionSpec({}, {"counts": COUNTS})))
    assert found == CollectionSpec({}, {"counts": COUNTS})
    assert read_elf(write_elf(CollectionSpec({}, {}))) == CollectionSpec({}, {})


def _loaded_tags(path: Path, folder: Path) -> dict[str, set[str]]:
    """The tags that the kernel gives the programs of an object which bpftool loads."""
    bpftool = tool("bpftool")
    loaded = subprocess.run(
        [bpftool, "prog", "loadall", str(path), str(folder)], capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    found = {}
    for pin in folder.iterdir():
        shown = subprocess.run([bpftool, "-j", "prog", "show", "pinned", str(pin)], capture_output=True, check=True)
        found[pin.name] = {json.loads(shown.stdout)["tag"]}
    return found


def _tags(instructions: tuple[Instruction, ...]) -> set[str]:
    """What the tag may be: a hash, SHA-1 before Linux 6.18, of the instructions without maps' numbers."""
    data = encode([each if each.symbol is None else each._replace(symbol=None, imm=0) for each in instructions])
    assert decode(data)
    return {hashlib.sha1(data).hexdigest()[:16], hashlib.sha256(data).hexdigest()[:16]}  # noqa: S324 - the kernel's
