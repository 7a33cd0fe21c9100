"""Programs and maps as plain values: what to load, with no file descriptor and no kernel."""

from collections.abc import Mapping

from pybpfasm import btf
from pybpfasm.isa import Instruction
from pybpfasm.records import evolve, field, frozen
from pybpfasm.uapi import AttachType, MapType, ProgramType


@frozen
class Untyped:
    """A key or a value of which only the size is known, in bytes."""

    size: int


@frozen
class MapSpec:
    """A map to create. Sizes follow from the types; `flags` are BPF_F_… of map creation.

    `inner` is the shape of the maps in a map of maps. `contents` is the first value of an array of one entry (globals),
    `frozen` says that user space cannot change it afterwards. `pinned` asks for a pin by name. `extra` is map_extra,
    whose meaning is the type's.

    `entries` are set before the map is used, by key: for an array of programs or a map of maps their names; for
    struct_ops the keys are byte offsets in the value, of its pointers to programs. `numa_node` is where its memory is
    to be, or None.
    """

    name: str
    type: MapType
    key: btf.Type | Untyped
    value: btf.Type | Untyped
    max_entries: int
    flags: int = 0
    inner: "MapSpec | None" = None
    contents: bytes | None = None
    frozen: bool = False
    pinned: bool = False
    extra: int = 0
    entries: tuple[tuple[int, str], ...] = ()
    numa_node: int | None = None

    def resized(self, max_entries: int) -> "MapSpec":
        """The same map with another number of entries."""
        return evolve(self, max_entries=max_entries)


@frozen
class SourceLine:
    """Where the instructions from `slot` on come from. `line` and `column` count from 1."""

    slot: int
    file: str
    line: int
    column: int
    text: str


@frozen
class FunctionInfo:
    """A function of a program: where it begins, and its type (KIND_FUNC) in the spec's `types`."""

    slot: int
    name: str
    type_id: int


@frozen
class RegisterName:
    """What a program calls the value that the instruction in a slot leaves in a register."""

    slot: int
    register: int
    name: str


@frozen
class ProgramSpec:
    """A program to load: its instructions refer to `maps` by name, or, in those with the kind of a kfunc, to kfuncs.

    Its own functions follow in the same stream, calls of them are resolved. `context` names the struct that r1 points
    to. `attach_to` is what the section or the author names as the place to attach to (a kernel function, a tracepoint).
    `types` holds what `functions` refer to, encoded BTF; without it, a loader makes it from `context`. `names` are for
    messages.
    """

    name: str
    type: ProgramType
    attach_type: AttachType
    context: str
    instructions: tuple[Instruction, ...]
    maps: Mapping[str, MapSpec]
    lines: tuple[SourceLine, ...] = ()
    license: str = "GPL"
    section: str = ""
    attach_to: str | None = None
    flags: int = 0
    functions: tuple[FunctionInfo, ...] = ()
    types: bytes | None = field(default=None, repr=False)
    names: tuple[RegisterName, ...] = field(default=(), repr=False, eq=False)


@frozen
class CollectionSpec:
    """Programs that are loaded together and the maps they share, each by name."""

    programs: Mapping[str, ProgramSpec]
    maps: Mapping[str, MapSpec]
