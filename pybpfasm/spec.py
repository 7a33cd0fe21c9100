"""Programs and maps as plain values: what to load, with no file descriptor and no kernel."""

from collections.abc import Mapping

import attrs

from pybpfasm import btf
from pybpfasm.isa import Instruction
from pybpfasm.uapi import AttachType, MapType, ProgramType


@attrs.frozen
class MapSpec:
    """A map to create. Sizes follow from the types; `flags` are BPF_F_… of map creation."""

    name: str
    type: MapType
    key: btf.Type
    value: btf.Type
    max_entries: int
    flags: int = 0

    def resized(self, max_entries: int) -> "MapSpec":
        """The same map with another number of entries."""
        return attrs.evolve(self, max_entries=max_entries)


@attrs.frozen
class SourceLine:
    """Where the instructions from `slot` on come from. `line` and `column` count from 1."""

    slot: int
    file: str
    line: int
    column: int
    text: str


@attrs.frozen
class ProgramSpec:
    """A program to load: its instructions refer to `maps` by name."""

    name: str
    type: ProgramType
    attach_type: AttachType
    context: str
    instructions: tuple[Instruction, ...]
    maps: Mapping[str, MapSpec]
    lines: tuple[SourceLine, ...] = ()
    license: str = "GPL"


@attrs.frozen
class CollectionSpec:
    """Programs that are loaded together and the maps they share, each by name."""

    programs: Mapping[str, ProgramSpec]
    maps: Mapping[str, MapSpec]
