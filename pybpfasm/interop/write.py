"""From programs and maps to an object that libbpf, bpftool and LLVM's tools read.

Each program is a global function of the section that its kind has; the functions that it calls are static ones of
`.text`, where libbpf looks for them, each once however many programs have it.
"""

from collections.abc import Mapping

import attrs

from pybpfasm.interop.container import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, STB_GLOBAL, STB_LOCAL, STT_FUNC
from pybpfasm.interop.error import ElfError
from pybpfasm.interop.functions import SLOT_BYTES
from pybpfasm.interop.image import Image, SectionImage, SymbolImage
from pybpfasm.interop.sections import SectionKind, section_name
from pybpfasm.interop.split import Identity, Piece, identities, split
from pybpfasm.interop.write_debug import DebugTables
from pybpfasm.interop.write_maps import MapsToWrite, all_maps, value_maps
from pybpfasm.interop.write_references import References
from pybpfasm.interop.write_types import TypesToWrite
from pybpfasm.isa import ByteOrder, EncodingError, encode
from pybpfasm.spec import CollectionSpec, ProgramSpec
from pybpfasm.uapi import ProgramType

_SUBPROGRAMS = ".text"
_OF_NO_KIND = "prog"
_CODE_FLAGS = SHF_ALLOC | SHF_EXECINSTR


def write_elf(collection: CollectionSpec | ProgramSpec, byteorder: ByteOrder = "little") -> bytes:
    """An object with these programs and maps, for machines of this byte order; equal specs give equal bytes.

    `read_elf` gives back the same programs, their functions in libbpf's order. Contents of maps of variables are
    written as they are: their numbers have to be in that byte order. A map of variables that is not called `.data`,
    `.rodata` or `.bss` (or so with a dot behind) gets such a name.

    Raises `ElfError` naming the program or map that an object cannot hold, `BtfError` for types that make no sense.
    """
    if isinstance(collection, ProgramSpec):
        collection = CollectionSpec({collection.name: collection}, collection.maps)
    return _Writer(collection, byteorder).encode()


@attrs.frozen
class _Placed:
    """A function in the object: its section, and where it is there, in bytes."""

    section: SectionImage
    offset: int


class _Writer:
    """Writes one object."""

    def __init__(self, collection: CollectionSpec, byteorder: ByteOrder) -> None:
        self._programs = collection.programs
        self._image = Image(byteorder)
        self._types = TypesToWrite(collection.programs.values())
        maps = all_maps(collection)
        self._maps = MapsToWrite(self._image, self._types.builder, maps, value_maps(collection))
        self._references = References(self._image, self._types, self._maps)
        self._debug = DebugTables(self._types.builder)
        self._subprograms: dict[Identity, _Placed] = {}

    def encode(self) -> bytes:
        """The file."""
        symbols = {name: self._program(program) for name, program in self._programs.items()}
        self._maps.fill(symbols)
        self._license()
        self._references.declare_externs()
        byteorder = self._image.byteorder
        ext = self._debug.ext()
        self._image.section(".BTF").append(self._types.builder.encode(byteorder))
        if ext is not None:
            self._image.section(".BTF.ext").append(ext.encode(byteorder))
        return self._image.encode()

    def _program(self, program: ProgramSpec) -> SymbolImage:
        if not program.instructions:
            raise ElfError(f"program {program.name!r} has no instructions")
        pieces = split(program)
        section = self._image.section(self._section_name(program, len(pieces) > 1), _CODE_FLAGS)
        placed = {pieces[0].start: _reserve(section, pieces[0])}
        added = [pieces[0]]
        for piece, identity in zip(pieces[1:], identities(program, pieces)[1:], strict=True):
            if identity not in self._subprograms:
                self._subprograms[identity] = _reserve(self._image.section(_SUBPROGRAMS, _CODE_FLAGS), piece)
                added.append(piece)
            placed[piece.start] = self._subprograms[identity]
        symbols = [self._function(program, piece, placed) for piece in added]
        return symbols[0]

    def _function(self, program: ProgramSpec, piece: Piece, placed: Mapping[int, _Placed]) -> SymbolImage:
        """Write a function at the place that it has got; its symbol."""
        place = placed[piece.start]
        at = place.offset
        instructions = []
        for index, instruction in enumerate(piece.instructions):
            target = placed[piece.references[index]] if index in piece.references else None
            if target is not None:
                instruction = self._references.to_function(
                    instruction, place.section, at, target.section, target.offset
                )
            else:
                instruction = self._references.to_other(program, instruction, place.section, at)
            instructions.append(instruction)
            at += instruction.slots * SLOT_BYTES
        try:
            data = encode(instructions, self._image.byteorder)
        except EncodingError as error:
            raise ElfError(f"function {piece.name!r} of program {program.name!r}: {error}") from None
        place.section.data[place.offset : at] = data
        type_id = self._types.function(program, piece.start, piece.name)
        self._debug.add(place.section.name, place.offset, type_id, piece.lines)
        binding = STB_GLOBAL if piece.start == 0 else STB_LOCAL
        symbol = SymbolImage(piece.name, place.section, STT_FUNC, binding, place.offset, at - place.offset)
        return self._image.symbol(symbol)

    def _section_name(self, program: ProgramSpec, has_subprograms: bool) -> str:
        """The section that the program names, or that its kind has."""
        kind = SectionKind(program.type, program.attach_type, program.flags, program.attach_to)
        name = program.section or section_name(kind)
        if name is None and program.type == ProgramType.UNSPEC:
            name = _OF_NO_KIND
        if name is None:
            raise ElfError(
                f"program {program.name!r}: no section name means type {program.type.name} with attach type"
                f" {program.attach_type.name}, flags {program.flags:#x} and attach_to {program.attach_to!r}:"
                " set `section`"
            )
        # With other sections beside it, what is in .text counts as parts of programs.
        alone = not has_subprograms and all(each.section == _SUBPROGRAMS for each in self._programs.values())
        return name if name != _SUBPROGRAMS or alone else _OF_NO_KIND

    def _license(self) -> None:
        licenses = sorted({program.license for program in self._programs.values()})
        if len(licenses) > 1:
            raise ElfError(f"programs have licences {', '.join(map(repr, licenses))}: an object has one")
        for license_ in licenses:
            section = self._image.section("license", SHF_ALLOC | SHF_WRITE)
            section.append(license_.encode(errors="surrogateescape") + b"\0")


def _reserve(section: SectionImage, piece: Piece) -> _Placed:
    """A place for a function, which is filled later: functions refer to each other."""
    return _Placed(section, section.append(bytes(sum(each.slots for each in piece.instructions) * SLOT_BYTES)))
