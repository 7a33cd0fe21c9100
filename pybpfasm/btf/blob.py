"""A blob of BTF to ask questions of. Nothing is decoded before it is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from pybpfasm.btf import kinds
from pybpfasm.btf.by_value import value_type
from pybpfasm.btf.error import BtfError, NotFoundError
from pybpfasm.btf.fields import Field, find_field
from pybpfasm.btf.header import ByteOrder, encode_header, parse_header
from pybpfasm.btf.kinds import Kind, Record
from pybpfasm.btf.section import TypeSection
from pybpfasm.btf.sizes import alignment_of, size_of, strip
from pybpfasm.btf.types import Type
from pybpfasm.btf.words import decode

# Up to this many places of one text are looked up one by one, more in a single pass over all types.
_FEW = 8


class Btf:
    """The types of a kernel, a module or an ELF object.

    Ids count from 1, void is 0; a split blob goes on where its base ends. What is wrong with the data shows where it
    is used: any method may raise `BtfError`.
    """

    def __init__(self, section: TypeSection, base: Btf | None, pointer_size: int) -> None:
        self._section = section
        self._alignments: dict[int, int] = {}
        self.base = base
        self.pointer_size = pointer_size

    @classmethod
    def parse(cls, data: bytes, base: Btf | None = None, *, pointer_size: int = 8) -> Btf:
        """Read a blob, of either byte order; `base` holds the types that it continues (a module's: the kernel's).

        `pointer_size`, in bytes, is the machine's: BTF does not tell, and a base has told. Raises `BtfError` if the
        header is none; the types are not looked at yet.
        """
        if pointer_size not in (4, 8):
            raise BtfError(f"pointers of {pointer_size} bytes: 4 and 8 are possible")
        held = bytes(data)
        section = TypeSection(held, parse_header(held), base._section if base is not None else None)
        return cls(section, base, base.pointer_size if base is not None else pointer_size)

    @property
    def byteorder(self) -> ByteOrder:
        """The blob's byte order."""
        return self._section.header.byteorder

    @property
    def first_id(self) -> int:
        """The first id of this blob: 1, or with a base the one after its last."""
        return self._section.first_id

    def encode(self, byteorder: ByteOrder | None = None) -> bytes:
        """The blob: the very bytes that were parsed, or, for the other byte order, the same types in that one."""
        header, data = self._section.header, self._section.data
        if byteorder is None or byteorder == header.byteorder:
            return data
        types = _swapped(data[header.types.start : header.types.stop], "I")
        layout = bytearray(data[header.layout.start : header.layout.stop])
        layout[2::4], layout[3::4] = layout[3::4], layout[2::4]
        strings = data[header.strings.start : header.strings.stop]
        return encode_header(byteorder, len(types), len(strings), len(layout)) + types + strings + layout

    def __len__(self) -> int:
        """How many types this blob has, without void and the base's."""
        return self._section.count

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Each type of this blob: its id and its record, in the order of ids."""
        for type_id, start in enumerate(self._section.starts(), self.first_id):
            yield type_id, decode(self._section, start)

    def type(self, type_id: int) -> Record:
        """The record of an id, the base's included; `Void` for 0."""
        if type_id == 0:
            return kinds.Void()
        section = self._holder(type_id)
        return decode(section, section.record_start(type_id))

    def kind(self, type_id: int) -> Kind | None:
        """The kind of an id's record; None if it is newer than this library."""
        if type_id == 0:
            return Kind.VOID
        section = self._holder(type_id)
        number = section.words[section.record_start(type_id) + 1] >> 24 & 0x7F
        return Kind(number) if number <= max(Kind) else None

    def name(self, type_id: int) -> str:
        """The name of an id's record; empty if it has none."""
        if type_id == 0:
            return ""
        section = self._holder(type_id)
        return section.name_at(section.record_start(type_id))

    def string(self, offset: int) -> str:
        """The string at an offset of the string section: what line_info and relocations refer to."""
        return self._section.string(offset)

    def find(self, name: str, *wanted: Kind) -> int:
        """The lowest id of that name, among the given kinds if any are. Raises `NotFoundError`."""
        for offsets in self._string_offsets(name):
            found = [next(self._ids(places, wanted), None) for places in offsets]
            ids = [each for each in found if each is not None]
            if ids:
                return min(ids)
        kind_names = " or ".join(kind.name for kind in wanted) or "type"
        raise NotFoundError(f"there is no {kind_names} {name!r}")

    def find_all(self, name: str, *wanted: Kind) -> list[int]:
        """All ids of that name, among the given kinds if any are, in order; empty if there are none."""
        places = [place for offsets in self._string_offsets(name) for place in offsets]
        return sorted({each for place in places for each in self._ids(place, wanted)})

    def size_of(self, type_id: int) -> int:
        """The size of a type in bytes. Raises `BtfError` for what has none: void, functions, what is only declared."""
        return size_of(self, type_id)

    def alignment_of(self, type_id: int) -> int:
        """The alignment of a type in bytes, 1 for a packed struct; raises `BtfError` where there is none.

        BTF does not tell it: it follows from the kinds, and is less than the truth for a type with `aligned(n)`.
        """
        return alignment_of(self, type_id, self._alignments)

    def strip(self, type_id: int) -> int:
        """The id behind typedefs, const, volatile, restrict and type tags."""
        return strip(self, type_id)

    def field(self, path: str, within: int | None = None) -> Field:
        """Where a field lies: `"task_struct.mm"`, `"sk_buff.cb[3]"`, through anonymous members and nested structs.

        The first name is that of a struct, union or typedef; with `within`, the id of a type, the path starts there.
        Raises `NotFoundError` if there is none.
        """
        return find_field(self, path, within)

    def value_type(self, type_id: int) -> Type:
        """The type as a tree of `pybpfasm.btf.types`: what lies in memory, without qualifiers and tags.

        Structs and unions behind pointers are told by their names only (`Forward`).
        """
        return value_type(self, type_id)

    def dump_c(self, type_ids: Iterable[int] | None = None) -> str:
        """C declarations of these types, or of all in this blob, and of what they need, in an order that compiles."""
        from pybpfasm.btf.dump import dump_c  # read only where it is used: looking a field up has to be quick

        return dump_c(self, range(self.first_id, self.first_id + len(self)) if type_ids is None else type_ids)

    def __repr__(self) -> str:
        return f"<BTF of {len(self._section.data)} bytes{', split' if self.base is not None else ''}>"

    def _holder(self, type_id: int) -> TypeSection:
        """The section, of this blob or of one it continues, that has an id."""
        section = self._section
        while section.base is not None and type_id < section.first_id:
            section = section.base
        return section

    def _string_offsets(self, name: str) -> Iterator[list[list[int]]]:
        """Where a name's text stands: whole strings first, then ends of longer ones too, which a writer may share.

        Either is a list of groups, each to be looked up at one time.
        """
        text = name.encode(errors="surrogateescape")
        if not text or 0 in text:
            return
        for whole in (True, False):
            offsets = self._section.string_offsets(text, whole=whole)
            yield [[offset] for offset in offsets] if len(offsets) <= _FEW else [offsets]

    def _ids(self, offsets: list[int], wanted: tuple[Kind, ...]) -> Iterator[int]:
        """The ids of the types whose names stand at these offsets: the base's first."""
        if self.base is not None:
            yield from self.base._ids(offsets, wanted)
        if len(offsets) == 1:
            yield from self._section.ids_named(offsets[0], wanted)
        else:
            yield from self._section.ids_named_any(offsets, wanted)


def _swapped(data: bytes, typecode: str) -> bytes:
    words = array(typecode, data)
    words.byteswap()
    return words.tobytes()
