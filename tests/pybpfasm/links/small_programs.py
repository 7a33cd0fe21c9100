"""The programs that the link tests attach, as small as they can be."""

from collections.abc import Iterable, Mapping

from pybpfasm import isa
from pybpfasm.isa import Instruction, Jump, Label
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import MapSpec, ProgramSpec, Untyped
from pybpfasm.uapi import AttachType, Helper, MapType, ProgramType

UNBOUND = AttachType(0)  # types of program that are not bound to a hook when they are loaded


def load(
    kind: ProgramType,
    hook: AttachType,
    instructions: Iterable[Instruction | Label],
    name: str = "test",
    maps: Mapping[str, Map] | None = None,
) -> Program:
    """A program of these instructions, in the kernel."""
    code = tuple(isa.resolve_labels(instructions))
    return Program.load(ProgramSpec(name, kind, hook, "ctx", code, {}), maps or {})


def returning(kind: ProgramType, hook: AttachType, verdict: int, name: str = "test") -> Program:
    """A program that does nothing but return `verdict`."""
    return load(kind, hook, (isa.mov_imm(0, verdict), isa.exit_program()), name)


def counting(kind: ProgramType, hook: AttachType, verdict: int, counter: Map, index: int = 0) -> Program:
    """A program that counts its runs in a slot of the array `counter` and returns `verdict`."""
    code = (
        isa.store_imm(4, 10, -4, index),
        isa.mov(2, 10),
        isa.alu_imm(isa.Alu.ADD, 2, -4),
        isa.load_map(1, "counter"),
        isa.call(Helper.MAP_LOOKUP_ELEM),
        isa.jump_if_imm(Jump.JEQ, 0, 0, "out"),
        isa.mov_imm(1, 1),
        isa.atomic(isa.Atomic.ADD, 8, 0, 0, 1),
        Label("out"),
        isa.mov_imm(0, verdict),
        isa.exit_program(),
    )
    return load(kind, hook, code, "counting", {"counter": counter})


def counter() -> Map:
    """An array of eight counts."""
    return Map.create(MapSpec("counter", MapType.ARRAY, Untyped(4), Untyped(8), 8))


def count(counter: Map, index: int = 0) -> int:
    """What a slot of the counters holds."""
    return int.from_bytes(counter.lookup(index.to_bytes(4, "little")) or b"", "little")
