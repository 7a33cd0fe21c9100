"""Programs and maps that belong together: loaded together or not at all, closed together.

    CollectionSpec ──load──> maps: given ones, pinned ones of the right shape, new ones ──> programs ──> entries
                             anything fails: all of it is undone, descriptors and pins

A collection's objects may be used from several threads, as each by itself. After fork(2) both processes have them:
links end when both have closed theirs.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from pybpfasm import btf
from pybpfasm.errors import BpfError, KernelError
from pybpfasm.kernel.maps import Map, ShapeError
from pybpfasm.kernel.programs import Program
from pybpfasm.records import evolve
from pybpfasm.spec import CollectionSpec, MapSpec, ProgramSpec
from pybpfasm.uapi import MapType, ProgramType

if TYPE_CHECKING:
    from pathlib import Path

    from pybpfasm.kernel.links.base import Attachment

_OF_MAPS = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
_KEY_BYTES = 4


class Collection:
    """Programs and maps in the kernel, by name; owns the descriptors of those that it made or opened.

    `maps` and `programs` are for reading; `links` are the attachments made by `attach` and `attach_all`, by program.
    Closing it ends the links, too; what is pinned stays.
    """

    def __init__(
        self, spec: CollectionSpec, maps: Mapping[str, Map], programs: Mapping[str, Program], owned: ExitStack
    ) -> None:
        self.spec = spec
        self.maps: Mapping[str, Map] = MappingProxyType(dict(maps))
        self.programs: Mapping[str, Program] = MappingProxyType(dict(programs))
        self._links: dict[str, Attachment] = {}
        self.links: Mapping[str, Attachment] = MappingProxyType(self._links)
        self._owned = owned

    @classmethod
    def load(
        cls,
        spec: CollectionSpec,
        *,
        replace: Mapping[str, Map] | None = None,
        pins: Path | None = None,
        constants: Mapping[str, Any] | None = None,
        programs: Iterable[str] | None = None,
        targets: Mapping[str, Program] | None = None,
        log_level: int = 0,
    ) -> Self:
        """Create the maps, load the programs with them, and fill in the entries that the spec asks for.

        `replace` has maps to use instead of those of the spec, which must be of their shape; they remain the caller's.
        A map whose spec is `pinned` is the one pinned by its name in the folder `pins`, if there is one of its shape:
        its entries stay; else it is made, and pinned there. `constants` sets variables of `.rodata` by name, and with
        them what of the programs is left. `programs` names those to load: all, unless given, but for those whose
        section begins with `?`. `targets` has, by name, the programs that those of type ext replace a function of, and
        `log_level` is `Program.load`'s.

        Arrays of programs get the programs that were loaded here, also those that were pinned or given; maps of maps
        are filled when they are made here. A struct_ops map is made when it is attached.

        Raises `ShapeError` for a pinned or given map of another shape; `BpfError` for names that are not in the
        collection, a pinned map without `pins`, a program of unknown type; and what `Map.create` and `Program.load`
        raise. Then everything made here is gone again, pins included.
        """
        chosen = _chosen(spec, programs)
        with ExitStack() as undo:
            # What is closed at the collection's end, apart from what is undone only now.
            owned = ExitStack()
            undo.callback(owned.close)
            makers = _Maps(_with_constants(spec, constants or {}), replace or {}, pins, undo, owned)
            maps = makers.make()
            loaded: dict[str, Program] = {}
            for name, program in chosen.items():
                target = (targets or {}).get(name)
                loaded[name] = owned.enter_context(Program.load(program, maps, target=target, log_level=log_level))
            _fill_program_arrays(spec, maps, loaded)
            undo.pop_all()
            return cls(spec, maps, loaded, owned)

    def attach(self, name: str, attachment: Attachment | None = None, **targets: Any) -> Attachment:
        """Attach a program by what its section says, or keep an `attachment` of it that was made otherwise.

        `targets` are those of `attach_all`. The collection owns the attachment; the last one made for a name is in
        `links`. Raises as `attach_all`.
        """
        program = self._program(name)
        if attachment is None:
            from pybpfasm.kernel.attaching import Targets, way_to_attach

            attachment = way_to_attach(program.spec, Targets(**targets))(program)
        self._owned.enter_context(attachment)
        self._links[name] = attachment
        return attachment

    def attach_all(
        self,
        *,
        cgroup: int | Path | None = None,
        interface: int | str | None = None,
        netns: int | Path | None = None,
        sockets: Map | None = None,
    ) -> Mapping[str, Attachment]:
        """Attach each program to where its section or its author says, and register struct_ops; all or none.

        Programs for cgroups go to `cgroup`, for interfaces (XDP, tcx or tc, netkit) to `interface`, for sockets in maps
        to `sockets`, for network namespaces to `netns` or the thread's own. Programs that are called by others (those
        in arrays of programs, say) or by user space are left out.

        Raises `BpfError` for a program whose place cannot be told, before anything is attached; and what the functions
        of `pybpfasm.kernel.links` raise. Then what was attached here is detached again.
        """
        from pybpfasm.kernel.attaching import Targets, is_attached, way_to_attach

        targets = Targets(cgroup, interface, netns, sockets)
        called = _called_programs(self.spec)
        ways = {
            name: way_to_attach(program.spec, targets)
            for name, program in self.programs.items()
            if name not in called and is_attached(program.spec)
        }
        with ExitStack() as undo:
            made: dict[str, Attachment] = {}
            for name, attach in ways.items():
                made[name] = undo.enter_context(attach(self.programs[name]))
            for name, table in _struct_ops(self.spec).items():
                made[name] = undo.enter_context(_register(table, self.programs))
            self._owned.push(undo.pop_all())
        self._links.update(made)
        return MappingProxyType(made)

    def close(self) -> None:
        """End the links, close programs and maps but for those that were given; closing twice does nothing."""
        self._links.clear()
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_owned"):
            self.close()

    def _program(self, name: str) -> Program:
        if name not in self.programs:
            raise BpfError(f"the collection has no program {name!r}; its programs: {_listed(self.programs)}")
        return self.programs[name]


# --- maps -------------------------------------------------------------------------------------------------------------


class _Maps:
    """Makes a collection's maps, each once; those that others are filled with, or are shaped like, before these."""

    def __init__(
        self,
        specs: Mapping[str, MapSpec],
        given: Mapping[str, Map],
        pins: Path | None,
        undo: ExitStack,
        owned: ExitStack,
    ) -> None:
        for name in given:
            if name not in specs:
                raise BpfError(f"the collection has no map {name!r} to replace; its maps: {_listed(specs)}")
        self._specs, self._given, self._pins = specs, given, pins
        self._undo, self._owned = undo, owned
        self._made: set[str] = set()

    def make(self) -> dict[str, Map]:
        """All maps by name, with their entries but for those of program arrays."""
        # Registered by `attach_all`, with the programs in it.
        specs = {name: spec for name, spec in self._specs.items() if spec.type != MapType.STRUCT_OPS}
        maps = {name: self._map(name, spec) for name, spec in specs.items()}
        for name, spec in specs.items():
            if spec.type in _OF_MAPS and name in self._made:
                for key, inner in spec.entries:
                    if inner not in maps:
                        raise BpfError(f"map {name} is to hold map {inner}, which is not in the collection")
                    maps[name].update(key.to_bytes(_KEY_BYTES, "little"), maps[inner].fd.to_bytes(4, "little"))
        return maps

    def _map(self, name: str, spec: MapSpec) -> Map:
        if name in self._given:
            from pybpfasm.kernel.maps.describe import differences

            found = differences(self._given[name].fd, spec)
            if found:
                raise ShapeError(f"the map given for {name} is another than wanted: {', '.join(found)}")
            return self._given[name]
        if spec.pinned:
            return self._owned.enter_context(self._pinned(name, spec))
        return self._owned.enter_context(self._new(name, spec))

    def _new(self, name: str, spec: MapSpec) -> Map:
        self._made.add(name)
        return Map.create(spec)

    def _pinned(self, name: str, spec: MapSpec) -> Map:
        if self._pins is None:
            raise BpfError(f"map {name} asks to be pinned by its name: name a folder, pins=Path('/sys/fs/bpf')")
        path = self._pins / name
        if path.exists():
            return Map.open(path, spec)
        made = self._new(name, spec)
        try:
            made.pin(path)
        except KernelError as error:
            made.close()
            if error.errno != errno.EEXIST:
                raise
            # Another process was quicker; its map is the one.
            self._made.discard(name)
            return Map.open(path, spec)
        except BaseException:
            made.close()
            raise
        self._undo.callback(path.unlink, missing_ok=True)
        return made


# --- programs ---------------------------------------------------------------------------------------------------------


def _chosen(spec: CollectionSpec, names: Iterable[str] | None) -> dict[str, ProgramSpec]:
    """The programs to load; those of struct_ops know which function of which table they are."""
    if names is None:
        wanted = [name for name, program in spec.programs.items() if not program.section.startswith("?")]
    else:
        wanted = list(names)
    for name in wanted:
        if name not in spec.programs:
            raise BpfError(f"the collection has no program {name!r}; its programs: {_listed(spec.programs)}")
        if spec.programs[name].type == ProgramType.UNSPEC:
            section = spec.programs[name].section
            raise BpfError(f"cannot load program {name}: section {section!r} does not say of what type it is")
    chosen = {name: spec.programs[name] for name in wanted}
    for table in _struct_ops(spec).values():
        for member, name in _functions(table).items():
            if name in chosen:
                chosen[name] = evolve(chosen[name], attach_to=f"{_struct(table).name}.{member}")
    return chosen


def _fill_program_arrays(spec: CollectionSpec, maps: Mapping[str, Map], programs: Mapping[str, Program]) -> None:
    for name, each in spec.maps.items():
        if each.type == MapType.PROG_ARRAY:
            for key, program in each.entries:
                if program in programs:
                    value = programs[program].fd.to_bytes(4, "little")
                    maps[name].update(key.to_bytes(_KEY_BYTES, "little"), value)


def _called_programs(spec: CollectionSpec) -> set[str]:
    """The programs that others call through arrays."""
    arrays = [each for each in spec.maps.values() if each.type == MapType.PROG_ARRAY]
    return {name for each in arrays for _, name in each.entries}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


# --- struct_ops -------------------------------------------------------------------------------------------------------


def _struct_ops(spec: CollectionSpec) -> dict[str, MapSpec]:
    return {name: each for name, each in spec.maps.items() if each.type == MapType.STRUCT_OPS}


def _struct(table: MapSpec) -> btf.Struct:
    """The table's struct, as the object has it."""
    if not isinstance(table.value, btf.Struct):
        raise BpfError(f"struct_ops map {table.name} needs the type of its value: compile with `-g`")
    return table.value


def _functions(table: MapSpec) -> dict[str, str]:
    """The programs of the table's functions, by member."""
    names = {member.offset: member.name for member in _struct(table).members}
    return {names[offset]: program for offset, program in table.entries}


def _values(table: MapSpec) -> Iterator[tuple[str, bytes]]:
    """What the table's other members hold, but for zeros."""
    contents = table.contents or b""
    for member in _struct(table).members:
        data = contents[member.offset : member.offset + member.type.size]
        if any(data):
            yield member.name, data


def _register(table: MapSpec, programs: Mapping[str, Program]) -> Attachment:
    from pybpfasm.kernel.links.struct_ops import attach_struct_ops

    functions = {member: programs[name] for member, name in _functions(table).items() if name in programs}
    values = {name: _value(table, name, data) for name, data in _values(table) if name not in functions}
    return attach_struct_ops(_struct(table).name, functions, values)


def _value(table: MapSpec, name: str, data: bytes) -> int | bytes:
    member = next(each for each in _struct(table).members if each.name == name)
    return data if isinstance(member.type, btf.Array) else int.from_bytes(data, "little")


def _with_constants(spec: CollectionSpec, constants: Mapping[str, Any]) -> dict[str, MapSpec]:
    if not constants:
        return dict(spec.maps)
    from pybpfasm.kernel.constants import with_constants

    return with_constants(spec, constants)
