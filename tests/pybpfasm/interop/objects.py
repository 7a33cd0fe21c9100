"""Objects built in Python, for the tests."""

from pybpfasm import btf
from pybpfasm.isa import (
    Alu,
    Instruction,
    Jump,
    Label,
    alu_imm,
    call,
    call_function,
    exit_program,
    jump_if_imm,
    load_function,
    load_imm64,
    load_map,
    load_map_value,
    mov,
    mov_imm,
    resolve_labels,
    store,
)
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec, SourceLine, Untyped
from pybpfasm.uapi import AttachType, MapType, ProgramType

U32 = btf.Int("unsigned int", 4)
U64 = btf.Typedef("u64", btf.Int("unsigned long long", 8))
STAT = btf.Struct("stat", 16, (btf.Member("count", U64, 0), btf.Member("name", btf.Array(btf.Int("char", 1), 8), 8)))

COUNTS = MapSpec("counts", MapType.HASH, U32, STAT, 16, flags=1)
PLAIN = MapSpec("plain", MapType.ARRAY, Untyped(4), Untyped(8), 2, pinned=True, extra=0)
INNER = MapSpec("outer.inner", MapType.ARRAY, Untyped(4), Untyped(8), 2)
OUTER = MapSpec(
    "outer", MapType.ARRAY_OF_MAPS, Untyped(4), Untyped(4), 3, inner=INNER, entries=((0, "plain"), (2, "plain"))
)
JUMPS = MapSpec("jumps", MapType.PROG_ARRAY, Untyped(4), Untyped(4), 2, entries=((1, "second"),))
RODATA = MapSpec(".rodata", MapType.ARRAY, Untyped(4), Untyped(8), 1, flags=128, contents=b"constant", frozen=True)
BSS = MapSpec(".bss", MapType.ARRAY, Untyped(4), Untyped(4096), 1)
MAPS = {spec.name: spec for spec in (COUNTS, PLAIN, OUTER, JUMPS, RODATA, BSS)}

# Callback and subprogram, in the order in which libbpf links what `first` refers to.
_FIRST: list[Instruction | Label] = [
    load_map(1, "counts"),
    load_function(2, "callback"),
    mov_imm(3, 0),
    mov_imm(4, 0),
    call(164),
    load_map_value(1, ".rodata", 4),
    load_map_value(2, ".bss", 16),
    call_function("shared"),
    exit_program(),
    Label("callback"),
    mov_imm(0, 0),
    exit_program(),
    Label("shared"),
    load_imm64(0, 0x123456789ABCDEF0),
    alu_imm(Alu.ADD, 0, 1),
    jump_if_imm(Jump.JEQ, 0, 0, "end"),
    mov_imm(0, 2),
    Label("end"),
    exit_program(),
]
_SECOND: list[Instruction | Label] = [
    mov(6, 1),
    store(8, 10, -8, 6),
    load_map(1, "outer"),
    load_map(1, "jumps"),
    call_function("shared"),
    exit_program(),
    Label("shared"),
    load_imm64(0, 0x123456789ABCDEF0),
    alu_imm(Alu.ADD, 0, 1),
    jump_if_imm(Jump.JEQ, 0, 0, "end"),
    mov_imm(0, 2),
    Label("end"),
    exit_program(),
]


def program(name: str, items: list[Instruction | Label], maps: tuple[str, ...], lines: dict[int, int]) -> ProgramSpec:
    """An XDP program; `lines` has the source lines by slot."""
    return ProgramSpec(
        name=name,
        type=ProgramType.XDP,
        attach_type=AttachType.XDP,
        context="xdp_md",
        instructions=tuple(resolve_labels(items)),
        maps={each: MAPS[each] for each in sorted(maps)},
        lines=tuple(SourceLine(slot, "program.py", line, 5, f"line {line}") for slot, line in lines.items()),
        section="xdp",
    )


def example() -> CollectionSpec:
    """Two programs of one section that share a function, and maps of many kinds."""
    first = program("first", _FIRST, ("counts", ".rodata", ".bss"), {0: 10, 4: 11, 13: 20, 15: 30, 19: 31})
    second = program("second", _SECOND, ("outer", "jumps"), {0: 40, 2: 41, 8: 30, 12: 31})
    return CollectionSpec({"first": first, "second": second}, MAPS)
